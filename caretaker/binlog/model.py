"""What the parts of the wing say to each other: positions, rows with their context, commit points.

Positions are byte offsets in 64 bits, times are seconds or microseconds since the epoch as the
server wrote them, a GTID is its canonical text: `uuid:5` or `uuid:tag:5` of MySQL, `0-1-5` of
MariaDB. Where a source has no GTIDs a transaction is named by where it starts: `binlog.000003:157`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol, TypeAlias


class Flavor(StrEnum):
    """Whose binlog it is; the two share the rows events and little else."""

    MYSQL = "mysql"
    MARIADB = "mariadb"


class Mode(StrEnum):
    """What names the place where a dump begins."""

    GTID = "gtid"
    FILE = "file"


class MysqlGtid(NamedTuple):
    """A transaction of MySQL; `tag` is "" for most."""

    uuid: bytes
    tag: str
    gno: int


class MariadbGtid(NamedTuple):
    """A transaction of MariaDB."""

    domain: int
    server: int
    seq: int


Gtid: TypeAlias = MysqlGtid | MariadbGtid


class EventType(IntEnum):
    """The event types with a meaning to us; the numbers are the protocol's."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    APPEND_BLOCK = 9
    DELETE_FILE = 11
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    ANNOTATE_ROWS = 160
    BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    MARIADB_GTID_LIST = 163
    START_ENCRYPTION = 164
    QUERY_COMPRESSED = 165
    WRITE_ROWS_COMPRESSED_V1 = 166
    UPDATE_ROWS_COMPRESSED_V1 = 167
    DELETE_ROWS_COMPRESSED_V1 = 168
    WRITE_ROWS_COMPRESSED = 169
    UPDATE_ROWS_COMPRESSED = 170
    DELETE_ROWS_COMPRESSED = 171


class Position(NamedTuple):
    """A place between two events of a file."""

    file: str
    pos: int

    def __str__(self) -> str:
        return f"{self.file}:{self.pos}"


SOURCE_ID_BYTES = 4


def source_id(name: str) -> bytes:
    """Return what the ids of a source's documents begin with, whatever its incarnation."""
    return hashlib.sha256(name.encode()).digest()[:SOURCE_ID_BYTES]


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What makes the ids of one source's documents differ from every other's.

    Attributes:
        source_id: 4 bytes, the same as long as the source is the same.
        incarnation: 0 to 255; raised by an operator after RESET BINARY LOGS AND GTIDS, which uses
            transaction numbers a second time.
    """

    source_id: bytes
    incarnation: int = 0

    def __post_init__(self) -> None:
        if len(self.source_id) != 4:  # noqa: PLR2004
            raise ValueError(f"source_id has {len(self.source_id)} bytes, not 4")

    @property
    def prefix(self) -> bytes:
        """The first 5 bytes of every `_id`."""
        return self.source_id + bytes((self.incarnation,))


@dataclass(slots=True)
class RowContext:
    """Where the rows of a rows event come from; an object an event, a `next_row` a transaction.

    Attributes:
        timestamp_s: The event header's time.
        server_id: The server where the change was made.
        file: The file, and `pos` its 64-bit end of the event, as `end_log_pos` of mysqlbinlog; rows
            out of a compressed transaction carry the end of the payload that holds them.
        gtid: Of the transaction that made the rows count: for XA that is the XA COMMIT.
        commit_us: When it was committed on its first server; None where the source does not say.
        id_prefix: The document id up to the table: ids of one server sort in commit order.
        next_row: Per table the number of its next row within the transaction, counted from 0 and
            written back by the encoder; the key is the encoder's choice.
        seq: Of the next document; the caller sets it (`Batcher.next_seq`) just before encoding.
    """

    timestamp_s: int
    server_id: int
    file: str
    pos: int
    gtid: str | None
    commit_us: int | None
    id_prefix: bytes
    next_row: dict[object, int]
    seq: int = 0


class TableVersion(Protocol):
    """A parsed table map; equal bodies give the same object."""

    @property
    def schema(self) -> str: ...
    @property
    def name(self) -> str: ...


class Tables(Protocol):
    """What the stream needs of the cache of table maps."""

    def add(self, body: bytes) -> TableVersion:
        """Make the table known under its id; bodies equal after the id give the same object."""
        ...

    def get(self, table_id: int) -> TableVersion:
        """Return the table of an id; `CorruptEventError` for one that no table map introduced."""
        ...


@dataclass(slots=True)
class Rows:
    """A rows event of a transaction that counts: encode it with its table."""

    transaction: str
    event_type: int
    body: bytes
    table: TableVersion
    context: RowContext


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    """The next rows come from another version of their table: flush, then go on.

    `known` is False for the first sight of a table, which needs no flush.
    """

    table: TableVersion
    known: bool


@dataclass(frozen=True, slots=True)
class Ddl:
    """A statement that changes no row by itself, logged as text.

    Attributes:
        transaction: As in `Commit`; CREATE TABLE ... SELECT shares its transaction with rows.
        sql: As logged, decoded by the character set that the event names, passwords masked.
        raw: The same as bytes; their crc is what an in-flight mark compares.
        schema: The default database of the session, "" without one.
        error_code: Not 0 where the statement failed on the source and was logged all the same.
        administrative: ANALYZE, OPTIMIZE, FLUSH and their like: no definition changes.
    """

    transaction: str
    sql: str
    raw: bytes
    schema: str
    error_code: int
    administrative: bool
    context: RowContext


@dataclass(slots=True)
class Commit:
    """A transaction is complete: everything before counts, the checkpoint may pass it.

    Attributes:
        transaction: Its GTID as text, or where it started for a source without GTIDs.
        gtid: None for a source without GTIDs.
        position: Its end.
        releases: The xid that this XA COMMIT or XA ROLLBACK settles, and `released` the GTID of
            its XA PREPARE.
        rolled_back: It holds a ROLLBACK, to a savepoint or of all, and was logged only because it
            changed tables without transactions: their rows happened, those of transactional
            tables did not, and the binlog does not say which is which.
    """

    transaction: str
    gtid: Gtid | None
    position: Position
    timestamp_s: int
    commit_us: int | None
    server_id: int
    releases: str | None = None
    released: Gtid | None = None
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """A transaction sent again on behalf of a held-back XA transaction: it is in the trail."""

    gtid: Gtid | None
    position: Position
    releases: str | None = None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The source died while it wrote this transaction and began a new file: it never was."""

    transaction: str
    position: Position


