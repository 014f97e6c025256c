"""Short looks into a binlog: what stands at a place, when a file was begun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from caretaker.binlog import events
from caretaker.binlog.continuity import begun_anew_hint
from caretaker.binlog.frames import Event, Frames, parse_rotate
from caretaker.binlog.gtid import GtidSet, MariadbPosition, mariadb_text, mysql_text
from caretaker.binlog.model import (
    Checkpoint,
    Commit,
    Ddl,
    EndOfLog,
    EventType,
    Flavor,
    Gtid,
    MariadbGtid,
    MysqlGtid,
    Position,
    Prepared,
    RotateTo,
    Rows,
    Skipped,
    SourceIdentity,
)
from caretaker.binlog.progress import progress_from
from caretaker.binlog.source_facts import FIRST_EVENT, Follower, Progression
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.tablemap import TableMaps
from caretaker.binlog.transaction_names import mysql_gtid
from caretaker.binlog.xa import XaSpool
from caretaker.errors import (
    CaseError,
    CorruptEventError,
    LostPositionError,
    RefusedError,
    TransientError,
)
from resources.mysql import dump as dumps
from resources.mysql.session import Session
from resources.mysql.settings import MySQLSettings
from resources.mysql.zstd import decompress

_WITHIN_S = 30.0
_MOST_POSITION = 2**32
_HEARTBEAT_S = 5.0
#: What prepared XA transactions may take while we only look.
_XA_BYTES = 1 << 28
_AROUND = frozenset(
    (
        *(EventType.ROTATE, EventType.FORMAT_DESCRIPTION, EventType.PREVIOUS_GTIDS),
        *(EventType.MARIADB_GTID_LIST, EventType.BINLOG_CHECKPOINT),
        *(EventType.HEARTBEAT, EventType.HEARTBEAT_V2, EventType.START_ENCRYPTION),
    )
)


def goes_on_here(
    settings: MySQLSettings, us: Follower, checkpoint: Checkpoint, source: Progression
) -> None:
    """Raise LostPositionError unless what follows the trail's last place is new to the trail.

    A server after RESET BINARY LOGS AND GTIDS numbers its files and transactions from 1 again: once
    it has passed the old numbers, names and sets look as if nothing had happened. When a file was
    begun tells, and so does a transaction that the trail has.
    """
    place = checkpoint.position
    size = {log.name: log.size for log in source.logs}.get(place.file)
    # A reader that only just came into the file knows its beginning: no transaction says anything.
    by_gtid = checkpoint.gtid is not None and FIRST_EVENT < place.pos < _MOST_POSITION
    if size is None or not (by_gtid or checkpoint.begun_s is not None):
        return
    if not by_gtid:
        _is_the_same_file(checkpoint, begun_at_s(settings, us, place.file, source.flavor))
        return
    try:
        begun_s, found = _first(settings, us, place, source.flavor)
    except (CorruptEventError, RefusedError, LostPositionError) as error:
        raise _began_anew(checkpoint, f"no event begins there ({error})") from error
    _is_the_same_file(checkpoint, begun_s)
    saved_text = checkpoint.gtid or ""
    if isinstance(found, MysqlGtid):
        saved = GtidSet.parse(saved_text)
        if found in saved and not _has_holes(saved, found):
            raise _began_anew(checkpoint, f"{mysql_text(found)} follows, which the trail has")
    elif isinstance(found, MariadbGtid):
        last = MariadbPosition.parse(saved_text).last(found.domain)
        if last is not None and last.server == found.server and found.seq <= last.seq:
            raise _began_anew(checkpoint, f"{mariadb_text(found)} follows, which the trail has")


def _is_the_same_file(checkpoint: Checkpoint, begun_s: int | None) -> None:
    saved_s = checkpoint.begun_s
    if saved_s is not None and begun_s is not None and begun_s != saved_s:
        raise _began_anew(
            checkpoint,
            f"the source has another file of that name by now, begun at {_moment(begun_s)} and not"
            f" at {_moment(saved_s)}",
        )


def _moment(stamp_s: int) -> str:
    return datetime.fromtimestamp(stamp_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def begun_at_s(settings: MySQLSettings, us: Follower, file: str, flavor: Flavor) -> int:
    """Return when a binlog was begun, in seconds; the one before it was left then."""
    for event in _look(settings, us, Position(file, FIRST_EVENT), flavor):
        if event.type == EventType.FORMAT_DESCRIPTION:
            return event.timestamp_s
    raise TransientError(f"{file} has no beginning yet", target=file)


def stops_at(
    dump: dumps.Dump, checkpoint: Checkpoint, flavor: Flavor
) -> tuple[str, Checkpoint] | None:
    """Return the next transaction of a dump if it cannot be read, and the checkpoint behind it."""
    source = Source(flavor, SourceIdentity(bytes(4)))
    tables = TableMaps(flavor, {})
    stream = Stream(source, checkpoint, tables, decompress, XaSpool(_XA_BYTES))
    progress = progress_from(checkpoint, flavor)
    begun_s = {checkpoint.position.file: checkpoint.begun_s}
    try:
        while payloads := dump.read(_WITHIN_S):
            for payload in payloads:
                for item in stream.feed(payload):
                    if isinstance(item, EndOfLog | Commit | Rows | Ddl):
                        return None
                    if isinstance(item, RotateTo):
                        begun_s[item.position.file] = item.begun_s
                        progress.rotated(item.position)
                    elif isinstance(item, Skipped):
                        progress.skipped(item)
                    elif isinstance(item, Prepared):
                        progress.prepared(item)
    except LostPositionError as error:
        name = str(error.target)
        gtid: Gtid | None = None
        if checkpoint.gtid is not None:
            try:
                gtid = mysql_gtid(name) if flavor is Flavor.MYSQL else _mariadb_gtid(name)
            except CaseError:
                return None
        progress.committed(Commit(name, gtid, stream.position, 0, None, 0))
        after, position, ahead = progress.marks()
        behind = replace(
            checkpoint,
            gtid=after,
            position=position,
            ahead=ahead,
            inflight=None,
            begun_s=begun_s.get(position.file),
        )
        return name, behind
    return None


def _mariadb_gtid(text: str) -> MariadbGtid | None:
    position = MariadbPosition.parse(text)
    return next((position.last(domain) for domain in position.domains()), None)


def _began_anew(checkpoint: Checkpoint, why: str) -> LostPositionError:
    return LostPositionError(
        f"the trail ends at {checkpoint.position}, and {why}: RESET BINARY LOGS AND GTIDS, which"
        " uses transaction numbers a second time, or a damaged binlog",
        target=str(checkpoint.position),
        hint=begun_anew_hint(checkpoint.position),
    )


def _has_holes(saved: GtidSet, gtid: MysqlGtid) -> bool:
    """An XA transaction that waits is a hole, and brings the dump back to before it."""
    upto = GtidSet()
    upto.insert((gtid.uuid, gtid.tag), 1, gtid.gno)
    return not upto.issubset(saved)


def _first(
    settings: MySQLSettings, us: Follower, place: Position, flavor: Flavor
) -> tuple[int | None, Gtid | None]:
    """Return when the file of a place was begun, and the transaction that follows there."""
    begun_s: int | None = None
    for event in _look(settings, us, place, flavor):
        if event.type == EventType.FORMAT_DESCRIPTION and begun_s is None:
            begun_s = event.timestamp_s
        if event.type == EventType.GTID:
            return begun_s, events.parse_gtid(event.body, anonymous=False).gtid
        if event.type == EventType.GTID_TAGGED:
            return begun_s, events.parse_gtid_tagged(event.body).gtid
        if event.type == EventType.MARIADB_GTID:
            return begun_s, events.parse_mariadb_gtid(event.body, event.server_id).gtid
        if event.type not in _AROUND:
            break
    return begun_s, None


def _look(
    settings: MySQLSettings, us: Follower, place: Position, flavor: Flavor
) -> Iterator[Event]:
    """Yield the events behind a place, as a follower nobody else is."""
    checkpoint = Checkpoint(None, place, 0)
    with Session(settings) as session:
        dumps.prepare(session, us, checkpoint, flavor, _HEARTBEAT_S)
        dumps.begin(session, settings, us, checkpoint, flavor, wait=False)
        reader = dumps.Dump(
            session, settings, server_uuid="", failover=None, heartbeat_s=_HEARTBEAT_S
        )
        frames = Frames()
        try:
            while payloads := reader.read(_WITHIN_S):
                for payload in payloads:
                    event = frames.open(payload)
                    if isinstance(event, EndOfLog):
                        return
                    if event.type == EventType.ROTATE:
                        frames.enter(parse_rotate(event.body))
                    yield event
        finally:
            reader.close()
