"""Whether a source goes on where a trail ends: nothing purged that was not read, nothing else's.

Sets are compared here and not by the server's GTID_SUBSET: what a dump asks for is encoded from the
same objects, so there is one reading of a set. `tests/mysql` holds it against the server's.
"""

from __future__ import annotations

from caretaker.binlog.frames import file_order
from caretaker.binlog.gtid import GtidSet, MariadbPosition, mariadb_text
from caretaker.binlog.model import Checkpoint, Flavor, MariadbGtid, Mode, Position
from caretaker.binlog.progress import mode_of
from caretaker.binlog.refusals import gap_hint
from caretaker.binlog.source_facts import Failover, Progression
from caretaker.errors import CaseError, LostPositionError


def continues(
    checkpoint: Checkpoint, server_uuid: str | None, source: Progression
) -> Failover | None:
    """Return nothing for the same server, and a failover for another that has it all.

    Args:
        checkpoint: Where the trail ends.
        server_uuid: Of the server that it was read from; None if that is not known.
        source: The server that shall go on.

    Raises:
        LostPositionError: It does not go on there: `target` is the set that is missing.
    """
    same = server_uuid is None or server_uuid == source.server_uuid
    if mode_of(checkpoint) is Mode.FILE:
        if not same:
            raise LostPositionError(
                f"the trail ends at {checkpoint.position} of server {server_uuid}, and this is"
                f" {source.server_uuid}: a place in a file means nothing on another server",
                target=str(checkpoint.position),
                hint=_other(checkpoint.position),
            )
        _file_is_there(checkpoint, source)
        return None
    if source.mode is Mode.FILE or source.gtid_executed is None:
        raise LostPositionError(
            "the trail goes by GTID, and the source has none",
            target=checkpoint.gtid,
            hint="SET GLOBAL gtid_mode = ON on the source",
        )
    if source.flavor is Flavor.MARIADB:
        _mariadb(checkpoint, source)
    else:
        _mysql(checkpoint.gtid or "", source)
    if same:
        _not_begun_anew(checkpoint, source)
        return None
    return Failover(server_uuid or "", source.server_uuid, checkpoint.gtid, source.position)


def _mysql(saved_text: str, source: Progression) -> None:
    saved = _set(saved_text, Flavor.MYSQL)
    executed = GtidSet.parse(source.gtid_executed or "")
    purged = GtidSet.parse(source.gtid_purged or "")
    foreign = saved.subtract(executed)
    if foreign:
        raise LostPositionError(
            f"the source never had {foreign}, which the trail has: another server, a restored"
            " backup, RESET BINARY LOGS AND GTIDS, or a binlog that lost its end",
            target=str(foreign),
            hint=_other(foreign),
        )
    lost = purged.subtract(saved)
    if lost:
        raise LostPositionError(
            f"the source purged {lost}, which the trail had not read",
            target=str(lost),
            hint=gap_hint(lost),
        )


def _set(text: str, flavor: Flavor) -> GtidSet:
    try:
        return GtidSet.parse(text)
    except CaseError as error:
        raise LostPositionError(
            f"the trail's position is none of {flavor.value}: {error}",
            target=text,
            hint=_other(text),
        ) from error


