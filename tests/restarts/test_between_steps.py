"""What happens to a job about one pod between its steps, where no loop is at work on it.

One cluster serves all cases. What goes wrong does so where a step looks for its way to CrateDB.
"""

from __future__ import annotations

import itertools
import os

import dagster as dg
import pytest

import console.runs
import ops.decommission_run
import ops.decommission_way
from caretaker.errors import RefusedError, TransientError
from resources import process
from tests.console.conftest import forget_definitions
from tests.restarts.conftest import IMPATIENT, PATIENCE_S, SETTINGS, World

#: Which of the ways is asked for by which step: two come before the first one that may change.
PREPARE, DECOMMISSION = 3, 4

ALLOCATION = "cluster.routing.allocation.enable"


@pytest.fixture(scope="module")
def shared(module_start):
    """Three pods that we drain."""
    return module_start(back_off_s=0.5).pods


@pytest.fixture
def world(shared):
    shared.wait_for("all pods Ready", shared.all_ready, PATIENCE_S)
    shared.crate.journal.clear()
    return World(shared)


@pytest.fixture
def failing(monkeypatch):
    """Let the n-th look for a way to CrateDB raise: `failing({n: error})`; later ones go on."""
    real = ops.decommission_way.crates_of

    def of(errors):
        counted = itertools.count(1)

        def crates_of(*arguments, **options):
            if (error := errors.get(next(counted))) is not None:
                raise error
            return real(*arguments, **options)

        monkeypatch.setattr(ops.decommission_run, "crates_of", crates_of)

    return of


@pytest.fixture
def command(world, caretaker, monkeypatch):
    """The command's environment, for runs that are made without it."""
    found = caretaker(world, address=False)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CRATE_CONNECTION_STRING", raising=False)
    forget_definitions()
    return found


def execute(world, again=None):
    """Run the job for one pod, or the steps of a run that failed once more."""
    with console.runs.dagster_instance() as instance:
        options = dg.ReexecutionOptions.from_failure(again, instance) if again else None
        with dg.execute_job(
            dg.reconstructable(console.runs.pod_decommission),
            instance=instance,
            run_config={**IMPATIENT, "pod": world.pod(2)},
            reexecution_options=options,
            raise_on_error=False,
        ) as result:
            done = result.success
            report = None
            if any(event.step_key == "record_restart" for event in result.all_events):
                report = result.output_for_node("record_restart").clusters[0]
            said = [str(event.message) for event in result.all_events if event.is_step_failure]
            said += [
                str(event.step_failure_data.error.message)
                for event in result.all_events
                if event.is_step_failure and event.step_failure_data.error is not None
            ]
            return result.run_id, done, report, " ".join(said)


def all_is_well(world, command):
    assert world.settings == SETTINGS
    with command.store as store:
        assert store.open_restarts() == []
        assert store.held_locks() == []


def test_what_passes_between_two_steps_delays_a_restart_and_does_not_end_it(
    world, command, failing
):
    away = TransientError("the API server does not answer")
    failing({DECOMMISSION: away, DECOMMISSION + 1: away})

    _, done, report, said = execute(world)

    assert done, said
    assert report.outcome == "COMPLETED"
    assert world.restarted == {"2"}
    all_is_well(world, command)


def test_a_stop_between_two_steps_puts_back_what_was_set_and_drains_nothing(
    world, command, failing
):
    """Terminate reaches a step that is still being made ready, with allocation restricted."""
    failing({DECOMMISSION: dg.DagsterExecutionInterruptedError()})

    _, done, report, _ = execute(world)

    assert not done
    assert report.outcome == "STOPPED"
    assert any(ALLOCATION in change for change in world.changes)
    assert not any("DECOMMISSION" in change for change in world.changes)
    assert world.replaced == set()
    all_is_well(world, command)


def test_steps_executed_again_are_refused_while_another_run_has_the_cluster(
    world, command, failing
):
    failing({PREPARE: RefusedError("not allowed")})
    first, done, _, _ = execute(world)
    assert not done
    with command.store as store:
        assert store.held_locks() == []
        cluster_id = str(world.crate.sql("SELECT id FROM sys.cluster")["rows"][0][0])
        other = process.owner_of_run("a-reset", os.getppid())
        store.acquire_lock(cluster_id, other, purpose="translog_reset", is_dead=lambda *_: False)

    _, done, _, said = execute(world, again=first)

    assert not done
    assert "is locked by run a-reset" in said
    assert world.changes == []
    assert world.replaced == set()


def test_steps_executed_again_take_over_what_the_failed_run_has_left(world, command, failing):
    failing({DECOMMISSION: RefusedError("not allowed")})
    first, done, _, _ = execute(world)
    assert not done
    assert world.settings != SETTINGS
    failing({})

    second, done, report, said = execute(world, again=first)

    assert done, said
    assert report.outcome == "COMPLETED"
    assert world.restarted == {"2"}
    all_is_well(world, command)
    with command.store as store:
        (row,) = store.restarts(include_closed=True)
        assert (row.owner.run_id, row.epoch) == (second, 2)
