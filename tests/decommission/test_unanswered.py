"""What was sent and never answered, or not seen yet: it may still land, and nothing is built on it.

The witness of the world raises where a node is lost, shards are missing or a node leaves twice.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from caretaker.decommission.cluster_settings import ALLOCATION, FORCE, MIN_AVAILABILITY, TIMEOUT
from caretaker.decommission.model import KubeSeen, Observation, WindowVerdict
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.putting_back import SHORT_TIMEOUT
from caretaker.decommission.restart import next_step, resumed, stopped
from caretaker.decommission.steps import (
    Action,
    Answer,
    Await,
    Conclude,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    RestartOutcome,
    SetGlobal,
    Verdict,
)
from caretaker.decommission.ticket import DecommissionState, Drain, PodProgress, RestartTicket
from tests.decommission.simulated_kube import Pod, restricted
from tests.decommission.world import POD_2, KilledError, Runner, World, a_world, killed_when


class InterruptedError_(BaseException):  # noqa: N801 - Terminate, as Dagster raises it
    """A stop in the middle of a statement."""


def under_way(runner: Runner) -> PodProgress:
    current = runner.ticket.current
    assert current is not None
    return current


def drain_of(runner: Runner) -> Drain:
    drain = under_way(runner).drain
    assert drain is not None
    return drain


def drains(seen: Observation, *, now: bool) -> Observation:
    """Let the node under way say whether it drains."""
    assert seen.crate is not None
    nodes = tuple(
        replace(node, draining=now) if node.name == "data-hot-2" else node
        for node in seen.crate.nodes
    )
    return replace(seen, crate=replace(seen.crate, nodes=nodes))


def without(seen: Observation) -> Observation:
    """Miss the node under way."""
    assert seen.crate is not None
    nodes = tuple(node for node in seen.crate.nodes if node.name != "data-hot-2")
    return replace(seen, crate=replace(seen.crate, nodes=nodes))


def steps(world: World, ticket: RestartTicket, seen: Observation, *at: float) -> list[Any]:
    """Return what is asked for at these seconds from now, where nothing changes."""
    found, now = [], world.time.now
    for seconds in at:
        step = next_step(seen, ticket, ticket.policy, now + timedelta(seconds=seconds))
        ticket = step.ticket
        found.append(step.action)
    return found


def test_a_stop_in_the_middle_of_a_set_waits_until_it_can_land_no_more():
    world = a_world()
    runner = Runner(world)
    apply = runner._perform

    def perform(action: Action) -> Answer:
        if isinstance(action, SetGlobal) and action.key == ALLOCATION:
            late = replace(action)
            world.time.after(6.0, lambda: runner._apply_late(late))
            raise InterruptedError_
        return apply(action)

    runner._perform = perform  # type: ignore[method-assign]
    with pytest.raises(InterruptedError_):
        runner.start(POD_2)
    runner._perform = apply  # type: ignore[method-assign]
    runner._save(stopped(runner.ticket, world.time.now))

    assert runner.run() is RestartOutcome.STOPPED
    world.time.advance(100)
    world.check_settings()


@pytest.mark.parametrize("how", ["unanswered", "killed"])
def test_a_reset_that_lands_late_does_not_take_an_operators_value_with_it(how):
    world = a_world()
    world.crate.set_global(TIMEOUT, "600s", persistent=True)
    world.promise()
    runner = Runner(world)
    late: list[ResetGlobal] = []

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, ResetGlobal) or late:
            return None
        late.append(action)
        world.time.after(12.0, lambda: world.crate.reset_global(action.keys))
        if how == "killed":
            raise KilledError
        return Answer(Verdict.UNKNOWN, "timed out")

    runner.answers = answers
    try:
        outcome = runner.start(POD_2)
    except KilledError:
        outcome = runner.take_over()

    world.time.advance(100)
    assert outcome is RestartOutcome.COMPLETED
    assert late
    world.check_settings()


def test_a_node_that_nobody_can_ask_is_drained_again_only_where_it_might_be_drained_at_all():
    """Killed before the statement left: sent by the next one, it would be the first."""
    world = a_world()
    world.probes = False
    runner = killed_when(Runner(world), "remembered", "drain")
    ticket = resumed(runner.ticket, world.time.now)
    world.time.advance(20)
    seen = world.observe(None)
    assert seen.crate is not None
    unfit = replace(
        seen,
        window=WindowVerdict(open=False, why="closed"),
        crate=replace(seen.crate, health="YELLOW", underreplicated_shards=7),
    )

    asked = steps(world, ticket, unfit, 0, 30, 61, 64)
    told_to_stop = steps(world, stopped(ticket, world.time.now), seen, 0, 30, 61, 64)
    fit = steps(world, ticket, seen, 0, 30, 61, 64)

    assert {type(action) for action in asked} == {Await}
    assert {type(action) for action in told_to_stop} == {Await}
    assert any(isinstance(action, DecommissionNode) for action in fit)


def test_a_node_that_was_away_since_its_drain_returned_is_another_process_and_not_killed():
    world = a_world()
    world.probes = False
    runner = killed_when(Runner(world), "noted", "drain")
    now = world.time.now
    came_back = replace(
        under_way(runner),
        drain=replace(drain_of(runner), returned_at=now - timedelta(seconds=12)),
        absent_at=now - timedelta(seconds=5),
    )
    seen = world.observe(None)
    assert seen.crate is not None
    empty = tuple(
        replace(node, primaries=0, copies=0) if node.name == "data-hot-2" else node
        for node in seen.crate.nodes
    )
    seen = replace(seen, crate=replace(seen.crate, nodes=empty, sole=()))

    asked = steps(world, runner.ticket.with_pod(came_back), seen, 0, 2, 4)

    assert not any(isinstance(action, DeletePod) for action in asked)


def test_one_look_that_fails_after_a_long_time_without_an_owner_is_no_end():
    world = a_world()
    runner = killed_when(Runner(world), "noted", "drain")
    long_ago = world.time.now - timedelta(hours=2)
    ticket = resumed(replace(runner.ticket, blind_since=long_ago), world.time.now)
    seen = replace(world.observe(None), kube=None, kube_error="503")

    [asked] = steps(world, ticket, seen, 0)

    assert isinstance(asked, Await)


def test_whoever_takes_over_between_two_pods_has_the_whole_time_to_see_it_come_to_rest():
    world = a_world()
    runner = Runner(world)

    def touch(what: str) -> None:
        if what == "waited" and runner.ticket.resting_since and not runner.ticket.current:
            raise KilledError

    runner.touch = touch
    with pytest.raises(KilledError):
        runner.start()
    runner.touch = lambda _: None
    world.time.advance(3600)

    assert runner.take_over() is RestartOutcome.COMPLETED
    world.check_restarted(world.pods)


@pytest.mark.parametrize("taken_over_after_s", [2560, 2700, 7200])
def test_a_drain_that_is_sent_late_has_as_much_time_as_any(taken_over_after_s):
    """Given up before that, its settings would be reset in the middle of it."""
    world = a_world()
    runner = killed_when(Runner(world), "remembered", "drain")
    world.time.advance(taken_over_after_s)
    ticket = resumed(runner.ticket, world.time.now)
    seen = world.observe(None)
    sent: list[int] = []
    for second in range(0, 1200, 5):
        step = next_step(
            drains(seen, now=bool(sent)),
            ticket,
            ticket.policy,
            world.time.now + timedelta(seconds=second),
        )
        ticket = step.ticket
        if isinstance(step.action, DecommissionNode):
            sent.append(second)
        assert not isinstance(step.action, ResetGlobal | Conclude), f"after {second} s"
    assert len(sent) == 1


def test_looks_that_miss_a_draining_node_now_and_then_put_nothing_back():
    """A RESET would end its drain."""
    world = a_world()
    runner = killed_when(Runner(world), "noted", "drain")
    there = drains(world.observe(runner._drain_call()), now=True)
    ticket = runner.ticket
    for second in range(61):
        seen = there if second % 12 else without(there)
        now = world.time.now + timedelta(seconds=second)
        step = next_step(seen, ticket, ticket.policy, now)
        ticket = step.ticket
        assert not isinstance(step.action, ResetGlobal), f"after {second} s"


def test_the_node_in_the_pod_counts_and_not_its_namesake_elsewhere():
    """Its namesake drains, and is empty; the pod's own has primaries and serves."""
    world = a_world()
    runner = killed_when(Runner(world), "noted", "drain")
    current = under_way(runner)
    now = world.time.now
    back = replace(current, drain=replace(drain_of(runner), returned_at=now))
    seen = drains(world.observe(None), now=False)
    assert seen.crate is not None
    own = next(node for node in seen.crate.nodes if node.name == "data-hot-2")
    twin = replace(own, id="id-cold", hostname="crate-cold-2", primaries=0, copies=0, draining=True)
    nodes = (twin, *seen.crate.nodes)
    seen = replace(seen, crate=replace(seen.crate, nodes=nodes, sole=()))

    asked = steps(world, runner.ticket.with_pod(back), seen, 0, 1, 2)

    assert not any(isinstance(action, DeletePod) for action in asked)


