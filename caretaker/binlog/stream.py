"""The binlog as a state machine without I/O: payloads in, rows of transactions that count out.

    stream = Stream(source, checkpoint, tables, decompress)
    for payload in packets.feed(received):
        for item in stream.feed(payload):
            ...

What is not understood stops the stream: an event without the ignorable flag, rows that were logged
as a statement, an incident. Nothing is passed over because it was not expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import GeneratorType

from caretaker.binlog import events, frames
from caretaker.binlog.events import Decompress
from caretaker.binlog.frames import Event, Frames, file_order, type_name
from caretaker.binlog.gtid import mariadb_text
from caretaker.binlog.model import (
    Abandoned,
    BeforeTheTrail,
    Checkpoint,
    Commit,
    Ddl,
    EndOfLog,
    EventType,
    Flavor,
    Gtid,
    Heartbeat,
    Item,
    MariadbGtid,
    Mode,
    Position,
    Prepared,
    RotateTo,
    Rows,
    SchemaChanged,
    Skipped,
    SourceIdentity,
    Tables,
    TableVersion,
)
from caretaker.binlog.progress import ahead_position, behind, mode_of
from caretaker.binlog.refusals import gap_hint
from caretaker.binlog.sql_text import decode_sql
from caretaker.binlog.statements import Kind, kind_of, without_secrets, xid_of
from caretaker.binlog.transactions import Naming, Transaction
from caretaker.binlog.xa import XaSpool
from caretaker.errors import CorruptEventError, LostPositionError, RefusedError

_E = EventType
_NOTHING: tuple[Item, ...] = ()

#: How much of a statement an error quotes.
_QUOTED = 200

_ROWS = (
    *(_E.WRITE_ROWS_V1, _E.UPDATE_ROWS_V1, _E.DELETE_ROWS_V1),
    *(_E.WRITE_ROWS, _E.UPDATE_ROWS, _E.DELETE_ROWS, _E.PARTIAL_UPDATE_ROWS),
    *(_E.WRITE_ROWS_COMPRESSED_V1, _E.UPDATE_ROWS_COMPRESSED_V1, _E.DELETE_ROWS_COMPRESSED_V1),
    *(_E.WRITE_ROWS_COMPRESSED, _E.UPDATE_ROWS_COMPRESSED, _E.DELETE_ROWS_COMPRESSED),
)
#: Nothing in them belongs into the trail: bookkeeping of servers, the text of a statement whose
#: rows follow, values for a statement whose Query event decides.
_PASSED_OVER = (
    *(_E.STOP, _E.IGNORABLE, _E.ROWS_QUERY, _E.PREVIOUS_GTIDS, _E.TRANSACTION_CONTEXT),
    *(_E.VIEW_CHANGE, _E.ANNOTATE_ROWS, _E.BINLOG_CHECKPOINT, _E.MARIADB_GTID_LIST),
    *(_E.INTVAR, _E.RAND, _E.USER_VAR),
)
_LOADS = (_E.BEGIN_LOAD_QUERY, _E.EXECUTE_LOAD_QUERY, _E.APPEND_BLOCK, _E.DELETE_FILE)


@dataclass(frozen=True, slots=True)
class Source:
    """What is being read.

    Attributes:
        gap_before: Rows of XA transactions that were prepared before the trail began are not in
            it: an XA COMMIT of one gives `BeforeTheTrail`. Otherwise it is a LostPositionError.
    """

    flavor: Flavor
    identity: SourceIdentity
    gap_before: bool = False


class Stream:
    """One dump, from its first payload on; a new connection needs a new stream.

    Args:
        source: What is being read.
        checkpoint: Where the dump was asked to begin.
        tables: The cache of table maps, of this connection: table ids change with a restart.
        decompress: Inflates zstd, for compressed transactions of MySQL.
        spool: Where rows of XA transactions wait.
    """

    def __init__(
        self,
        source: Source,
        checkpoint: Checkpoint,
        tables: Tables,
        decompress: Decompress,
        spool: XaSpool,
    ) -> None:
        self._source = source
        self._mode = mode_of(checkpoint)
        self._naming = Naming(source.identity)
        self._tables = tables
        self._decompress = decompress
        self._spool = spool
        self._frames = Frames()
        self._entered: Position | None = None
        self._transaction: Transaction | None = None
        self._versions: dict[tuple[str, str], TableVersion] = {}
        self._due = checkpoint.inflight.transaction if checkpoint.inflight else None
        self._behind: dict[int, MariadbGtid] = {}
        self._ahead = (0, 0)
        if self._mode is Mode.FILE:
            self._ahead = file_order(ahead_position(checkpoint))
        elif source.flavor is Flavor.MARIADB:
            self._behind = behind(checkpoint)
        self._readers = {int(kind): reader for kind, reader in self._read_by_type().items()}

    @property
    def position(self) -> Position:
        """The end of the last event."""
        return Position(self._frames.file, self._frames.pos)

    @property
    def server_version(self) -> str:
        """As the format description says; empty before it came."""
        return self._frames.server_version

    def feed(self, payload: bytes) -> Iterable[Item]:
        """Return the items of a payload, to be consumed before the next payload is fed.

        A payload that holds a whole transaction, or settles an XA transaction, gives its items one
        by one: memory is that of one event.

        Raises:
            CorruptEventError: Bytes that are no event, with file, position and reason.
            RefusedError: Something that cannot be audited: the message says what to change.
            LostPositionError: The source does not go on where the trail ends.
            TransientError: The source ended the dump; connect again.
        """
        event = self._frames.open(payload)
        if isinstance(event, EndOfLog):
            return (event,)
        if not event.file and event.type not in _OPENING:
            raise self._frames.corrupt(f"{type_name(event.type)} before the first file")
        return self._read(event)

    def _read(self, event: Event) -> Iterable[Item]:
        reader = self._readers.get(event.type)
        if reader is None:
            if event.flags & frames.IGNORABLE_FLAG:
                return _NOTHING
            raise RefusedError(
                f"{event}: an event that this reader does not know and must not pass over",
                target=event.start,
                hint="a newer release may know it",
            )
        try:
            items = reader(event)
        except CorruptEventError as error:
            raise _placed(error, event) from error
        return _guarded(items, event) if type(items) is GeneratorType else items

    def _read_by_type(self) -> dict[int, Callable[[Event], Iterable[Item]]]:
        return {
            **dict.fromkeys(_ROWS, self._rows),
            **dict.fromkeys(_PASSED_OVER, self._pass_over),
            **dict.fromkeys(_LOADS, self._load),
            _E.TABLE_MAP: self._table_map,
            _E.GTID: self._gtid,
            _E.ANONYMOUS_GTID: self._anonymous_gtid,
            _E.GTID_TAGGED: self._gtid_tagged,
            _E.MARIADB_GTID: self._mariadb_gtid,
            _E.QUERY: self._query,
            _E.QUERY_COMPRESSED: self._query_compressed,
            _E.XID: self._xid,
            _E.XA_PREPARE: self._xa_prepare,
            _E.TRANSACTION_PAYLOAD: self._payload,
            _E.ROTATE: self._rotate,
            _E.FORMAT_DESCRIPTION: self._format_description,
            _E.HEARTBEAT: self._heartbeat,
            _E.HEARTBEAT_V2: self._heartbeat_v2,
            _E.INCIDENT: self._incident,
            _E.START_ENCRYPTION: self._encryption,
        }

    # Where a transaction begins

    def _gtid(self, event: Event) -> Iterable[Item]:
        head = events.parse_gtid(event.body, anonymous=False)
        return self._mysql_head(head, event)

    def _gtid_tagged(self, event: Event) -> Iterable[Item]:
        return self._mysql_head(events.parse_gtid_tagged(event.body), event)

    def _anonymous_gtid(self, event: Event) -> Iterable[Item]:
        if self._mode is Mode.GTID:
            raise RefusedError(
                f"{event.start}: a transaction without a GTID in a stream that goes by GTID",
                target=event.start,
                hint="SET GLOBAL gtid_mode = ON on the source",
            )
        return self._mysql_head(events.parse_gtid(event.body, anonymous=True), event)

    def _mysql_head(self, head: events.GtidHead, event: Event) -> Iterable[Item]:
        if head.gtid is None:
            transaction = self._naming.anonymous(event, head.commit_us)
        else:
            transaction = self._naming.mysql(head.gtid, event, head.commit_us)
        self._begin(transaction, event)
        return _NOTHING

    def _mariadb_gtid(self, event: Event) -> Iterable[Item]:
        head = events.parse_mariadb_gtid(event.body, event.server_id)
        transaction = self._naming.mariadb(head.gtid, event)
        transaction.silent = head.alters_later or head.alter_undone
        self._begin(transaction, event)
        if head.prepares is not None:
            self._wait(transaction, head.prepares)
        elif not head.standalone:
            self._open(transaction)
        return _NOTHING

    def _begin(self, transaction: Transaction, event: Event) -> None:
        if self._transaction is not None:
            raise CorruptEventError(
                f"{transaction.name} begins before the end of {self._transaction.name}"
            )
        gtid = transaction.gtid
        if isinstance(gtid, MariadbGtid) and self._mode is Mode.GTID:
            transaction.skip = self._comes_again(gtid, event)
        elif self._mode is Mode.FILE:
            transaction.skip = file_order(transaction.start) < self._ahead
        self._transaction = transaction

    def _comes_again(self, gtid: MariadbGtid, event: Event) -> bool:
        due = self._behind.get(gtid.domain)
        if due is None:
            return False
        if gtid == due:
            del self._behind[gtid.domain]
        elif gtid.seq >= due.seq:
            raise LostPositionError(
                f"{event.start}: the source is at {mariadb_text(gtid)} and never sent"
                f" {mariadb_text(due)}, which the trail has",
                target=event.start,
            )
        return True

    def _open(self, transaction: Transaction) -> None:
        """A transaction that is no XA PREPARE begins: the first must be the one in flight."""
        transaction.opened = True
        if transaction.skip or self._due is None:
            return
        if transaction.name != self._due:
            raise LostPositionError(
                f"{transaction.start}: the trail ends inside {self._due}, the source goes on with"
                f" {transaction.name}",
                target=transaction.start,
                hint="the source sends its transactions in another order than the one before it",
            )
        self._due = None

    def _wait(self, transaction: Transaction, xid: str) -> None:
        transaction.opened = True
        transaction.xid = xid
        self._spool.begin(xid, transaction.gtid)

    def _current(self, event: Event) -> Transaction:
        """The transaction of an event; sources without GTID events name it by its place."""
        transaction = self._transaction
        if transaction is None:
            if self._mode is Mode.GTID:
                raise CorruptEventError("outside of a transaction")
            transaction = self._naming.anonymous(event, None)
            self._begin(transaction, event)
        return transaction

    def _inside(self) -> Transaction:
        transaction = self._transaction
        if transaction is None or not transaction.opened:
            raise CorruptEventError("outside of a transaction")
        return transaction

    # What is in it

    def _table_map(self, event: Event) -> Iterable[Item]:
        transaction = self._inside()
        if transaction.xid is not None:
            self._spool.put(transaction.xid, event)
            return _NOTHING
        if transaction.skip:
            return _NOTHING
        return self._version(event)

    def _version(self, event: Event) -> Iterable[Item]:
        table = self._tables.add(event.body)
        key = (table.schema, table.name)
        before = self._versions.get(key)
        if before is table:
            return _NOTHING
        self._versions[key] = table
        return (SchemaChanged(table, known=before is not None),)

    def _rows(self, event: Event) -> Iterable[Item]:
        transaction = self._inside()
        if transaction.xid is not None:
            self._spool.put(transaction.xid, event)
            return _NOTHING
        if transaction.skip:
            return _NOTHING
        return self._rows_of(transaction, event)

    def _rows_of(self, transaction: Transaction, event: Event) -> Iterable[Item]:
        if len(event.body) < 8:  # noqa: PLR2004
            raise CorruptEventError(f"a rows event of {len(event.body)} bytes")
        table = self._tables.get(int.from_bytes(event.body[:6], "little"))
        context = transaction.context(event)
        return (Rows(transaction.name, event.type, event.body, table, context),)

    def _payload(self, event: Event) -> Iterable[Item]:
        if self._transaction is None:
            raise CorruptEventError("outside of a transaction")
        return self._unpacked(event)

    def _unpacked(self, event: Event) -> Iterator[Item]:
        for raw in events.payload_events(event.body, self._decompress):
            inner = self._frames.inner(event, raw)
            if inner.type in _NEVER_INSIDE:
                raise CorruptEventError(f"{type_name(inner.type)} in a transaction payload")
            yield from self._read(inner)
        if self._transaction is not None:
            raise CorruptEventError("a transaction payload without an end")

    def _query_compressed(self, event: Event) -> Iterable[Item]:
        return self._statement(events.parse_query(event.body, compressed=True), event)

    def _query(self, event: Event) -> Iterable[Item]:
        if events.is_begin(event.body):
            return self._begin_statement(event)
        return self._statement(events.parse_query(event.body), event)

    def _statement(self, query: events.Query, event: Event) -> Iterable[Item]:
        kind = kind_of(query.sql)
        transaction = self._current(event)
        if kind is Kind.BEGIN:
            return self._begin_statement(event)
        if kind is Kind.XA_START:
            if transaction.opened:
                raise CorruptEventError(f"XA START within {transaction.name}")
            self._wait(transaction, xid_of(query.sql))
            return _NOTHING
        if kind is Kind.MARK:
            self._inside()
            return _NOTHING
        if kind is Kind.ROLLBACK_TO:
            self._inside().undone = True
            return _NOTHING
        if kind in (Kind.COMMIT, Kind.ROLLBACK):
            self._inside().undone |= kind is Kind.ROLLBACK
            return (self._end(event),)
        if kind in (Kind.XA_COMMIT, Kind.XA_ROLLBACK):
            self._open(transaction)
            return self._settle(xid_of(query.sql), event, commits=kind is Kind.XA_COMMIT)
        return self._definition(kind, query, event)

    def _begin_statement(self, event: Event) -> Iterable[Item]:
        transaction = self._current(event)
        # MariaDB says it to readers that do not know what its GTID event stands for
        if transaction.opened and not isinstance(transaction.gtid, MariadbGtid):
            raise CorruptEventError(f"BEGIN within {transaction.name}")
        self._open(transaction)
        return _NOTHING

    def _definition(self, kind: Kind, query: events.Query, event: Event) -> Iterable[Item]:
        if kind not in (Kind.DEFINITION, Kind.ADMINISTRATION):
            raise _not_audited(kind, query, event)
        transaction = self._current(event)
        alone = not transaction.opened
        if alone:
            self._open(transaction)
        elif transaction.xid is not None:
            raise CorruptEventError(f"a definition within XA {transaction.xid}")
        items: list[Item] = []
        if not transaction.skip and not transaction.silent:
            context = transaction.context(event)
            items.append(
                Ddl(
                    transaction.name,
                    decode_sql(without_secrets(query.sql), query.collation),
                    query.sql,
                    query.schema.decode("utf-8", "backslashreplace"),
                    query.error_code,
                    kind is Kind.ADMINISTRATION,
                    context,
                )
            )
        if alone:
            items.append(self._end(event))
        return items

    def _load(self, event: Event) -> Iterable[Item]:
        raise RefusedError(
            f"{event}: LOAD DATA in statement format: statement-based DML cannot be audited",
            target=event.start,
            hint=_ROW_FORMAT,
        )

    def _pass_over(self, _event: Event) -> Iterable[Item]:
        return _NOTHING

    # Where it ends

    def _xid(self, event: Event) -> Iterable[Item]:
        if self._inside().xid is not None:
            raise CorruptEventError("XID at the end of an XA transaction")
        return (self._end(event),)

    def _end(self, event: Event, releases: str | None = None, released: Gtid | None = None) -> Item:
        transaction = self._inside()
        self._transaction = None
        if transaction.xid is not None:
            raise CorruptEventError(f"XA {transaction.xid} ends in COMMIT or ROLLBACK")
        if transaction.skip:
            return Skipped(transaction.gtid, event.end, releases)
        return Commit(
            transaction.name,
            transaction.gtid,
            event.end,
            event.timestamp_s,
            transaction.commit_us,
            event.server_id,
            releases,
            released,
            transaction.undone,
        )

    def _xa_prepare(self, event: Event) -> Iterable[Item]:
        prepare = events.parse_xa_prepare(event.body)
        transaction = self._inside()
        if transaction.xid != prepare.xid:
            raise CorruptEventError(f"XA PREPARE of {prepare.xid} within {transaction.xid}")
        if prepare.one_phase:
            transaction.xid = None
            self._open(transaction)
            return self._settle(prepare.xid, event, commits=True)
        self._transaction = None
        return (
            Prepared(prepare.xid, transaction.name, transaction.gtid, transaction.start, event.end),
        )

    def _settle(self, xid: str, event: Event, *, commits: bool) -> Iterator[Item]:
        transaction = self._inside()
        known = xid in self._spool
        released = self._spool.gtid(xid) if known else None
        if commits and not transaction.skip:
            if known:
                yield from self._replay(xid, transaction)
            elif self._source.gap_before:
                yield BeforeTheTrail(xid, transaction.name, event.end)
            else:
                raise LostPositionError(
                    f"{event.start}: XA COMMIT {xid}, whose rows were never sent: prepared before"
                    " the trail began, or purged",
                    target=transaction.name,
                    hint=f"{gap_hint(transaction.name)}; gap_before: true in the run's config"
                    " passes every XA COMMIT of that kind, and only its log says so",
                )
        self._spool.drop(xid)
        yield self._end(event, xid, None if released == transaction.gtid else released)

    def _replay(self, xid: str, transaction: Transaction) -> Iterator[Item]:
        for event in self._spool.replay(xid):
            if event.type == _E.TABLE_MAP:
                yield from _guarded(self._version(event), event)
            else:
                yield from _guarded(self._rows_of(transaction, event), event)

    # What is around it

    def _rotate(self, event: Event) -> Iterable[Item]:
        position = frames.parse_rotate(event.body)
        if not event.flags & frames.ARTIFICIAL_FLAG and event.pos:
            # the file's own last event; the server's, which is sure to come, opens the next file
            return _NOTHING
        self._frames.enter(position)
        self._entered = position
        return _NOTHING

    def _format_description(self, event: Event) -> Iterable[Item]:
        # Only now is it known when the file was begun, without which its name says little.
        entered, self._entered = self._entered, None
        into = _NOTHING if entered is None else (RotateTo(entered, event.timestamp_s),)
        transaction = self._transaction
        if transaction is None:
            return into
        if not self._frames.created_s:
            raise CorruptEventError(f"a new file before the end of {transaction.name}")
        # A server writes a time into the first file after its start only: it died in the middle.
        self._transaction = None
        if transaction.xid is not None:
            self._spool.drop(transaction.xid)
        return (*into, Abandoned(transaction.name, self.position))

    def _heartbeat(self, event: Event) -> Iterable[Item]:
        file = frames.parse_heartbeat(event.body)
        if file != self._frames.file:
            raise CorruptEventError(f"a heartbeat of {file!r} while in {self._frames.file!r}")
        return (Heartbeat(self.position),)

    def _heartbeat_v2(self, event: Event) -> Iterable[Item]:
        position = frames.parse_heartbeat_v2(event.body)
        if position.file != self._frames.file:
            raise CorruptEventError(f"a heartbeat of {position} while in {self._frames.file!r}")
        self._frames.enter(position)
        return (Heartbeat(position),)

    def _incident(self, event: Event) -> Iterable[Item]:
        transaction = self._transaction
        lost = str(event.start) if transaction is None else transaction.name
        raise LostPositionError(
            f"{event}: the source lost events itself: {events.parse_incident(event.body)}",
            target=lost,
            hint=gap_hint(lost),
        )

    def _encryption(self, event: Event) -> Iterable[Item]:
        raise RefusedError(
            f"{event}: an encrypted binlog was sent as it is on disk",
            target=event.start,
            hint="the source must decrypt what it sends: see encrypt_binlog",
        )


_OPENING = frozenset((_E.ROTATE, _E.FORMAT_DESCRIPTION))
_NEVER_INSIDE = frozenset(
    (
        *(_E.TRANSACTION_PAYLOAD, _E.FORMAT_DESCRIPTION, _E.ROTATE, _E.HEARTBEAT, _E.HEARTBEAT_V2),
        *(_E.GTID, _E.GTID_TAGGED, _E.ANONYMOUS_GTID, _E.MARIADB_GTID),
    )
)
_ROW_FORMAT = "SET GLOBAL binlog_format = ROW on the source, and end the sessions that override it"


def _placed(error: CorruptEventError, event: Event) -> CorruptEventError:
    if error.target is not None:
        return error
    return CorruptEventError(f"{event}: {error}", target=event.start)


def _guarded(items: Iterable[Item], event: Event) -> Iterator[Item]:
    try:
        yield from items
    except CorruptEventError as error:
        raise _placed(error, event) from error


def _not_audited(kind: Kind, query: events.Query, event: Event) -> RefusedError:
    quoted = without_secrets(query.sql)[:_QUOTED].decode("utf-8", "backslashreplace")
    if kind is Kind.ROWS:
        reason, hint = "statement-based DML cannot be audited", _ROW_FORMAT
    else:
        reason, hint = "a statement that this reader does not know", "report the statement"
    return RefusedError(f"{event}: {reason}: {quoted}", target=event.start, hint=hint)
