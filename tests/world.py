"""A lab cluster, a Dagster instance and a state store of one test's own, and the jobs run in them.

`World.reset(...)` is `translog_reset` with short waits; what it says and leaves behind is read back
as `Run`, from the job's own output, the JSON log and the store.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from caretaker.translog.model import ResetTicket
from caretaker.translog.outcome import ResetOutcome, ResetResult
from definitions import defs
from lab.cratedb import LabCrateDB
from lab.cratedb.journal import Entry
from lab.faults import Action, Fault
from resources.cratedb.resource import CrateDBResource
from resources.state_store import OutcomeRow, StateStore
from resources.state_store.resource import StateStoreResource

ROOT = Path(__file__).resolve().parents[1]
RUN_JOB = ROOT / "tests" / "translog" / "run_job.py"

#: Waits short enough for a test; everything else is what an operator gets who says nothing.
SHORT = {
    "wait_ladder_s": [0.05, 0.1],
    "max_wait_s": 5.0,
    "settle_s": 0.3,
    "restore_timeout_s": 10.0,
    "verify_timeout_s": 5.0,
}
_OF_RESTORES = {"settle_s", "restore_timeout_s", "verify_timeout_s"}

SET_REPLICAS = r"^ALTER TABLE .* SET \(\"number_of_replicas\" = \?\)$"
NUDGE = "^OPTIMIZE"

#: Fails a statement that writes to one of the store's tables, until it is dropped.
_TRIGGER = """
CREATE TRIGGER {name} BEFORE {what} ON caretaker_{table}
BEGIN SELECT RAISE(ABORT, 'the store is broken, says the test'); END
"""


@dataclass(frozen=True)
class Run:
    """What became of a run, table by table."""

    success: bool
    run_id: str
    exit_code: int | None
    results: tuple[ResetResult, ...]
    failure: str

    @property
    def outcomes(self) -> dict[str, ResetOutcome | None]:
        """By table, partitions with their values."""
        return {str(result.target): result.outcome for result in self.results}

    @property
    def outcome(self) -> ResetOutcome | None:
        """Of the only table."""
        return self.result.outcome

    @property
    def result(self) -> ResetResult:
        """The only table's."""
        (only,) = self.results
        return only