def test_an_old_crash_is_not_taken_for_a_hook_that_failed():
    """The container that was seen to run last had ended with 137 a week before."""
    world = a_world("kubernetes_managed")
    world.kube.pods[POD_2].exit_code = 137
    runner = Runner(world)
    seen_gone = world.kube.seen

    def last_seen_running(lag_s: float = 0.0) -> KubeSeen:
        found = seen_gone(lag_s)
        gone = tuple(
            replace(pod, container=replace(pod.container, running=True, exit_code=137))
            for pod in found.gone
            if pod.container is not None
        )
        return replace(found, gone=gone)

    world.kube.seen = last_seen_running  # type: ignore[method-assign]
    assert runner.start(POD_2) is RestartOutcome.COMPLETED


def test_a_delete_that_was_not_sent_is_decided_anew():
    """Back where a look is fresh and an eviction is asked for."""
    world = a_world("kubernetes_managed")
    runner = Runner(world)
    refused: list[DeletePod] = []

    def once(action: Action) -> Answer | None:
        if isinstance(action, DeletePod) and not refused:
            refused.append(action)
            return Answer(Verdict.CONFLICT, "409")
        return None

    states: list[DecommissionState] = []

    def note(runner: Runner) -> None:
        if refused and runner.ticket.current is not None and not states:
            states.append(runner.ticket.current.state)

    runner.answers, runner.between = once, note
    assert runner.start(POD_2) is RestartOutcome.COMPLETED
    assert states == [DecommissionState.PREPARING]


