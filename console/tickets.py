"""`caretaker tickets`: what was promised to be put back, and making good on it now."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from caretaker.errors import InvalidSettingError, RefusedError
from caretaker.translog.model import PartitionRef, partition_text
from console import restart_tickets
from console.decommission import document as restarts_document
from console.decommission import finish
from console.environment import use_log_format
from console.options import log_format_option, output_option
from console.output import echo, iso, print_json, print_table, results_document
from console.runs import dagster_instance, run_job
from console.stores import open_store
from ops.closing import close_by_hand, outcome_by_hand
from ops.decommission_closing import close_restart_by_hand
from ops.logs import say
from ops.owners import death_seen_from
from ops.restoring import remedy_for
from ops.translog_run import RunReport
from resources.cratedb.client import CrateDBClient
from resources.cratedb.settings import CrateDBSettings
from resources.state_store import RestartRow, StateStore, TicketRow

_EXAMPLES = """\b
Examples:
  caretaker tickets                    open tickets, and the statement that honours each
  caretaker tickets restore            restore all whose run is dead, now
"""


@click.group(
    "tickets",
    invoke_without_command=True,
    epilog=_EXAMPLES,
    help="What caretaker has promised to put back. Without a verb: the open ones.",
)
@output_option
@click.pass_context
def tickets(context: click.Context, *, output: str) -> None:
    """List what is open unless another verb is named."""
    if context.invoked_subcommand is None:
        context.invoke(list_tickets, every=False, limit=100, output=output)
    elif output != "table":
        verb = context.invoked_subcommand
        raise click.UsageError(f"--output belongs behind the verb: tickets {verb} --output json")


@tickets.command("list", epilog=_EXAMPLES)
@click.option("--all", "every", is_flag=True, help="Closed ones too, newest first.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many."
)
@output_option
def list_tickets(*, every: bool, limit: int, output: str) -> None:
    """List tickets."""
    with open_store() as store:
        rows = store.tickets(limit, include_closed=every)
        restarts = store.restarts(limit, include_closed=every)
    if output == "json":
        print_json(
            {
                "tickets": [_document(row) for row in rows],
                "restarts": [restart_tickets.document(row) for row in restarts],
            }
        )
        return
    if not rows and not restarts:
        echo("No ticket." if every else "No open ticket: nothing waits to be put back.")
        return
    if restarts:
        restart_tickets.print_list(restarts)
    if not rows:
        return
    print_table(
        ["id", "table", "partition", "state", "original", "run", "heartbeat", "reason"],
        [
            [
                row.ticket.id,
                str(row.ticket.target.table),
                partition_text(row.ticket.target) or None,
                row.ticket.state.value if row.closed_at is None else "closed",
                row.ticket.original_replicas,
                row.ticket.owner.run_id[:8],
                iso(row.ticket.heartbeat_at),
                row.ticket.reason or None,
            ]
            for row in rows
        ],
    )


@tickets.command(
    "show",
    epilog="\b\nExamples:\n  caretaker tickets show 12\n"
    "  caretaker tickets show 12 --output json\n",
)
@click.argument("ticket_id")
@output_option
def show_ticket(*, ticket_id: str, output: str) -> None:
    """Show one ticket, everything sent under it, and the statement that honours it."""
    tables, restarts = restart_tickets.split([ticket_id])
    with open_store() as store:
        if restarts:
            restart_tickets.show(store, restarts[0], output)
            return
        row = store.ticket_row(tables[0])
        sent = store.statements(tables[0])
    document = _document(row)
    document["statements"] = [
        {
            "sql": statement.sql_text,
            "sent_at": iso(statement.began_at),
            "result": statement.result,
            "error": statement.error,
        }
        for statement in sent
    ]
    if output == "json":
        print_json(document)
        return
    for key, value in document.items():
        if key != "statements":
            echo(f"{key + ':':20} {'-' if value is None else value}")
    for statement in document["statements"]:
        echo(f"{statement['sent_at']}  {statement['result'] or 'no answer'}  {statement['sql']}")


@tickets.command("restore", epilog=_EXAMPLES)
@click.argument("ticket_ids", nargs=-1)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only print the statements, and which pods would be restarted.",
)
@output_option
@log_format_option
def restore_tickets(
    *, ticket_ids: tuple[str, ...], dry_run: bool, output: str, log_format: str | None
) -> None:
    """Put back what tickets remember: those named, or all whose run is dead.

    A restart (r3) is taken over: a drain in flight is seen to its end, settings are put back, and
    the pods that are left are restarted.
    """
    use_log_format(log_format)
    tables, restarts = restart_tickets.split(ticket_ids)
    with open_store() as store:
        waiting = _named(store, tables) if tables or not restarts else []
        begun = restart_tickets.named(store, restarts) if restarts or not tables else []
        if not ticket_ids and begun:
            with dagster_instance() as instance:
                dead = death_seen_from(instance)
                begun = [
                    row for row in begun if row.next_try_at or dead(row.owner, row.heartbeat_at)
                ]
    if dry_run or not (waiting or begun):
        _print_remedies(waiting, output, begun)
        return
    code, results, stopped = 0, [], False
    if waiting:
        options: dict[str, Any] = {"ticket_ids": list(tables)} if tables else {}
        end = run_job("translog_restore", options, outputs=("record_restores",))
        report, stopped = end.outputs.get("record_restores"), end.stops > 0
        if isinstance(report, RunReport):
            results, code = list(report.results), report.exit_code
        elif not begun:
            raise end.error()
        else:
            # What restarts have promised is owed to clusters of their own.
            say(end.error().sentence)
            code = 1
    ended = finish(begun, stopped=stopped, alone=len(begun) == 1 and not waiting)
    if output == "json":
        document = results_document(results, code or ended.exit_code)
        if begun:
            document |= {"restarts": restarts_document(ended)["clusters"]}
        print_json(document)
    else:
        for result in results:
            outcome = result.outcome.value if result.outcome else result.state.value
            echo(f"{result.target}: {outcome} {result.reason}".rstrip())
        for each in ended.clusters:
            echo(f"{each.namespace}/{each.name}: {each.outcome} {each.reason}".rstrip())
            for line in each.remedy:
                echo(f"  run: {line};")
        if not results and not begun:
            echo("Every open ticket belongs to a run that is alive: nothing to do.")
    sys.exit(ended.exit_code if not waiting else int(code != 0 or ended.exit_code != 0))


@tickets.command(
    "clear",
    epilog="\b\nExamples:\n  caretaker tickets clear doc.metrics\n"
    "  caretaker tickets clear doc.metrics --dry-run\n",
)
@click.argument("table")
@click.option("--dry-run", is_flag=True, help="Only say what would be cleared.")
@output_option
def clear(*, table: str, dry_run: bool, output: str) -> None:
    """Let a table that was set aside after resets without cure be reset again."""
    with open_store() as store:
        known = {
            (row.cluster_id, row.target)
            for row in store.outcomes(limit=100_000)
            if str(row.target.table) == table
        }
        if not known:
            raise InvalidSettingError("TABLE", table, "a schema.table that was reset before")
        for cluster_id, target in known:
            if not dry_run:
                store.clear_set_aside(cluster_id, target)
    cleared = sorted(str(target) for _, target in known)
    if output == "json":
        print_json({"cleared": cleared, "dry_run": dry_run})
    else:
        for name in cleared:
            echo(f"{name}: {'would be' if dry_run else 'is'} cleared")


@tickets.command(
    "close",
    epilog="\b\nExamples:\n  caretaker tickets close 12 --reason 'dropped by retention'\n"
    "  caretaker tickets close 12 --reason 'restored by hand' --dry-run\n",
)
@click.argument("ticket_id")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the outcome.")
@click.option(
    "--gone", is_flag=True, help="Of a restart: its cluster, which is not found, is no more."
)
@click.option("--dry-run", is_flag=True, help="Only look, and say how it would end.")
@output_option
def close(*, ticket_id: str, reason: str, gone: bool, dry_run: bool, output: str) -> None:
    """Close a ticket whose table was dropped, or has its replicas back by hand.

    A restart (r3): where nothing that it set is left, or with --gone where its cluster is not
    found at the API server with which it was begun.
    """
    if not reason.strip():
        raise InvalidSettingError("--reason", reason, "a word about why")
    tables, restarts = restart_tickets.split([ticket_id])
    if restarts:
        _close_restart(restarts[0], reason.strip(), output, gone=gone, dry_run=dry_run)
        return
    if gone:
        raise click.UsageError("--gone is said of a restart's cluster: r3")
    with (
        open_store() as store,
        dagster_instance() as instance,
        CrateDBClient(CrateDBSettings.from_environment(os.environ)) as crate,
    ):
        (ticket,) = _named(store, tables)
        row = outcome_by_hand(crate, ticket, reason.strip(), death_seen_from(instance))
        if not dry_run:
            close_by_hand(store, ticket, row)
    if output == "json":
        ended = {"id": tables[0], "outcome": row.outcome, "reason": row.reason}
        print_json({**ended, "dry_run": dry_run})
    else:
        verb = "would be closed" if dry_run else "is closed"
        echo(f"{ticket.target}: ticket {ticket_id} {verb}: {row.outcome} {row.reason}")


def _close_restart(restart_id: int, reason: str, output: str, *, gone: bool, dry_run: bool) -> None:
    with open_store() as store, dagster_instance() as instance:
        (row,) = restart_tickets.named(store, [restart_id])
        found = close_restart_by_hand(store, row, reason, instance, dry_run=dry_run, gone=gone)
    if output == "json":
        print_json({"id": f"r{restart_id}", "reason": found, "dry_run": dry_run})
    else:
        verb = "would be closed" if dry_run else "is closed"
        echo(f"{row.cluster}: ticket r{restart_id} {verb}: {found}")


def _named(store: StateStore, ticket_ids: tuple[int, ...]) -> list[Any]:
    """Return the open tickets that are meant; one that is closed or unknown is refused."""
    waiting = store.open_tickets()
    if not ticket_ids:
        return waiting
    by_id = {ticket.id: ticket for ticket in waiting}
    for ticket_id in ticket_ids:
        if ticket_id not in by_id:
            store.ticket(ticket_id)
            raise RefusedError(f"ticket {ticket_id} is closed: its table has its replicas")
    return [by_id[ticket_id] for ticket_id in ticket_ids]


def _print_remedies(waiting: list[Any], output: str, begun: list[RestartRow]) -> None:
    owed = [restart_tickets.document(row) for row in begun]
    if output == "json":
        remedies = [{"id": t.id, "remedy": remedy_for(t).rendered} for t in waiting]
        keys = ("id", "remedy", "under_way", "to_restart")
        kept = [{key: each[key] for key in keys} for each in owed]
        print_json({"tickets": remedies, "restarts": kept, "dry_run": True})
        return
    if not waiting and not owed:
        echo("No open ticket: nothing waits to be put back.")
    for each in owed:
        echo(f"-- ticket {each['id']}, {each['state']}")
        if each["under_way"]:
            echo(f"-- the restart of {each['under_way']} is seen to its end")
        for line in each["remedy"]:
            echo(f"{line};")
        if each["to_restart"]:
            pods = ", ".join(each["to_restart"])
            echo(f"-- then restarted, one at a time, the elected master last: {pods}")
    for ticket in waiting:
        echo(f"-- ticket {ticket.id}, {ticket.state.value}")
        echo(f"{remedy_for(ticket).rendered};")


def _document(row: TicketRow) -> dict[str, Any]:
    ticket = row.ticket
    target = ticket.target
    return {
        "id": ticket.id,
        "schema": target.table.schema,
        "table": target.table.name,
        "partition": dict(target.values) if isinstance(target, PartitionRef) else None,
        "state": ticket.state.value,
        "original_replicas": ticket.original_replicas,
        "cluster_id": ticket.cluster_id,
        "cluster_name": row.cluster_name,
        "run_id": ticket.owner.run_id,
        "host": ticket.owner.host,
        "pid": ticket.owner.pid,
        "epoch": ticket.epoch,
        "created_at": iso(ticket.created_at),
        "heartbeat_at": iso(ticket.heartbeat_at),
        "closed_at": iso(row.closed_at),
        "attempts": ticket.attempts,
        "next_try_at": iso(ticket.next_try_at),
        "last_error": row.last_error or None,
        "reason": ticket.reason or None,
        "remedy": remedy_for(ticket).rendered,
    }
