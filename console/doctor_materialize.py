"""What `caretaker doctor materialize` looks at. Nothing is written, tables included."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from caretaker.errors import CaretakerError
from caretaker.strategies.policy import CRASH_LOOKBACK_S
from caretaker.strategies.signals import ACTIVITY_LOOKBACK_S
from console.diagnosis import Diagnosis
from resources.materialize.client import Identity, Materialize
from resources.materialize.look import Look, Looker
from resources.materialize.resource import open_store
from resources.materialize.settings import DATABASE_URL, STORE_URL, DatabaseSettings
from resources.materialize.store import Stored

_SYSTEM = "materialize"
_MOST_NAMES = 5


def materialize() -> Iterator[Diagnosis]:
    """Examine the environment of DATABASE_URL, and the strategy tables."""
    url = os.environ.get(DATABASE_URL, "")
    if not url:
        yield Diagnosis(_SYSTEM, "connection", "off", f"{DATABASE_URL} is not set")
        return
    with Materialize(DatabaseSettings.from_url(url)) as found:
        who = found.identity()
        yield Diagnosis(_SYSTEM, "connection", "ok", f"{who.version} as {who.role}")
        look = _look(found, who)
        yield from _signals(look)
        stored: Stored | None = None
        try:
            store = open_store(found, os.environ.get(STORE_URL, ""))
            try:
                stored = store.read()
            finally:
                store.close()
        except CaretakerError as error:
            yield Diagnosis(_SYSTEM, "tables", "fail", error.sentence)
        if stored is not None:
            where = "Materialize" if store.in_materialize else store.shown
            yield from _tables(stored, where)
            kept = [one["name"] for one in look.clusters if one["id"] in stored.strategies]
            yield from _ownership(found, who, kept)
        if not os.environ.get(STORE_URL):
            cluster = found.session_cluster()
            detail = f"{cluster}, which is never suspended: the tables are read with it"
            yield Diagnosis(_SYSTEM, "our own cluster", "ok", detail)


def _look(found: Materialize, who: Identity) -> Look:
    looker = Looker(
        found,
        now=who.now,
        crash_lookback_s=CRASH_LOOKBACK_S,
        activity_lookback_s=ACTIVITY_LOOKBACK_S,
    )
    return looker.look(wait_for_history=True)


def _signals(look: Look) -> Iterator[Diagnosis]:
    for warning in look.warnings:
        what, _, why = warning.partition(": ")
        yield Diagnosis(_SYSTEM, "signal", "warn", f"{what}: {why or 'unknown'}")
    if not look.warnings:
        detail = "activity, readiness, crashes and ages can be read"
        yield Diagnosis(_SYSTEM, "signals", "ok", detail)


def _tables(stored: Stored, where: str) -> Iterator[Diagnosis]:
    for warning in stored.warnings:
        yield Diagnosis(_SYSTEM, "tables", "warn", f"{where}: {warning}")
    if not stored.warnings:
        clusters = len(stored.strategies)
        rows = sum(map(len, stored.strategies.values()))
        detail = f"in {where}: {rows} strategies of {clusters} clusters"
        yield Diagnosis(_SYSTEM, "tables", "ok", detail)


def _ownership(found: Materialize, who: Identity, kept: Sequence[str]) -> Iterator[Diagnosis]:
    """Say whose clusters have strategies: only their owner may change them."""
    if who.superuser:
        detail = f"{who.role} is a superuser: more than this needs"
        yield Diagnosis(_SYSTEM, "privileges", "ok", detail)
        return
    others = [name for name in found.clusters_of_others(who.role) if name in kept]
    if others:
        more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
        detail = (
            f"{', '.join(others[:_MOST_NAMES])}{more}: not {who.role}'s own; where roles are "
            f"enforced, ALTER CLUSTER ... OWNER TO {who.role}, or be a member of the owner"
        )
        yield Diagnosis(_SYSTEM, "privileges", "warn", detail)
    else:
        yield Diagnosis(_SYSTEM, "privileges", "ok", "every cluster with a strategy is ours")