def loses_its_first_delete(runner: Runner, how: str, lands_after_s: float | None) -> None:
    """Let nobody hear of it, and land it so much later; None: never."""
    lost: list[DeletePod] = []

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, DeletePod):
            return None
        if lost:
            return Answer(Verdict.REFUSED, "Forbidden") if how == "then refused" else None
        lost.append(action)
        if lands_after_s is not None:
            runner.world.time.after(lands_after_s, lambda: runner._apply_late(action))
        if how == "interrupted":
            raise InterruptedError_
        if how == "killed":
            raise KilledError
        return Answer(Verdict.UNKNOWN, "timed out")

    def stop(runner: Runner) -> None:
        if lost and not runner.ticket.stop:
            runner._save(stopped(runner.ticket, runner.world.time.now))

    runner.answers = answers
    if how != "then refused":
        runner.between = stop


def seen_through(runner: Runner) -> RestartOutcome:
    """Restart a pod to the end, whether its run is killed or interrupted on the way."""
    try:
        return runner.start(POD_2)
    except KilledError:
        return runner.take_over()
    except InterruptedError_:
        return runner.run()


@pytest.mark.parametrize("lands_after_s", [4.0, 30.0, 59.0])
@pytest.mark.parametrize("how", ["unanswered", "interrupted", "killed", "then refused"])
def test_a_delete_that_lands_late_is_seen_to_its_end_before_a_restart_is_over(how, lands_after_s):
    """Taken for none, dc_util would drain and leave its settings behind after the last word."""
    world = a_world("kubernetes_managed")
    world.crate.set_global(TIMEOUT, "900s", persistent=True)
    world.promise()
    runner = Runner(world)
    loses_its_first_delete(runner, how, lands_after_s)

    outcome = seen_through(runner)

    # The delete had landed, so the pod was restarted as it was to be.
    assert outcome in {RestartOutcome.STOPPED, RestartOutcome.COMPLETED}
    assert world.deletes == [POD_2]
    world.check_settings()
    world.time.advance(900)
    assert world.deletes == [POD_2]
    world.check_restarted([POD_2])
    world.check_settings()


@pytest.mark.parametrize("how", ["unanswered", "interrupted", "killed", "then refused"])
def test_a_delete_that_never_lands_is_waited_for_no_longer_than_it_could(how):
    world = a_world("kubernetes_managed")
    runner = Runner(world)
    loses_its_first_delete(runner, how, None)

    outcome = seen_through(runner)

    refused = how == "then refused"
    assert outcome is (RestartOutcome.FAILED if refused else RestartOutcome.STOPPED)
    assert world.deletes == []
    assert 60 < world.time.t < 100
    wait = runner.waits[-1]
    assert f"a delete of pod {POD_2} that was never answered to land" in wait.sentence()
    assert wait.how_far == ("Failed to delete pod: Forbidden" if refused else runner.ticket.stop)


