"""Two controllers at once: nothing is done twice, nothing swings, and one says it stands back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from caretaker.strategies.cycle import plan
from caretaker.strategies.outcome import Outcome
from lab.faults import Fault
from lab.materialize import LabMaterialize
from ops.strategies_apply import apply, record
from resources.materialize.store import StateRow
from tests.strategy_runs.bench import Bench, Controller, settle
from tests.strategy_runs.scenes import BURST, IDLE, RESIZE, TARGET, Scene

PATIENCE_S = 60.0


class Act:
    """A controller that has looked and planned, and whose apply is paused at a statement."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self._paused, self._go_on = threading.Event(), threading.Event()
        self._looked, self._begin = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._seen = 0
        self._until = 0

    def look(self) -> Act:
        """Observe and plan, and wait."""
        self._thread.start()
        assert self._looked.wait(PATIENCE_S)
        return self

    def apply_until(self, number: int) -> None:
        """Go on until before the n-th statement, or until the end."""
        self._until = number
        rule = Fault(user=self.controller.user, before=self._pause)
        self.controller.bench.lab.faults.add(rule)
        self._begin.set()
        assert self._paused.wait(PATIENCE_S)

    def finish(self) -> None:
        self._go_on.set()
        self._begin.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    @property
    def came_so_far(self) -> bool:
        return self._seen >= self._until

    def _pause(self, _: object) -> None:
        self._seen += 1
        if self._seen == self._until:
            self._paused.set()
            assert self._go_on.wait(PATIENCE_S)

    def _run(self) -> None:
        controller = self.controller
        run_id = f"run-of-{controller.name}"
        try:
            with controller.opened() as (source, store):
                observed = controller.look(source, store, run_id)
                planned = plan(observed, controller.policy)
                hands = controller.hands(source, store, run_id)
                self._looked.set()
                assert self._begin.wait(PATIENCE_S)
                outcome = apply(planned, observed, hands)
                self.outcome = record(outcome, planned, observed, hands)
        except BaseException as error:  # noqa: BLE001 - told by whoever waits for us
            self.error = error
        finally:
            self._looked.set()
            self._paused.set()


def two(scene: Scene, play: Callable[[Bench, Act, Act], bool]) -> bool:
    """Set the scene, let two controllers with locks of their own look, and play."""
    with LabMaterialize(boot_s=2, hydrate_s=5, restart_s=2, speed=0.0) as lab:
        for user in ("one", "two"):
            lab.create_user(user, superuser=True)
        bench = Bench(lab)
        scene.prepare(bench)
        first = Act(bench.controller("lock-one", user="one")).look()
        second = Act(bench.controller("lock-two", user="two")).look()
        more = play(bench, first, second)
        assert (first.error, second.error) == (None, None)
        lab.faults.clear()
        assert all(count == 1 for count in bench.done().values()), bench.done()
        _one_stands_back(bench, first, second)
        # What both left open or undone, a later cycle settles, once neither can be at work.
        bench.pass_(7200 if scene is not IDLE else 200)
        settle(bench, bench.controller("lock-one", user="one"))
        assert lab.replicas("prod") == scene.wanted
        assert bench.done() == bench.said()
        assert all(count == 1 for count in bench.done().values()), bench.done()
        return more


def _one_stands_back(bench: Bench, first: Act, second: Act) -> None:
    """Of two that wanted the same, at most one did it, and the other says why it did not."""
    outcomes: list[Any] = [first.outcome, second.outcome]
    executed = [outcome.count("executed") for outcome in outcomes]
    back = [outcome for outcome in outcomes if outcome.stood_back]
    assert not (executed[0] and executed[1]), (bench.audit(), executed)
    assert back, bench.audit()
    assert all("stands back" in reason for one in back for reason in one.stood_back)
    assert [one.failures for one in outcomes] == [[], []]


def test_interleaved_at_each_statement_nothing_is_done_twice():
    """The first stops before its i-th statement, the second before its j-th; both have planned."""
    reached = 0
    i = 1
    while True:
        j, more = 1, True
        while more:

            def play(_: Bench, first: Act, second: Act, i: int = i, j: int = j) -> bool:
                first.apply_until(i)
                second.apply_until(j)
                so_far = first.came_so_far, second.came_so_far
                first.finish()
                second.finish()
                nonlocal reached
                reached = max(reached, i if so_far[0] else 0)
                return so_far[1]

            more = two(TARGET, play)
            j += 2
        if reached < i:
            break
        i += 2
    assert reached > 4


@pytest.mark.parametrize("scene", [BURST, IDLE, RESIZE], ids=str)
def test_a_whole_cycle_of_another_at_any_statement_of_ours_is_seen(scene):
    """Ours stops before its i-th statement, and the other one does all it wants."""
    i, more = 1, True
    while more:

        def play(_: Bench, first: Act, second: Act, i: int = i) -> bool:
            first.apply_until(i)
            second.finish()
            so_far = first.came_so_far
            first.finish()
            return so_far

        more = two(scene, play)
        i += 1
    assert i > 5


def test_what_the_other_has_written_meanwhile_is_not_overwritten(bench):
    """Ours had only to forget a burst that is gone; the other one has made a new one since."""
    bench.lab.cluster("prod", {"r1": "25cc"})
    bench.strategy("prod", "burst", burst_replica_size="400cc")
    ours, other = bench.controller("ours"), bench.controller("other", user="other")
    gone = {"burst_replica": {"name": "prod_burst", "id": "u999"}}
    with ours.opened() as (source, store):
        row = StateRow(bench.lab.cluster_id("prod"), "burst", {"version": 1, "payload": gone})
        store.write_state([row], source.identity().now)
        bench.pass_()
        observed = ours.look(source, store, "ours")
        planned = plan(observed, ours.policy)
        bench.lab.crash_replica("prod", "r1")
        other.cycle()
        bench.pass_(1)
        hands = ours.hands(source, store, "ours")
        record(apply(planned, observed, hands), planned, observed, hands)

    assert bench.lab.replicas("prod") == {"r1": "25cc", "prod_burst": "400cc"}
    assert bench.state("prod")["burst"]["burst_replica"]["name"] == "prod_burst"
