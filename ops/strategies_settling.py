"""Actions of whose end nothing is written down: what became of them, and who is still at it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from caretaker.strategies.cycle import Observed
from caretaker.strategies.model import Json
from caretaker.strategies.moments import moment
from caretaker.strategies.truth import as_judged, has_happened
from resources.materialize.store import OpenAction, StateRow, Stored, StrategyStore

#: A statement that was sent has an answer after so many seconds, or its sender does not live.
ANSWERED_WITHIN_S = 120.0


def is_under_way(action: OpenAction, now: datetime, controller: str) -> bool:
    """Return whether another controller may be about to send this, or wait for its answer.

    One with our lock is not: we have the lock now.
    """
    if action.context.get("controller") == controller or action.created_at is None:
        return False
    waits = action.context.get("waits_s")
    allowed = ANSWERED_WITHIN_S + (float(waits) if isinstance(waits, int | float) else 0.0)
    return abs((now - action.created_at).total_seconds()) < allowed


def at_work(action: OpenAction) -> str:
    """Say who is at work on a cluster."""
    since = action.created_at.isoformat(timespec="seconds") if action.created_at else "a while ago"
    return (
        f"stands back: run {action.context.get('run_id')} of another controller is at work on this"
        f" cluster, since {since}"
    )


class Settler:
    """Finds out what became of the actions of runs that did not live to say so."""

    def __init__(
        self,
        store: StrategyStore,
        observed: Observed,
        stored: Stored,
        *,
        controller: str,
        run_id: str,
    ) -> None:
        """Take what was observed; it is changed by what is found out."""
        self._store = store
        self._observed = observed
        self._stored = stored
        self._controller = controller
        self._run_id = run_id
        now = moment(observed.now)
        assert now is not None  # noqa: S101 - made from a datetime
        self._now: datetime = now
        self._clusters = {one["id"]: one for one in observed.clusters}

    def settle(self, *, write: bool) -> None:
        """Judge each by what is there now; what it was to have remembered is remembered.

        `write`: in the tables, too; the state first, so that whoever is killed here settles again.
        """
        ends: list[tuple[OpenAction, bool]] = []
        remembered: dict[tuple[str, str], StateRow] = {}
        for action in self._stored.open_actions:
            if is_under_way(action, self._now, self._controller):
                self._observed.held.setdefault(action.cluster_id, at_work(action))
                continue
            happened = self._judged(action)
            if happened is None:
                continue
            ends.append((action, happened))
            if happened and (row := self._to_remember(action)):
                remembered[row.cluster_id, row.strategy] = row
            self._observed.settled.append(
                {
                    "action_id": action.action_id,
                    "cluster_id": action.cluster_id,
                    "sql": action.sql,
                    "executed": happened,
                }
            )
        for row in remembered.values():
            self._observed.state.setdefault(row.cluster_id, {})[row.strategy] = row.entry
        if write:
            self._write(list(remembered.values()), ends)

    def _write(
        self, remembered: Sequence[StateRow], ends: Sequence[tuple[OpenAction, bool]]
    ) -> None:
        if remembered:
            at = self._now
            if (newest := moment(self._observed.written_at)) is not None and newest >= at:
                at = newest + timedelta(microseconds=1)
            self._store.write_state(remembered, at)
            self._observed.written_at = at.isoformat()
        for action, happened in ends:
            found = "it was done" if happened else "it was not done"
            why = f"no answer was written down; found by run {self._run_id or 'a later one'}"
            self._store.end_action(action.action_id, happened, f"{why}: {found}")

    def _judged(self, action: OpenAction) -> bool | None:
        """Return whether it happened; None where it may yet."""
        cluster: Json | None = self._clusters.get(action.cluster_id)
        now = None if cluster is None else as_judged(cluster)
        happened = has_happened(action.context, now)
        if not happened and cluster is not None and cluster["pending"]:
            return None
        return happened

    def _to_remember(self, action: OpenAction) -> StateRow | None:
        """Return the state that was to be written after it, unless a newer one was."""
        strategy, entry = action.context.get("strategy"), action.context.get("state")
        if not isinstance(strategy, str) or not isinstance(entry, dict):
            return None
        written = self._stored.written_at.get((action.cluster_id, strategy))
        if written is not None and action.created_at is not None and written >= action.created_at:
            return None
        return StateRow(action.cluster_id, strategy, entry)