def test_a_delete_that_was_refused_is_waited_for_by_nobody():
    world = a_world("kubernetes_managed")
    runner = Runner(world)

    def refused(action: Action) -> Answer | None:
        return Answer(Verdict.REFUSED, "Forbidden") if isinstance(action, DeletePod) else None

    def stop(runner: Runner) -> None:
        current = runner.ticket.current
        if current is not None and current.delete_refused:
            runner._save(stopped(runner.ticket, world.time.now))

    runner.answers, runner.between = refused, stop

    assert runner.start(POD_2) is RestartOutcome.STOPPED
    assert world.time.t < 10


def test_a_stuck_pod_is_given_up_in_time_although_a_stop_cannot_know_its_delete_was_answered():
    world = a_world("kubernetes_managed")
    runner = killed_when(Runner(world), "noted", "deleted_at")
    late_s = under_way(runner).grace_s + 1000
    told = stopped(runner.ticket, world.time.now + timedelta(seconds=late_s - 1))

    [asked] = steps(world, told, world.observe(None), late_s)

    assert isinstance(asked, ResetGlobal)


@pytest.mark.parametrize("told_after_s", [3.0, 12.0])
def test_a_delete_that_the_watch_tells_late_is_not_taken_for_none(told_after_s):
    """dc_util drains meanwhile: what it runs and sets is nobody else's."""
    world = a_world("kubernetes_managed")
    world.lag_s = told_after_s

    runner = Runner(world)
    outcome = runner.start(POD_2)

    assert outcome is RestartOutcome.COMPLETED
    assert [type(action) for action in runner.effects if isinstance(action, DeletePod)] == [
        DeletePod
    ]
    world.check_settings()


@pytest.mark.parametrize("strategy", ["manual", "kubernetes_managed"])
def test_pods_that_lost_their_statefulset_are_not_taken_for_gone(strategy):
    """`kubectl delete sts --cascade=orphan`, as it is done to grow volumes."""
    world = a_world(strategy)
    runner = killed_when(Runner(world), "noted", "drain" if strategy == "manual" else "deleted_at")
    world.time.advance(0.1)
    seen = world.observe(runner._drain_call())
    assert seen.kube is not None
    orphaned = replace(seen, kube=replace(seen.kube, pods=(), statefulsets=()))

    asked = steps(world, runner.ticket, orphaned, 0, 2, 4, 6, 100, 185)

    assert not any(isinstance(action, ResetGlobal) for action in asked)


@pytest.mark.parametrize("still", ["running", "terminating"])
def test_a_machine_that_dies_in_the_middle_of_a_drain_does_not_keep_allocation_restricted(still):
    world = a_world()
    world.excused = True
    world.kube.frozen_kubelets.add(POD_2)
    runner = Runner(world)

    def die(runner: Runner) -> None:
        current = runner.ticket.current
        gone = not world.crate.nodes["data-hot-2"].member
        begun = current and (current.deleted_at if still == "terminating" else current.drain)
        if begun and not gone:
            world.crate.leave(world.crate.nodes["data-hot-2"])

    free_at: list[float] = []

    def note(runner: Runner) -> None:
        die(runner)
        gone = not world.crate.nodes["data-hot-2"].member
        if gone and not restricted(world.crate) and not free_at:
            free_at.append(world.time.t)

    runner.between = note
    began = world.time.t
    outcome = runner.start(POD_2)

    assert outcome is RestartOutcome.FAILED
    assert free_at
    assert free_at[0] - began < 120
    world.check_settings()


def test_what_an_operator_restricts_during_a_managed_drain_stays_restricted():
    world = a_world("kubernetes_managed")
    world.excused = True
    runner = Runner(world)

    def restrict(runner: Runner) -> None:
        if any(not node.member for node in world.crate.nodes.values()):
            world.crate.set_global(ALLOCATION, "none", persistent=True)
            runner.between = lambda _: None

    runner.between = restrict
    runner.start(POD_2)

    assert world.crate.effective(ALLOCATION) == "none"
    assert any("left alone" in note for note in runner.ticket.pods[0].notes)
    for key in (TIMEOUT, FORCE, MIN_AVAILABILITY):
        assert world.crate.effective(key) == world.before[key]


