"""Who we are to the source: a number, a uuid and a name, the same after every restart."""

from __future__ import annotations

import uuid
import zlib

from caretaker.binlog.source_facts import Follower

_NAMESPACE = uuid.UUID("6a3c2f0e-9f0b-5a5e-8a51-0c5b1a0f7d11")
#: People number their servers from 1; the upper half of the numbers is seldom used.
_FROM = 2**31
_MOST_NAME = 60


def follower(name: str, server_id: int | None = None) -> Follower:
    """Return the follower of that name; two that follow one source at a time need two names.

    >>> follower("audit") == follower("audit")
    True
    """
    number = _FROM + zlib.crc32(name.encode()) % (_FROM - 1) if server_id is None else server_id
    return Follower(number, str(uuid.uuid5(_NAMESPACE, name)), f"caretaker-{name}"[:_MOST_NAME])
