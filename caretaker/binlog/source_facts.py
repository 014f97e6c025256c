"""What a source said of itself: its settings, how far it is, what it still has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caretaker.binlog.model import Checkpoint, Flavor, Mode, Position


@dataclass(frozen=True, slots=True)
class LogFile:
    """A binlog that the source has."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Replica:
    """Somebody who follows the same source.

    Attributes:
        uuid: Empty where he gave none, and always on MariaDB.
        host: As he said when he registered.
    """

    server_id: int
    uuid: str
    host: str


@dataclass(frozen=True, slots=True)
class Follower:
    """Who we are to a source that we follow.

    Attributes:
        server_id: 1 to 2**32 - 1. A server ends a dump when another with the same number begins.
        uuid: The same for MySQL; it tells our own, left over by a kill -9, from somebody else's.
        name: What the source shows as the host of the replica.
    """

    server_id: int
    uuid: str
    name: str


@dataclass(frozen=True, slots=True)
class Progression:
    """How far a source is, and what it has.

    Attributes:
        server_uuid: MariaDB has none that lasts: `mariadb-` and its server_id there.
        mode: How it would be read now: by GTID, or by file where it has no GTIDs.
        gtid_executed: All that it ever committed; on MariaDB `gtid_binlog_pos`. None in file mode.
        gtid_purged: What its binlogs do not have any more; on MariaDB the position where the
            oldest begins. None in file mode.
        gtid_state: MariaDB: the last of each domain *and server*, `gtid_binlog_state`.
        logs: Its binlogs, oldest first.
        position: The end of the newest.
    """

    flavor: Flavor
    server_uuid: str
    mode: Mode
    gtid_executed: str | None
    gtid_purged: str | None
    gtid_state: str | None
    logs: tuple[LogFile, ...]
    position: Position

    def current(self, seq: int = 0) -> Checkpoint:
        """From here on: nothing of what was."""
        return Checkpoint(self.gtid_executed, self.position, seq)

    def earliest(self, seq: int = 0) -> Checkpoint:
        """From the first transaction that it still has."""
        first = self.logs[0].name if self.logs else self.position.file
        return Checkpoint(self.gtid_purged, Position(first, FIRST_EVENT), seq)


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Everything that decides whether a source can be followed.

    Attributes:
        version: As the server spells it.
        user: Who we are there.
        settings: Server variables by lower-case name, as text; one that it lacks is not there.
        denied: Privileges that were tried and refused, such as `REPLICATION SLAVE`.
        progression: None without a binlog, or without the privilege to ask.
        replicas: None where we may not ask.
        cascades: `db.table`s whose rows go, or change, by a foreign key without being logged.
        columns_hidden: The user sees no table of anybody's.
    """

    flavor: Flavor
    version: str
    server_uuid: str
    server_id: int
    user: str
    settings: Mapping[str, str]
    progression: Progression | None
    denied: frozenset[str] = frozenset()
    replicas: Sequence[Replica] | None = None
    cascades: tuple[str, ...] = ()
    columns_hidden: bool = False

    @property
    def mode(self) -> Mode | None:
        """How it would be read; None where it cannot be."""
        return self.progression.mode if self.progression else None

    @property
    def gtid_executed(self) -> str | None:
        """See `Progression`."""
        return self.progression.gtid_executed if self.progression else None

    @property
    def gtid_purged(self) -> str | None:
        """See `Progression`."""
        return self.progression.gtid_purged if self.progression else None

    @property
    def position(self) -> Position | None:
        """See `Progression`."""
        return self.progression.position if self.progression else None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a source that keeps the trail from being whole.

    Attributes:
        setting: A server variable, a privilege, or what else it is about.
        found: What it is, and `needed` what it has to be.
        remedy: The statement that changes it; empty where none does.
        blocking: The sync must not begin; otherwise it may, and somebody should know.
    """

    setting: str
    found: str
    needed: str
    remedy: str = ""
    blocking: bool = True

    def __str__(self) -> str:
        fix = f": {self.remedy}" if self.remedy else ""
        return f"{self.setting} is {self.found}, needed is {self.needed}{fix}"


@dataclass(frozen=True, slots=True)
class Failover:
    """Another server goes on where the one before it was left: for a topology document.

    Attributes:
        before: Its server_uuid, and `after` that of the one which goes on.
        gtid: Where the trail is.
        position: The end of the newest binlog of the one which goes on.
    """

    before: str
    after: str
    gtid: str | None
    position: Position

    def moved(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint for the server that goes on: a place in the files of the other is none.

        To be saved with the topology document: with the old place beside the new server_uuid, the
        next start would find a server that had forgotten its binlogs.
        """
        return replace(checkpoint, position=Position("", 0), begun_s=None)


#: Where the first event of every binlog is.
FIRST_EVENT = 4