def test_a_timeout_that_is_not_the_hooks_is_put_back_and_said():
    world = a_world("kubernetes_managed")
    world.crate.set_global(TIMEOUT, "600s", persistent=True)
    world.promise()
    runner = Runner(world)

    def change(runner: Runner) -> None:
        if any(not node.member for node in world.crate.nodes.values()):
            world.crate.set_global(TIMEOUT, "1800s", persistent=True)
            world.crate.transient.pop(TIMEOUT, None)
            runner.between = lambda _: None

    runner.between = change
    runner.start(POD_2)

    assert any("'1800s'" in note for note in runner.ticket.pods[0].notes)


@pytest.mark.parametrize("ended_with", [137, 143])
def test_a_hook_that_did_not_drain_ends_the_rolling_restart(ended_with):
    world = a_world("kubernetes_managed")
    world.excused = True
    runner = Runner(world, RestartPolicy())
    end = world.kube._container_ended

    def undrained(pod: Pod, code: int) -> None:  # noqa: ARG001
        end(pod, ended_with)

    world.kube._container_ended = undrained  # type: ignore[method-assign]

    assert runner.start() is RestartOutcome.FAILED
    assert f"exit code {ended_with}" in runner.conclusion.reason
    assert len(world.deletes) == 1
    world.check_settings()


# --- a node that serves, and whose drain must not be sent again -----------------------------------


def restricted_at_last(runner: Runner) -> list[float]:
    """Note every second at which allocation is restricted."""
    seconds: list[float] = []

    def between(_: Runner) -> None:
        if restricted(runner.world.crate):
            seconds.append(runner.world.time.t)

    runner.between = between
    return seconds


@pytest.mark.parametrize("why", ["window", "refused"])
def test_a_takeover_that_must_not_drain_puts_back_as_soon_as_nothing_can_land(why):
    """Not after twice the time of a drain that nobody has begun."""
    world = a_world()
    runner = killed_when(Runner(world), "remembered", "drain")
    asked: list[Action] = []

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, DecommissionNode):
            return None
        asked.append(action)
        return Answer(Verdict.REFUSED, "only a superuser may")

    if why == "window":
        world.window = WindowVerdict(open=False, why="the window is closed")
    runner.answers = answers
    seconds = restricted_at_last(runner)
    taken_over_at = world.time.t

    assert runner.take_over() is RestartOutcome.FAILED
    assert seconds[-1] - taken_over_at < 2 * runner.policy.statement_timeout_s
    assert len(asked) == (0 if why == "window" else 1)
    world.check_restarted([])
    world.check_settings()


@pytest.mark.parametrize("lands_after_s", [4.0, 12.0, 50.0])
def test_a_stop_after_a_decommission_that_nobody_answered_waits_until_it_can_land_no_more(
    lands_after_s,
):
    """Its node would leave unwatched, under settings that are no longer ours."""
    world = a_world()
    runner = Runner(world)

    def drain_late(node: str) -> None:
        world.crate.decommission(node)

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, DecommissionNode):
            return None
        world.time.after(lands_after_s, partial(drain_late, action.node_name))
        return Answer(Verdict.UNKNOWN, "connection reset")

    def between(_: Runner) -> None:
        current = runner.ticket.current
        if current is not None and current.drain is not None and not runner.ticket.stop:
            runner._save(stopped(runner.ticket, world.time.now))

    runner.answers, runner.between = answers, between

    assert runner.start(POD_2) is RestartOutcome.STOPPED
    assert world.time.t > lands_after_s
    assert runner.ticket.pods[0].out_at is not None
    world.check_settings()
    departures = world.crate.nodes["data-hot-2"].departures
    world.time.advance(300)
    assert world.crate.nodes["data-hot-2"].departures == departures
    world.check_settings()


# --- a drain that hangs ---------------------------------------------------------------------------


def test_the_shorter_timeout_of_a_drain_that_hangs_is_sent_until_it_is_there():
    world = a_world()
    world.crate.hung = {"data-hot-2"}
    runner = Runner(world, RestartPolicy.checked(delete_when="exited"))
    cuts: list[Action] = []

    def answers(action: Action) -> Answer | None:
        if isinstance(action, SetGlobal) and action.value == SHORT_TIMEOUT:
            cuts.append(action)
            return Answer(Verdict.UNKNOWN, "connection reset") if len(cuts) == 1 else None
        return None

    runner.answers = answers

    assert runner.start(POD_2) is RestartOutcome.COMPLETED
    assert len(cuts) == 2
    world.check_restarted([POD_2])
    world.check_settings()
