"""A recording served as a server would serve it to someone who has part of it already.

The rules are the servers' (`mysql-held`, `mariadb-held` and `mysql-middle` record them): MySQL
sends the transactions that the set lacks, holes included; MariaDB those after the position, domain
by domain; a dump by file what comes after the place.
"""

from __future__ import annotations

from caretaker.binlog import events
from caretaker.binlog.frames import ARTIFICIAL_FLAG, Event, Frames, file_order, parse_rotate
from caretaker.binlog.gtid import GtidSet, MariadbPosition
from caretaker.binlog.model import (
    Checkpoint,
    EndOfLog,
    EventType,
    Flavor,
    Gtid,
    MariadbGtid,
    MysqlGtid,
    Position,
)
from tests.binlog import wire
from tests.binlog.recordings import Recording

_AROUND = {
    EventType.FORMAT_DESCRIPTION,
    EventType.ROTATE,
    EventType.PREVIOUS_GTIDS,
    EventType.HEARTBEAT,
    EventType.HEARTBEAT_V2,
    EventType.BINLOG_CHECKPOINT,
    EventType.MARIADB_GTID_LIST,
}


def opened(told: Recording) -> list[tuple[bytes, Event | None]]:
    frames = Frames()
    result: list[tuple[bytes, Event | None]] = []
    for payload in told.payloads:
        event = frames.open(payload)
        if isinstance(event, EndOfLog):
            result.append((payload, None))
            continue
        if event.type == EventType.ROTATE and event.flags & ARTIFICIAL_FLAG:
            frames.enter(parse_rotate(event.body))
        result.append((payload, event))
    return result


def gtid_of(event: Event) -> Gtid | None:
    """The GTID that an event begins a transaction with."""
    if event.type == EventType.GTID:
        return events.parse_gtid(event.body, anonymous=False).gtid
    if event.type == EventType.GTID_TAGGED:
        return events.parse_gtid_tagged(event.body).gtid
    if event.type == EventType.MARIADB_GTID:
        return events.parse_mariadb_gtid(event.body, event.server_id).gtid
    return None


def started_before(told: Recording) -> str:
    """What a reader has that has everything before the recording."""
    gtids = [gtid for _, event in opened(told) if event and (gtid := gtid_of(event))]
    if told.flavor is Flavor.MYSQL:
        inside = GtidSet()
        for gtid in gtids:
            assert isinstance(gtid, MysqlGtid)
            inside.add(gtid)
        return str(GtidSet.parse(told.executed_after).subtract(inside))
    before = MariadbPosition.parse(told.executed_after)
    for gtid in reversed(gtids):
        assert isinstance(gtid, MariadbGtid)
        before.add(MariadbGtid(gtid.domain, gtid.server, gtid.seq - 1))
    return ",".join(part for part in str(before).split(",") if not part.endswith("-0"))


def serve(told: Recording, checkpoint: Checkpoint) -> list[bytes]:
    """Return the payloads of a dump from the checkpoint."""
    if checkpoint.gtid is None:
        return by_file(told, checkpoint.position)
    has = had_by(told, checkpoint.gtid)
    sent, sending = [], True
    for payload, event in opened(told):
        if event is not None:
            gtid = gtid_of(event)
            if gtid is not None:
                sending = not has(gtid)
            elif event.type in _AROUND:
                sent.append(payload)
                continue
        if sending or event is None:
            sent.append(payload)
    return sent


def had_by(told: Recording, text: str):
    if told.flavor is Flavor.MYSQL:
        held = GtidSet.parse(text)
        return lambda gtid: gtid in held
    position = MariadbPosition.parse(text)

    def has(gtid: MariadbGtid) -> bool:
        last = position.last(gtid.domain)
        return last is not None and gtid.seq <= last.seq

    return has


def by_file(told: Recording, start: Position) -> list[bytes]:
    sent = [wire.rotate(start.file, start.pos)]
    described = False
    for payload, event in opened(told):
        if event is None:
            sent.append(payload)
        elif event.type == EventType.FORMAT_DESCRIPTION and event.end.file == start.file:
            if not described and start.pos > 4:
                # made up: it has no position
                described = True
                sent.append(wire.description())
            else:
                sent.append(payload)
        elif event.type == EventType.ROTATE and event.flags & ARTIFICIAL_FLAG:
            if file_order(parse_rotate(event.body)) > file_order(start):
                sent.append(payload)
        elif file_order(event.end) > file_order(start):
            sent.append(payload)
    return sent
