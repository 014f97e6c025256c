"""`caretaker tickets` for restarts of clusters; their ids begin with an r."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from caretaker.decommission.putting_back import remedy
from caretaker.decommission.steps import as_sql
from caretaker.errors import CaretakerError, RefusedError
from console.output import echo, iso, print_json, print_table
from resources.state_store import RestartRow, StateStore

_ID = re.compile(r"(r?)(\d{1,18})")


def split(ids: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids of tables' tickets and those of restarts; click.BadParameter for others.

    >>> split(["12", "r3"])
    ((12,), (3,))
    """
    tables: list[int] = []
    restarts: list[int] = []
    for text in ids:
        found = _ID.fullmatch(text)
        if found is None:
            raise click.BadParameter(
                f"{text!r} is no ticket: expected a number, or r and a number: 12, r3",
                param_hint="TICKET_ID",
            )
        (restarts if found[1] else tables).append(int(found[2]))
    return tuple(tables), tuple(restarts)


def document(row: RestartRow) -> dict[str, Any]:
    """Return a restart as scripts read it; a ticket that cannot be read says so."""
    pods: list[dict[str, Any]] = []
    owed: list[str] = []
    under_way: str | None = None
    to_restart: list[str] = []
    try:
        ticket = row.ticket
    except CaretakerError as error:
        problem: str | None = str(error)
    else:
        problem = ticket.error or None
        pods = [
            {"pod_name": pod.name, "state": pod.state.value, "uid": pod.uid, "error": pod.error}
            for pod in ticket.pods
        ]
        if row.closed_at is None:
            owed = [as_sql(each) for each in remedy(ticket)]
            under_way = ticket.current.name if ticket.current is not None else None
            to_restart = [pod.name for pod in ticket.to_come]
    return {
        "id": f"r{row.id}",
        "namespace": row.namespace,
        "cluster": row.cluster_name,
        "cluster_id": row.cluster_id,
        "purpose": row.purpose,
        "state": _state(row),
        "pods": pods,
        "run_id": row.owner.run_id,
        "host": row.owner.host,
        "pid": row.owner.pid,
        "epoch": row.epoch,
        "created_at": iso(row.created_at),
        "heartbeat_at": iso(row.heartbeat_at),
        "closed_at": iso(row.closed_at),
        "outcome": row.outcome,
        "attempts": row.attempts,
        "next_try_at": iso(row.next_try_at),
        "last_error": row.last_error or problem,
        "reason": row.reason or None,
        "remedy": owed,
        "under_way": under_way,
        "to_restart": to_restart,
    }


def print_list(rows: Sequence[RestartRow]) -> None:
    """Print restarts under their columns."""
    print_table(
        ["id", "cluster", "purpose", "state", "run", "heartbeat", "reason"],
        [
            [
                f"r{row.id}",
                str(row.cluster),
                row.purpose,
                _state(row),
                row.owner.run_id[:8],
                iso(row.heartbeat_at),
                row.reason or row.last_error or None,
            ]
            for row in rows
        ],
    )


def show(store: StateStore, restart_id: int, output: str) -> None:
    """Print one restart and everything that was sent for it."""
    found = document(store.restart(restart_id))
    found["effects"] = [
        {
            "effect": sent.effect,
            "sent_at": iso(sent.began_at),
            "result": sent.result,
            "reason": sent.reason or None,
        }
        for sent in store.effects(restart_id)
    ]
    if output == "json":
        print_json(found)
        return
    for key, value in found.items():
        if key not in {"effects", "pods", "remedy", "to_restart"}:
            echo(f"{key + ':':20} {'-' if value is None else value}")
    for pod in found["pods"]:
        echo(f"{pod['pod_name']}: {pod['state']} {pod['error']}".rstrip())
    for line in found["remedy"]:
        echo(f"owed: {line};")
    for sent in found["effects"]:
        echo(f"{sent['sent_at']}  {sent['result'] or 'no answer'}  {sent['effect']}")


def named(store: StateStore, ids: Sequence[int]) -> list[RestartRow]:
    """Return the open restarts that are meant; one that is closed or unknown is refused."""
    waiting = store.open_restarts()
    if not ids:
        return waiting
    by_id = {row.id: row for row in waiting}
    for restart_id in ids:
        if restart_id not in by_id:
            store.restart(restart_id)
            raise RefusedError(f"ticket r{restart_id} is closed: nothing is owed")
    return [by_id[restart_id] for restart_id in ids]


def _state(row: RestartRow) -> str:
    if row.closed_at is not None:
        return "closed"
    try:
        current = row.ticket.current
    except CaretakerError:
        return "unreadable"
    return f"{current.name} {current.state.value}" if current is not None else "between pods"
