"""Where a trail goes on once somebody has accepted that transactions are lost.

As little as possible is read again, and nothing that is still there is passed over: what a trail
has and its source has not (a restored backup, a binlog that lost its end) is taken out of the
position, what was purged is put in. Only a source that began anew is read from its beginning.
"""

from __future__ import annotations

from dataclasses import replace

from caretaker.binlog.continuity import by_domain_and_server, reached
from caretaker.binlog.frames import file_order
from caretaker.binlog.gtid import GtidSet, MariadbPosition
from caretaker.binlog.model import Checkpoint, Flavor, MariadbGtid, Mode, Position
from caretaker.binlog.progress import ahead_position, mode_of
from caretaker.binlog.source_facts import FIRST_EVENT, Progression


def beyond(
    saved: Checkpoint, lost: str, source: Progression, *, same_server: bool, anew: bool
) -> Checkpoint:
    """Return the checkpoint behind a loss.

    Args:
        saved: Where the trail ends.
        lost: What `continuity.continues` named.
        source: The server that shall go on.
        same_server: It is the one that the trail was read from.
        anew: All its binlogs are younger than the one where the trail ends, or nobody knows: if it
            lacks what the trail has, it has used the numbers of what it lacks for others.
    """
    earliest = source.earliest(saved.seq)
    if mode_of(saved) is Mode.FILE:
        return _by_file(saved, source, earliest, same_server=same_server, anew=anew)
    if earliest.gtid is None or lost.strip() == str(saved.position):
        return earliest
    if source.flavor is Flavor.MARIADB:
        return _mariadb(saved, source, earliest, anew=same_server and anew)
    return _mysql(saved, source, earliest, anew=same_server and anew)


def _mysql(
    saved: Checkpoint, source: Progression, earliest: Checkpoint, *, anew: bool
) -> Checkpoint:
    have = GtidSet.parse(saved.gtid or "")
    executed = GtidSet.parse(source.gtid_executed or "")
    foreign = have.subtract(executed)
    left = have.subtract(foreign)
    if foreign and (anew or not left):
        return earliest
    if not foreign:
        left = left.union(GtidSet.parse(source.gtid_purged or ""))
    inflight = saved.inflight
    if inflight is not None:
        transaction = GtidSet.parse(inflight.transaction)
        # The rest of it comes, unless it is lost: purged, or never there.
        if transaction.issubset(left) or not transaction.issubset(executed):
            inflight = None
    return replace(earliest, gtid=str(left), inflight=inflight)


def _mariadb(
    saved: Checkpoint, source: Progression, earliest: Checkpoint, *, anew: bool
) -> Checkpoint:
    start = MariadbPosition.parse(saved.gtid or "")
    ahead = MariadbPosition.parse(saved.ahead or saved.gtid or "")
    state = by_domain_and_server(source.gtid_state or "")
    oldest = MariadbPosition.parse(source.gtid_purged or "")
    start_there, ahead_there = _there(start, state), _there(ahead, state)
    if (start_there, ahead_there) != (start, ahead):
        if anew or not start_there.domains():
            return earliest
        start, ahead = start_there, ahead_there
    else:
        start = _later(start, oldest)
    ahead = _later(ahead, start)
    inflight = saved.inflight
    if inflight is not None and _passed(MariadbPosition.parse(inflight.transaction), ahead, state):
        inflight = None
    return replace(
        earliest,
        gtid=str(start),
        ahead=None if ahead == start else str(ahead),
        inflight=inflight,
    )


def _passed(
    transaction: MariadbPosition, ahead: MariadbPosition, state: dict[tuple[int, int], int]
) -> bool:
    """Whether a transaction does not come: purged, or never there."""
    for domain in transaction.domains():
        gtid, last = transaction.last(domain), ahead.last(domain)
        if gtid is not None and (
            not reached(gtid, state) or (last is not None and last.seq >= gtid.seq)
        ):
            return True
    return False


def _there(position: MariadbPosition, state: dict[tuple[int, int], int]) -> MariadbPosition:
    """Return how far of a position a server is, in each domain by the server that wrote it."""
    result = MariadbPosition()
    for domain in position.domains():
        gtid = position.last(domain)
        if gtid is None:
            continue
        if reached(gtid, state):
            result.add(gtid)
        elif (last := state.get((gtid.domain, gtid.server))) is not None:
            result.add(MariadbGtid(gtid.domain, gtid.server, last))
    return result


def _later(one: MariadbPosition, other: MariadbPosition) -> MariadbPosition:
    """Return in each domain what comes later of the two."""
    result = one.copy()
    for domain in other.domains():
        mine, theirs = one.last(domain), other.last(domain)
        if theirs is not None and (mine is None or mine.seq < theirs.seq):
            result.add(theirs)
    return result


def _by_file(
    saved: Checkpoint,
    source: Progression,
    earliest: Checkpoint,
    *,
    same_server: bool,
    anew: bool,
) -> Checkpoint:
    names = [log.name for log in source.logs]
    place = saved.position
    if not same_server or not names:
        return earliest
    if place.file in names:
        following = names[names.index(place.file) + 1 :]
        if anew or not following:
            return earliest
        # It lost its end, all of which is in the trail: the source went on in the next one.
        return replace(earliest, position=Position(following[0], FIRST_EVENT))
    if saved.ahead is None or file_order(place) > file_order(Position(names[-1], 0)):
        return earliest
    # An XA transaction that was waiting is lost; what came after it is in the trail already.
    ahead = ahead_position(saved)
    behind = ahead.file in names and file_order(ahead) > file_order(earliest.position)
    if not behind:
        return earliest
    return replace(earliest, ahead=saved.ahead, inflight=saved.inflight)