@dataclass(frozen=True, slots=True)
class Prepared:
    """An XA transaction is prepared: its rows wait for XA COMMIT, its GTID is held back.

    Attributes:
        start: Where the prepared transaction starts, and `position` where it ends.
    """

    xid: str
    transaction: str
    gtid: Gtid | None
    start: Position
    position: Position


@dataclass(frozen=True, slots=True)
class RotateTo:
    """What follows is in another file.

    Attributes:
        begun_s: When the source began that file: no other file of its name has the same.
    """

    position: Position
    begun_s: int | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The source is alive and has nothing past this position."""

    position: Position


@dataclass(frozen=True, slots=True)
class EndOfLog:
    """A dump that does not wait has sent all there was."""


@dataclass(frozen=True, slots=True)
class BeforeTheTrail:
    """An XA COMMIT of rows that were prepared before the trail began: they are not in it."""

    xid: str
    transaction: str
    position: Position


Item: TypeAlias = (
    Rows
    | SchemaChanged
    | Ddl
    | Commit
    | Skipped
    | Abandoned
    | Prepared
    | RotateTo
    | Heartbeat
    | EndOfLog
    | BeforeTheTrail
)


@dataclass(frozen=True, slots=True)
class Inflight:
    """How much of an unfinished transaction is in the trail already.

    Attributes:
        transaction: Its GTID, or where it started.
        rows: Documents of it in the trail, 1 or more.
        crc: crc32 of their raw bytes, one after the other: what the source sends again must be the
            same rows in the same order, however it groups them into events. The crc of row `rows`
            alone would take one of two equal rows for the other.
    """

    transaction: str
    rows: int
    crc: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that is needed to go on without losing or doubling a row.

    Attributes:
        gtid: The set (MySQL) or position (MariaDB) to dump from, canonical text; None for a
            source without GTIDs. XA transactions that are prepared and not settled are not in it,
            so the source sends their rows again after a restart.
        position: Where to dump from without GTIDs, else for information: the end of the last
            complete transaction.
        ahead: Only where a held-back XA transaction cannot be a hole in a set (MariaDB, files):
            how far the trail really is, in the same notation; up to there a resumed stream
            delivers nothing but that XA transaction.
        inflight: None at the end of a transaction.
        seq: Of the last document in the trail, 0 before the first.
        begun_s: When the source began the file of `position`: after RESET BINARY LOGS AND GTIDS
            there is a file of the same name, and this tells the two apart. None where it is not
            known.
    """

    gtid: str | None
    position: Position
    seq: int
    inflight: Inflight | None = None
    ahead: str | None = None
    begun_s: int | None = None