def _mariadb(checkpoint: Checkpoint, source: Progression) -> None:
    text = checkpoint.gtid or ""
    try:
        saved = MariadbPosition.parse(text)
        ahead = MariadbPosition.parse(checkpoint.ahead or text)
    except CaseError as error:
        raise LostPositionError(
            f"the trail's position is none of mariadb: {error}", target=text, hint=_other(text)
        ) from error
    state = by_domain_and_server(source.gtid_state or "")
    foreign = [
        mariadb_text(gtid)
        for position in (saved, ahead)
        for domain in position.domains()
        if (gtid := position.last(domain)) is not None and not reached(gtid, state)
    ]
    if foreign:
        missing = ",".join(dict.fromkeys(foreign))
        raise LostPositionError(
            f"the source never had {missing}, which the trail has: another server, a restored"
            " backup, RESET MASTER, or a binlog that lost its end",
            target=missing,
            hint=_other(missing),
        )
    oldest = MariadbPosition.parse(source.gtid_purged or "")
    lost = []
    for domain in oldest.domains():
        first, last = oldest.last(domain), saved.last(domain)
        if first is not None and (last is None or last.seq < first.seq):
            since = last.seq + 1 if last is not None else 1
            # in the notation of MySQL's sets, which MariaDB has none of
            lost.append(f"{mariadb_text(MariadbGtid(domain, first.server, since))}..{first.seq}")
    if lost:
        missing = ",".join(lost)
        raise LostPositionError(
            f"the source purged {missing}, which the trail had not read",
            target=missing,
            hint=gap_hint(missing),
        )


def by_domain_and_server(state: str) -> dict[tuple[int, int], int]:
    """`gtid_binlog_state` has a domain once for each of its servers, so it is no position."""
    result: dict[tuple[int, int], int] = {}
    for part in filter(None, (part.strip() for part in state.split(","))):
        position = MariadbPosition.parse(part)
        for domain in position.domains():
            gtid = position.last(domain)
            if gtid is not None:
                key = (gtid.domain, gtid.server)
                result[key] = max(gtid.seq, result.get(key, 0))
    return result


def reached(gtid: MariadbGtid, state: dict[tuple[int, int], int]) -> bool:
    """Whether a server with that `gtid_binlog_state` has come to a transaction."""
    return state.get((gtid.domain, gtid.server), -1) >= gtid.seq


def _file_is_there(checkpoint: Checkpoint, source: Progression) -> None:
    places = [checkpoint.position]
    sizes = {log.name: log.size for log in source.logs}
    for place in places:
        size = sizes.get(place.file)
        if size is None:
            raise LostPositionError(
                f"the source has no {place.file} any more: it has {_range(source)}",
                target=str(place),
                hint=gap_hint(place),
            )
        if place.pos > size:
            raise LostPositionError(
                f"the trail ends at {place}, where the source's file has only {size} bytes: RESET"
                " BINARY LOGS AND GTIDS, or a binlog that lost its end",
                target=str(place),
                hint=_other(place),
            )


def _not_begun_anew(checkpoint: Checkpoint, source: Progression) -> None:
    """A server that forgot its binlogs numbers files and transactions anew, from 1.

    When it has passed the old numbers both subset tests hold again; its files tell.
    """
    place = checkpoint.position
    if not place.file or not source.logs:
        return
    newest = source.logs[-1]
    size = {log.name: log.size for log in source.logs}.get(place.file)
    began_anew = _number(place) > _number(Position(newest.name, 0)) or (
        size is not None and place.pos > size
    )
    if began_anew:
        raise LostPositionError(
            f"the trail ends at {place}, and the same server's newest binlog is {newest.name} of"
            f" {newest.size} bytes: it began anew (RESET BINARY LOGS AND GTIDS), and uses"
            " transaction numbers a second time",
            target=str(place),
            hint=begun_anew_hint(place),
        )


def _number(place: Position) -> int:
    return file_order(place)[0]


def _range(source: Progression) -> str:
    if not source.logs:
        return "none"
    return f"{source.logs[0].name} to {source.logs[-1].name}"


def _other(lost: object) -> str:
    return (
        f"look for the right server; or: {gap_hint(lost)}. Where the source began anew (RESET),"
        " raise incarnation in the run's config by one, too, and give accept-gap the same"
    )


def begun_anew_hint(lost: object) -> str:
    """Say how to go on with a source that uses names and numbers a second time."""
    return (
        f"caretaker binlog accept-gap --lost '{lost}' --reason TEXT --incarnation N records the"
        " loss, and the run's config needs incarnation: N from then on, one more than before"
    )