class World:
    """Where a reset runs: `lab`, `store` and the jobs."""

    def __init__(
        self,
        lab: LabCrateDB,
        home: Path,
        instance: dg.DagsterInstance,
        store: StateStore,
        said: Callable[[], str],
    ) -> None:
        self.lab = lab
        self.home = home
        self.store = store
        self.user = ""
        #: Where the jobs here look for the cluster, '' for where it is.
        self.hosts = ""
        self.statement_timeout_s = 5.0
        self._instance = instance
        self._said = said
        self._events: list[dict[str, Any]] = []

    # --- the cluster ----------------------------------------------------------------------

    def table(self, name: Any, **properties: Any) -> Any:
        """Return the table; a new one has a replica whose translog is twice too large."""
        return self.lab.table(name, **{"sick_mb": 1200, "shards": 2} | properties)

    def fault(self, match: str, action: Action = Action.WATCH, **rule: Any) -> Fault:
        """Let the cluster misbehave for the statements that match."""
        return self.lab.faults.add(Fault(match, action, **rule))

    def on_zero(self, action: Action = Action.WATCH, **rule: Any) -> Fault:
        """Misbehave for the first ALTER, which is the SET to 0."""
        return self.fault(SET_REPLICAS, action, **{"times": 1} | rule)

    def on_restore(self, action: Action = Action.WATCH, **rule: Any) -> Fault:
        """Misbehave for what is altered after the first SET to 0."""
        return self.fault(SET_REPLICAS, action, **{"after_matches": 1} | rule)

    @property
    def changes(self) -> list[Entry]:
        """Every statement so far that is no query, as CrateDB received it."""
        return [entry for entry in self.lab.journal if not entry.stmt.lstrip().startswith("SELECT")]

    @property
    def altered(self) -> list[tuple[str, str]]:
        """(table, replicas) of every ALTER so far, applied or not."""
        return [
            (entry.stmt.split(" SET ")[0].removeprefix("ALTER TABLE "), entry.args[-1])
            for entry in self.changes
            if entry.stmt.startswith("ALTER TABLE") and entry.args
        ]

    # --- the jobs -------------------------------------------------------------------------

    def reset(self, **options: Any) -> Run:
        """Run `translog_reset` here."""
        return self._run("translog_reset", {**SHORT, **options}, "record_resets")

    def restore(self, **options: Any) -> Run:
        """Run `translog_restore` here."""
        short = {key: SHORT[key] for key in _OF_RESTORES}
        return self._run("translog_restore", {**short, **options}, "record_restores")

    def _run(self, job: str, options: dict[str, Any], last: str) -> Run:
        result = defs.resolve_job_def(job).execute_in_process(
            instance=self._instance,
            run_config=options,
            resources=self.resources,
            raise_on_error=False,
        )
        try:
            report = result.output_for_node(last)
        except (dg.DagsterInvariantViolationError, KeyError):
            report = None
        return Run(
            result.success,
            result.run_id,
            report.exit_code if report else None,
            report.results if report else (),
            _failure(result),
        )

    @property
    def resources(self) -> dict[str, Any]:
        """What the jobs are given here; in a process of their own it is the environment."""
        return {
            "cratedb": CrateDBResource(
                hosts=self.hosts or self.lab.connection_string,
                username=self.user,
                statement_timeout_s=self.statement_timeout_s,
            ),
            "state": StateStoreResource(url=self.store_url),
        }

    def start(self, job: str = "translog_reset", **options: Any) -> subprocess.Popen[str]:
        """Run a job in a process of its own, as an operator's shell would."""
        keys = SHORT.keys() if job == "translog_reset" else _OF_RESTORES
        short = {key: SHORT[key] for key in keys}
        environ = {
            **os.environ,
            "DAGSTER_HOME": str(self.home),
            "CRATE_CONNECTION_STRING": self.lab.connection_string,
            "CARETAKER_STATE_URL": self.store_url,
            "CARETAKER_LOG_FORMAT": "json",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.Popen(
            [sys.executable, str(RUN_JOB), job, json.dumps({**short, **options})],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # --- what is left behind --------------------------------------------------------------

    @property
    def store_url(self) -> str:
        """Where tickets are."""
        return f"sqlite:///{self.home / 'caretaker.db'}"

    @property
    def open_tickets(self) -> list[ResetTicket]:
        """Promises that were not honoured yet."""
        return self.store.open_tickets()

    @property
    def recorded(self) -> list[OutcomeRow]:
        """Outcomes in the store, oldest first."""
        return self.store.outcomes()[::-1]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Everything our runs in this process have said, a flat object a line."""
        for line in self._said().splitlines():
            if line.startswith("{"):
                self._events.append(json.loads(line))
        return self._events

    def said(self, event: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [one for one in self.events if one["event"] == event]

    def break_store(self, table: str, what: str = "INSERT") -> None:
        """Let the store refuse such writes to one of its tables."""
        self._on_file(_TRIGGER.format(name=f"broken_{table}_{what}", table=table, what=what))

    def mend_store(self, table: str, what: str = "INSERT") -> None:
        """Let it take them again."""
        self._on_file(f"DROP TRIGGER broken_{table}_{what}")

    def look_into_store(self, query: str) -> list[tuple[Any, ...]]:
        """Read the file as another program would: only what is durable is seen."""
        return self._on_file(query)

    def _on_file(self, statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.home / "caretaker.db")
        try:
            with connection:
                return connection.execute(statement).fetchall()
        finally:
            connection.close()


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a run of its own and return what it printed last; {} where it was killed."""
    # Only an end to a hang: two runs at once on a busy machine have needed more than 120 s.
    out, err = process.communicate(timeout=600)
    if process.returncode == -signal.SIGKILL:
        return {}
    lines = out.strip().splitlines()
    assert lines, err[-4000:]
    printed: dict[str, Any] = json.loads(lines[-1])
    return printed


def _failure(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None:
                return str(data.user_failure_data.description)
            assert data.error is not None
            return str(data.error)
    return ""


def refuses_to_start(run: Run, world: World) -> None:
    """A refused run touches nothing: no change sent, no ticket, no outcome."""
    if run.success:
        pytest.fail("the run went ahead")
    assert world.changes == []
    assert world.open_tickets == []
    assert world.recorded == []
