"""`python -m lab.on_call --ui URL --told FILE`: somebody who restarts the demo's CrateDB in pods.

Launches `rolling_restart` as the button in the web page does, waits for its end, has both assets
look at the clusters, and begins again after a while. What becomes of it is read where the page
reads it, in the state store. Each line of FILE is JSON: `ready`, `launched`, `pod`, `ended` or
`refused`, and what there is to say.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caretaker.errors import CaretakerError
from lab.dagster_api import DagsterAPI, DagsterAPIError
from lab.supervisor import interrupt_on_signals
from resources.clock import utc_now
from resources.state_store.address import state_url
from resources.state_store.store import StateStore

if TYPE_CHECKING:
    from resources.state_store import LookRow, RestartRow

JOB, REPORT = "rolling_restart", "restart_report"

#: The sensor that finishes what a dead run began.
FINISHES = "restart_open_tickets"

#: Shorter than a cluster of terabytes needs, and long enough to be watched.
PACE = {"settle_s": 6.0, "stable_s": 4.0}

#: Between two restarts: at first, and when nobody looks any more.
_PAUSE_S, _LONG_PAUSE_S = 240.0, 1800.0
_LIVELY_FOR_S = 1800.0
_LOOK_EVERY_S = 1.0
_TRY_AGAIN_AFTER_S = 2.0

#: A look in between that says nothing new to somebody who watches the terminal.
_UNTOLD = {"PREPARING", "DELETING", "PENDING"}


def main() -> int:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m lab.on_call")
    parser.add_argument("--ui", required=True, help="address of Dagster's web page")
    parser.add_argument("--location", required=True, help="name of the code location there")
    parser.add_argument("--cluster", required=True, help="which to restart")
    parser.add_argument("--told", type=Path, required=True)
    given = parser.parse_args()
    interrupt_on_signals()
    with contextlib.suppress(KeyboardInterrupt):
        _OnCall(DagsterAPI(given.ui, given.location), given.cluster, given.told).work()
    return 0


@dataclass
class _OnCall:
    dagster: DagsterAPI
    cluster: str
    told: Path
    _began: float = field(default_factory=time.monotonic)

    def work(self) -> None:
        """Restart the cluster again and again; whatever is away is waited for."""
        self._tell(ready=self.cluster)
        with self._store() as store:
            while True:
                try:
                    self._await_duty()
                    run = self.dagster.launch(JOB, {"clusters": [self.cluster], **PACE})
                    self._tell(launched=run, job=JOB)
                    self._watch(store, run)
                    self._await_duty()
                    self.dagster.launch(REPORT, {})
                except (CaretakerError, DagsterAPIError) as error:
                    print(f"{type(error).__name__}: {error}", flush=True)
                    time.sleep(_TRY_AGAIN_AFTER_S)
                else:
                    lively = time.monotonic() - self._began < _LIVELY_FOR_S
                    time.sleep(_PAUSE_S if lively else _LONG_PAUSE_S)

    def _await_duty(self) -> None:
        """Begin nothing that nobody would finish; a demo that is being stopped switches all off."""
        while not self.dagster.is_on(FINISHES):
            time.sleep(_TRY_AGAIN_AFTER_S)

    def _store(self) -> StateStore:
        while True:
            try:
                return StateStore.open(state_url(os.environ))
            except CaretakerError as error:
                print(error, flush=True)
                time.sleep(_TRY_AGAIN_AFTER_S)

    def _watch(self, store: StateStore, run: str) -> None:
        """Tell of each turn of the restart until the run is over."""
        seen, last = 0, ("", "")
        while True:
            live = self.dagster.is_live(run)
            row = next((r for r in store.restarts(5, include_closed=True) if _is_of(r, run)), None)
            if row is not None:
                looks = store.looks(row.id)
                for look in looks[seen:]:
                    turn = (look.pod, look.state)
                    if turn != last and look.pod and look.state not in _UNTOLD:
                        self._tell(**_turn(look))
                    last = turn
                seen = len(looks)
            # Not as soon as the ticket is closed: the run still has to publish what became of it.
            if not live:
                if row is None or row.closed_at is None:
                    # Refused, or ended early: then the sensor on open tickets finishes it.
                    self._tell(refused=run)
                else:
                    self._tell(**_end(row, store))
                return
            time.sleep(_LOOK_EVERY_S)

    def _tell(self, **what: Any) -> None:
        with self.told.open("a", encoding="utf-8") as told:
            told.write(f"{json.dumps(what)}\n")


def _is_of(row: RestartRow, run: str) -> bool:
    return row.owner.run_id == run


def _turn(look: LookRow) -> dict[str, Any]:
    return {
        "pod": look.pod,
        "state": look.state,
        "health": look.health,
        "allocation": look.allocation,
        "nodes": look.nodes,
    }


def _end(row: RestartRow, store: StateStore) -> dict[str, Any]:
    ended = [each for each in store.decommissions(100) if each.restart_id == row.id]
    healths = {look.health for look in store.looks(row.id)}
    worst = next((word for word in ("RED", "YELLOW") if word in healths), "GREEN")
    return {
        "ended": row.outcome,
        "cluster": str(row.cluster),
        "reason": row.reason,
        "pods": sum(each.success for each in ended),
        "took_s": round(((row.closed_at or utc_now()) - row.created_at).total_seconds()),
        "worst_health": worst,
    }


if __name__ == "__main__":
    raise SystemExit(main())
