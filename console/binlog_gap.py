"""`caretaker binlog accept-gap`: go on after a loss, and write the loss into the trail."""

from __future__ import annotations

from dataclasses import replace

import click

from caretaker.binlog import announcements
from caretaker.binlog.gtid import GtidSet
from caretaker.binlog.model import Checkpoint, Flavor
from caretaker.binlog.policy import SyncPolicy
from caretaker.errors import CaseError, LostPositionError, UnsafeError
from console.binlog_ends import (
    dry_run_option,
    holder,
    mongodb,
    open_mysql,
    operator,
    position,
    source_option,
)
from console.options import output_option
from console.output import echo, print_json
from resources.clock import utc_now
from resources.mongodb.settings import Protocol
from resources.mysql.source import MySQLSource

_EXAMPLES = """\b
Examples:
  caretaker binlog accept-gap --lost 3e11fa47-71ca-11e1-9e33-c80aa9429562:182-193 \\
    --reason 'binlogs expired over the holidays, see INC-4711'
  caretaker binlog accept-gap --lost 3e11fa47-71ca-11e1-9e33-c80aa9429562:182-193 \\
    --reason 'just looking' --dry-run
"""


@click.command(
    "accept-gap",
    epilog=_EXAMPLES,
    help="Accept that transactions are lost: write a document that says which, who accepted it and "
    "why, and let the next run begin behind them. Refused unless SET is exactly what is missing.",
)
@click.option("--lost", required=True, metavar="SET", help="What the error named as missing.")
@click.option("--reason", required=True, metavar="TEXT", help="For whoever audits the trail.")
@click.option("--protocol", default="staged", show_default=True, help="As in run.")
@click.option("--incarnation", type=int, default=0, help="As in run.")
@source_option
@dry_run_option
@output_option
def accept_gap(
    *,
    lost: str,
    reason: str,
    protocol: str,
    incarnation: int,
    source: str,
    dry_run: bool,
    output: str,
) -> None:
    """Look again at what is missing, then write the gap through the same commit as any row."""
    if not reason.strip():
        raise click.UsageError("--reason: say why; the trail keeps it")
    policy = SyncPolicy.checked(source=source, protocol=protocol, incarnation=incarnation)
    with mongodb().reading() as trail:
        offset = trail.offset(source)
    if offset.checkpoint is None:
        raise UnsafeError(f"the trail of {source} is empty: nothing is lost", target=source)
    with open_mysql(source) as server:
        behind = _behind_the_gap(server, offset.checkpoint, offset.server_uuid, lost)
        uuid = server.facts().server_uuid
    document, after = announcements.gap(
        policy.identity,
        behind,
        int(utc_now().timestamp()),
        lost=lost,
        by=operator(),
        reason=reason,
    )
    if not dry_run:
        with mongodb().trail(Protocol(policy.protocol)) as trail:
            held = trail.acquire(source, holder("accept-gap"))
            try:
                trail.recover(held)
                if held.checkpoint != offset.checkpoint:
                    raise UnsafeError("the trail has moved on meanwhile; look again", target=source)
                held.server_uuid = uuid
                trail.append(held, [document], after)
            finally:
                trail.release(held)
    if output == "json":
        print_json(
            {"source": source, "lost": lost, "position": position(after), "written": not dry_run}
        )
    else:
        verb = "would be" if dry_run else "is"
        echo(f"the loss of {lost} {verb} in the trail as seq {after.seq}; the next run goes on")


def _behind_the_gap(
    server: MySQLSource, saved: Checkpoint, server_uuid: str, lost: str
) -> Checkpoint:
    """Return where the trail goes on; UnsafeError where not exactly that is lost."""
    try:
        server.verify(saved, server_uuid or None)
    except LostPositionError as error:
        missing = str(error.target or "")
        if not _same(lost, missing):
            raise UnsafeError(
                f"{error}; --lost says {lost}", target=missing, hint=f"--lost '{missing}'"
            ) from error
    else:
        raise UnsafeError("the source has everything that comes next: nothing is lost", target=lost)
    earliest = server.earliest(saved.seq)
    if saved.gtid is None or earliest.gtid is None or server.flavor() is Flavor.MARIADB:
        return earliest
    have, missing_set = GtidSet.parse(saved.gtid), GtidSet.parse(lost)
    if missing_set.issubset(have):
        # Not purged: the source never had it. It begins anew, and so does what is read of it.
        return earliest
    inflight = saved.inflight
    if inflight is not None and GtidSet.parse(inflight.transaction).issubset(missing_set):
        inflight = None
    return replace(earliest, gtid=str(have.union(missing_set)), inflight=inflight)


def _same(one: str, other: str) -> bool:
    try:
        return GtidSet.parse(one) == GtidSet.parse(other)
    except CaseError:
        return one.strip() == other.strip()
