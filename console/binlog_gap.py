"""`caretaker binlog accept-gap`: go on after a loss, and write the loss into the trail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from caretaker.binlog import announcements
from caretaker.binlog.gtid import GtidSet
from caretaker.binlog.model import Checkpoint
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
from resources.mongodb.spool import Spool
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
@click.option("--incarnation", type=int, default=0, help="As in the config of run.")
@click.option(
    "--spool-lost",
    is_flag=True,
    help="The spool of the last run is gone, too: do not look for what is in it.",
)
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
    spool_lost: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Look again at what is missing, then write the gap through the same commit as any row."""
    if not reason.strip():
        raise click.UsageError("--reason: say why; the trail keeps it")
    policy = SyncPolicy.checked(source=source, protocol=protocol, incarnation=incarnation)
    with mongodb().reading() as trail:
        offset = trail.offset(source)
    with _spool(source, offset.spool, spool_lost=spool_lost) as spool:
        end = None if spool is None else spool.end(offset.seq)
        # What is spooled is not lost: the gap is behind it.
        saved = offset.checkpoint if end is None else end[0]
        server_uuid = offset.server_uuid if end is None else end[1].server_uuid
        if saved is None:
            raise UnsafeError(f"the trail of {source} is empty: nothing is lost", target=source)
        with open_mysql(source) as server:
            behind = _behind_the_gap(server, saved, server_uuid, lost)
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
            _write(policy, spool, _Gap(saved, document, after, uuid))
    if output == "json":
        print_json(
            {"source": source, "lost": lost, "position": position(after), "written": not dry_run}
        )
    else:
        verb = "would be" if dry_run else "is"
        echo(f"the loss of {lost} {verb} in the trail as seq {after.seq}; the next run goes on")


@dataclass(frozen=True, slots=True)
class _Gap:
    """A document between two checkpoints, and the server that goes on behind it."""

    before: Checkpoint
    document: bytes
    after: Checkpoint
    server_uuid: str


def _write(policy: SyncPolicy, spool: Spool | None, gap: _Gap) -> None:
    """Write what is spooled, then the gap."""
    with mongodb().trail(Protocol(policy.protocol)) as trail:
        held = trail.acquire(policy.source, holder("accept-gap"))
        try:
            trail.recover(held)
            if spool is not None:
                spool.reconcile(held)
                spool.replay(lambda batch, marks: trail.commit(held, batch, marks))
            if held.checkpoint != gap.before:
                raise UnsafeError(
                    "the trail has moved on meanwhile; look again", target=policy.source
                )
            held.server_uuid = gap.server_uuid
            trail.append(held, [gap.document], gap.after)
        finally:
            trail.release(held)


@contextmanager
def _spool(source: str, path: str, *, spool_lost: bool) -> Iterator[Spool | None]:
    """Open the spool of the last run, which may have what the source has not any more."""
    if not path or spool_lost:
        yield None
        return
    if not Path(path).exists():
        raise UnsafeError(
            f"the last run of {source} kept a spool in {path}, which is not here: what is in it is"
            " not lost",
            target=path,
            hint="accept-gap where that file is; if it is gone, too: --spool-lost",
        )
    # Nothing is put in.
    with Spool(Path(path), source, max_bytes=0) as spool:
        yield spool


def _behind_the_gap(
    server: MySQLSource, saved: Checkpoint, server_uuid: str, lost: str
) -> Checkpoint:
    """Return where the trail goes on; UnsafeError where not exactly that is lost."""
    try:
        server.verify(saved, server_uuid or None)
    except LostPositionError as error:
        _refuse_another(lost, str(error.target or ""), str(error))
        return server.beyond(saved, server_uuid or None, lost)
    stop = server.stops_at(saved, server_uuid or None)
    if stop is None:
        raise UnsafeError("the source has everything that comes next: nothing is lost", target=lost)
    missing, behind = stop
    _refuse_another(lost, missing, f"reading stops at {missing}, whose rows are not there")
    return behind


def _refuse_another(lost: str, missing: str, found: str) -> None:
    if not _same(lost, missing):
        raise UnsafeError(
            f"{found}; --lost says {lost}", target=missing, hint=f"--lost '{missing}'"
        )


def _same(one: str, other: str) -> bool:
    try:
        return GtidSet.parse(one) == GtidSet.parse(other)
    except CaseError:
        return one.strip() == other.strip()
