"""A source that forgets binlogs that a trail still needs, and what the sync says of it."""

from __future__ import annotations

import re
import shlex

import pytest

from caretaker.errors import LostPositionError
from tests.binlog_sync.bench import wait_until

#: Server variables of a MySQL that is followed by file and position.
BY_FILE = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}


def purge(server):
    """Ask again: a server keeps a binlog for as long as it thinks that somebody reads it."""

    def gone():
        newest = server.ask("SHOW BINARY LOGS")[-1][0]
        server.run(f"PURGE BINARY LOGS TO '{newest}'")
        return len(server.ask("SHOW BINARY LOGS")) == 1

    server.run("FLUSH BINARY LOGS")
    wait_until(gone, "the old binlogs to be gone")


def to_accept(said):
    """Return what a hint says to accept."""
    found = re.search(r"accept-gap --lost (\S+|'[^']*')", said)
    assert found is not None, said
    (lost,) = shlex.split(found[1])
    return lost


def hinted(bench, **options):
    """Return what the error's hint says to accept."""
    with pytest.raises(LostPositionError) as error:
        bench.sync(**options)
    return to_accept(error.value.hint)
