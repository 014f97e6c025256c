"""Whatever ends a cycle half-way, the next ones arrive, and the audit says what really happened."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from caretaker.errors import CaretakerError, TransientError
from caretaker.strategies.cycle import plan
from caretaker.strategies.outcome import report
from caretaker.strategies.policy import StrategiesPolicy
from lab.faults import Action, Fault
from lab.materialize import LabMaterialize
from ops.strategies_apply import apply
from tests.strategy_runs.bench import CHANGES, Bench, settle
from tests.strategy_runs.scenes import BURST, IDLE, RESIZE, SHRINK, TARGET, Scene

CHECKOUT = Path(__file__).parents[2]
#: What one wait here takes at most: a child imports for long on a machine that is busy.
PATIENCE_S = 180.0

#: The first statement of a cycle that is there to change something.
BEGINS = "INSERT INTO mz_cluster_strategy_actions"

_CHILD = """
import sys
from caretaker.strategies.cycle import plan
from caretaker.strategies.policy import StrategiesPolicy
from ops.strategies_apply import Hands, apply, record
from ops.strategies_cycle import observe
from resources.materialize.client import Materialize
from resources.materialize.resource import open_store
from resources.materialize.settings import DatabaseSettings
url, store_url = sys.argv[1:]
policy = StrategiesPolicy.checked(mode="apply")
with Materialize(DatabaseSettings.from_url(url)) as source:
    store = open_store(source, store_url)
    observed = observe(source, store, policy, controller="here", run_id="killed")
    planned = plan(observed, policy)
    hands = Hands(source, store, run_id="killed", controller="here")
    record(apply(planned, observed, hands), planned, observed, hands)
print("done")
"""


@contextmanager
def benches(scene: Scene, *, elsewhere: bool = False) -> Iterator[Bench]:
    """A fresh lab where the scene is set."""
    with LabMaterialize(boot_s=2, hydrate_s=5, restart_s=2, speed=0.0) as lab:
        bench = Bench(lab, elsewhere=elsewhere)
        scene.prepare(bench)
        yield bench


def arrives(bench: Bench, scene: Scene) -> None:
    """The next cycles do the rest, and nothing is left open or said that is not so."""
    settle(bench, bench.controller())
    assert bench.lab.replicas("prod") == scene.wanted
    assert bench.done() == bench.said()
    assert all(executed is not None for _, executed, _ in bench.audit())
    assert all(count == 1 for count in bench.done().values())


def lost_at(bench: Bench, number: int, action: Action) -> bool:
    """Run a cycle whose connection is lost at the n-th statement of its apply.

    Returns whether it came so far.
    """
    faults = bench.lab.faults

    def lose(_: object) -> None:
        faults.add(Fault(after_matches=number - 1, times=1, action=action))

    if number:
        faults.add(Fault(match=BEGINS, times=1, before=lose))
    else:
        faults.add(Fault(match=BEGINS, times=1, action=action))
    with contextlib.suppress(CaretakerError):
        bench.controller().cycle()
    rule = faults.shown()[-1]
    faults.clear()
    return bool(rule["fired"]) and rule["action"] == action


@pytest.mark.parametrize("action", [Action.RESET_BEFORE, Action.RESET_AFTER], ids=str)
@pytest.mark.parametrize("scene", [BURST, SHRINK], ids=str)
def test_a_connection_lost_at_any_statement_of_apply_costs_no_more_than_a_cycle(scene, action):
    """Before Materialize did what it was told, and after."""
    number = 0
    while True:
        with benches(scene) as bench:
            lost = lost_at(bench, number, action)
            bench.pass_()
            arrives(bench, scene)
        if not lost:
            break
        number += 1
    assert number > 7


def test_a_connection_lost_while_it_looks_changes_nothing(here):
    """Whichever statement it is: the step may be tried again."""
    TARGET.prepare(here)
    before = here.lab.replicas("prod")
    number = 0
    while True:
        begun: list[object] = []
        here.lab.faults.add(Fault(match=BEGINS, before=begun.append))
        here.lab.faults.add(Fault(after_matches=number, times=1, action=Action.RESET_BEFORE))
        error = None
        try:
            here.controller().cycle()
        except CaretakerError as raised:
            error = raised
        here.lab.faults.clear()
        if begun:
            break
        assert isinstance(error, TransientError), error
        assert (here.lab.replicas("prod"), here.audit()) == (before, [])
        number += 1
    assert number > 20


@pytest.mark.parametrize("scene", [TARGET, BURST, SHRINK, IDLE, RESIZE], ids=str)
@pytest.mark.parametrize("action", [Action.RESET_BEFORE, Action.RESET_AFTER], ids=str)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["in_materialize", "in_postgresql"])
def test_the_change_itself_without_an_answer_is_looked_at(scene, action, elsewhere):
    with benches(scene, elsewhere=elsewhere) as bench:
        bench.lab.faults.add(Fault(match=CHANGES, times=1, action=action))
        cycle = bench.controller().cycle()
        _, first = next(cycle.outcome.actions())
        if action == Action.RESET_AFTER:
            assert first.executed is True
            assert "it was done" in first.error
        else:
            assert first.executed is None
            assert cycle.outcome.failures
        bench.pass_()
        arrives(bench, scene)


def killed_at(bench: Bench, number: int, *, after: bool) -> bool:
    """Run a cycle in a process of its own, and kill it at the n-th statement of its apply.

    Returns whether it came so far.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, bench.lab.url, bench.store_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])},
    )
    seen = 0

    def kill(entry: object) -> None:
        nonlocal seen
        if seen or getattr(entry, "stmt", "").startswith(BEGINS):
            seen += 1
        if seen == number:
            process.kill()
            process.wait(PATIENCE_S)

    bench.lab.faults.add(Fault(after=kill) if after else Fault(before=kill))
    said, _ = process.communicate(timeout=PATIENCE_S)
    bench.lab.faults.clear()
    if process.returncode == 0:
        assert said.splitlines()[-1] == "done"
        return False
    assert process.returncode == -9, said
    return True


