"""A transaction by the name that documents have of it."""

from __future__ import annotations

import uuid

from caretaker.binlog.model import MysqlGtid
from caretaker.errors import CaseError


def mysql_gtid(text: str) -> MysqlGtid:
    """Return `uuid:5` or `uuid:tag:5` as what it names.

    >>> mysql_gtid("3e11fa47-71ca-11e1-9e33-c80aa9429562:foo:5").gno
    5
    """
    parts = text.split(":")
    try:
        server, number = uuid.UUID(parts[0]).bytes, int(parts[-1])
    except ValueError:
        raise CaseError(f"{text!r} is no GTID", target=text) from None
    if len(parts) not in (2, 3):
        raise CaseError(f"{text!r} is no GTID", target=text)
    return MysqlGtid(server, parts[1] if len(parts) == 3 else "", number)  # noqa: PLR2004