@pytest.mark.parametrize("after", [False, True], ids=["before_it_is_done", "after_it_is_done"])
def test_killed_with_9_at_any_statement_of_apply_the_next_cycle_converges(after):
    """A burst replica whose run did not live to remember it is remembered all the same."""
    number = 1
    while True:
        with benches(BURST) as bench:
            killed = killed_at(bench, number, after=after)
            bench.pass_()
            arrives(bench, BURST)
        if not killed:
            break
        number += 1
    assert number > 8


@pytest.mark.parametrize("after", [False, True], ids=["before_it_is_done", "after_it_is_done"])
def test_killed_while_the_tables_are_elsewhere_the_next_cycle_converges(after):
    for number in (1, 2, 3):
        with benches(BURST, elsewhere=True) as bench:
            _kill_at_change(bench, number, after=after)
            bench.pass_()
            arrives(bench, BURST)


def _kill_at_change(bench: Bench, number: int, *, after: bool) -> None:
    """As `killed_at`, for the statements that Materialize sees: look, change, look."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, bench.lab.url, bench.store_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])},
    )
    look = r"LEFT JOIN mz_catalog.mz_cluster_replicas r ON r.cluster_id = c.id"

    def kill(_: object) -> None:
        process.kill()
        process.wait(PATIENCE_S)

    rule = Fault(
        match=CHANGES if number == 2 else look,
        before=None if after else kill,
        after=kill if after else None,
        after_matches=1 if number == 3 else 0,
        times=1,
    )
    bench.lab.faults.add(rule)
    process.communicate(timeout=PATIENCE_S)
    bench.lab.faults.clear()
    assert process.returncode == -9


def test_an_answer_that_never_comes_is_no_reason_to_wait_for_ever(here):
    """The server did it and says nothing: cancelled at the deadline, looked at, found done."""
    TARGET.prepare(here)
    here.lab.faults.add(Fault(match=CHANGES, times=1, action=Action.HANG))
    controller = here.controller(timeout_s=5.0)

    cycle = controller.cycle()

    _, first = next(cycle.outcome.actions())
    assert (first.executed, cycle.outcome.failures) == (True, [])
    assert "no answer within 5 s" in first.error
    here.pass_()
    arrives(here, TARGET)


def test_what_lands_late_is_found_by_the_next_cycle(here):
    """No answer, and not there either: the audit says so, and then what became of it."""
    BURST.prepare(here)
    here.lab.faults.add(Fault(match=CHANGES, times=1, action=Action.LATE, seconds=30))

    here.controller(timeout_s=5.0).cycle()
    before = here.audit()
    here.pass_(31)
    here.lab.faults.clear()

    assert [executed for _, executed, _ in before] == [None]
    assert "the next cycle looks again" in str(before[0][2])
    deadline = PATIENCE_S
    while "prod_burst" not in here.lab.replicas("prod") and deadline > 0:
        here.lab.advance(0.1)
        deadline -= 0.1
    assert "prod_burst" in here.lab.replicas("prod")
    here.pass_(100)
    arrives(here, BURST)
    assert [executed for _, executed, _ in here.audit()] == [True, True]


def test_a_server_that_is_away_ends_the_cycle_and_not_the_promise(here):
    """It goes down with the answer, and comes back."""
    BURST.prepare(here)

    def crash(_: object) -> None:
        here.lab.crash()

    here.lab.faults.add(Fault(match=CHANGES, times=1, after=crash))
    cycle = here.controller().cycle()
    assert cycle.outcome.failures
    here.lab.restart()
    here.lab.faults.clear()
    assert [executed for _, executed, _ in here.audit()] == [None]
    here.pass_()

    arrives(here, BURST)


def test_what_was_executed_is_reported_so_although_the_tables_went_away(bench):
    """The state cannot be written behind the first action, nor the next intents."""
    SHRINK.prepare(bench)
    controller = bench.controller()
    with controller.opened() as (source, store):
        observed = controller.look(source, store, "run")
        planned = plan(observed, controller.policy)
        hands = controller.hands(source, store, "run")

        def away(*_: object) -> None:
            raise TransientError("the tables are away", target="tables")

        hands.store.write_state = away
        outcome = apply(planned, observed, hands)
    told = report(controller.policy.mode, observed, planned, outcome)

    states = [(one["sql"], one["state"]) for one in told["actions"]]
    done = bench.done()
    assert len(states) == 3
    assert sum(done.values()) == 1
    assert {sql for sql, state in states if state == "executed"} == set(done)
    assert {state for sql, state in states if sql not in done} == {"not_executed"}
    bench.pass_()
    arrives(bench, SHRINK)


def test_a_replacement_of_which_only_the_drop_was_done_leaves_no_empty_cluster(here):
    """With downtime allowed the old one goes first; nobody waits for what was never created."""
    here.lab.cluster("prod", {"r1": "25cc"})
    here.strategy("prod", "target_size", target_size="50cc", replica_name="r1")
    policy = StrategiesPolicy.checked(mode="apply", allow_downtime=True)
    rule = Fault(match="(?i)^create cluster replica", action=Action.ERROR, times=1)
    here.lab.faults.add(rule)
    first = here.controller(policy=policy).cycle()
    assert first.outcome.failures
    assert here.lab.replicas("prod") == {}

    here.pass_(60)
    here.controller(policy=policy).cycle()

    assert here.lab.replicas("prod") == {"r1": "50cc"}
