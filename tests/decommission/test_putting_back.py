"""Settings afterwards: for every value of before and every point of a death, what was is again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.decommission.cluster_settings import (
    ALLOCATION,
    DEFAULTS,
    FORCE,
    KEYS,
    MIN_AVAILABILITY,
    TIMEOUT,
    same_value,
)
from caretaker.decommission.model import (
    DecommissionStrategy,
    DrainCall,
    KubeSeen,
    MinAvailability,
    Observation,
    StatefulSetSeen,
)
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.putting_back import (
    foreign,
    learn_leftovers,
    next_payment,
    remedy,
    remember,
    setup,
    touching,
)
from caretaker.decommission.restart import after, stopped
from caretaker.decommission.steps import (
    Action,
    Answer,
    DeletePod,
    ResetGlobal,
    RestartOutcome,
    SetGlobal,
    Verdict,
    as_sql,
)
from caretaker.decommission.ticket import DecommissionState, PodProgress, RestartTicket
from caretaker.identifiers import SqlValue
from tests.decommission.test_ticket import NOW
from tests.decommission.world import PROD, Runner, World, a_world

before = st.fixed_dictionaries(
    {},
    optional={
        TIMEOUT: st.sampled_from(["900s", "720s", "2h", "720000ms"]),
        FORCE: st.booleans(),
        MIN_AVAILABILITY: st.sampled_from(["FULL", "PRIMARIES", "NONE"]),
        ALLOCATION: st.just("all"),
    },
)


class Settings:
    """Two levels, the transient one on top; RESET clears both."""

    def __init__(self, persistent: dict[str, SqlValue]) -> None:
        self.persistent = dict(persistent)
        self.transient: dict[str, SqlValue] = {}

    def seen(self) -> dict[str, SqlValue]:
        return {k: self.transient.get(k, self.persistent.get(k, DEFAULTS[k])) for k in KEYS}

    def apply(self, action) -> None:
        if isinstance(action, ResetGlobal):
            for key in action.keys:
                self.persistent.pop(key, None)
                self.transient.pop(key, None)
        else:
            (self.persistent if action.persistent else self.transient)[action.key] = action.value


def ticket_for(settings: Settings, policy: RestartPolicy) -> RestartTicket:
    return RestartTicket(PROD, policy, (), 3, NOW, settings=remember(settings.seen()))


answers = st.lists(st.sampled_from(["done", "silent", "lost"]), max_size=12)


@given(before, answers, st.integers(0, 5), st.sampled_from(["PRIMARIES", "FULL"]))
def test_what_was_is_again_whatever_became_of_each_statement(was, fates, steps, keep):
    """A fate for each statement: acknowledged, applied without an answer, or lost."""
    policy = RestartPolicy.checked(min_availability=keep)
    settings = Settings(was)
    original = settings.seen()
    ticket = ticket_for(settings, policy)
    left = list(fates)

    def send(ticket: RestartTicket, action) -> RestartTicket:
        fate = left.pop(0) if left else "done"
        if fate != "lost":
            settings.apply(action)
        verdict = Verdict.DONE if fate == "done" else Verdict.UNKNOWN
        return after(ticket, action, Answer(verdict), NOW)

    for _ in range(steps):
        todo = setup(policy, 600, settings.seen())
        if todo:
            ticket = send(touching(ticket, todo[0]), todo[0])
    for _ in range(40):
        action = next_payment(ticket, settings.seen())
        if action is None:
            break
        ticket = send(ticket, action)

    assert next_payment(ticket, settings.seen()) is None
    for key in KEYS:
        assert same_value(key, settings.seen()[key], original[key])
        assert key not in settings.transient


def test_everything_of_ours_goes_in_one_statement_and_the_operators_values_follow():
    settings = Settings({TIMEOUT: "900s", MIN_AVAILABILITY: "FULL"})
    ticket = ticket_for(settings, RestartPolicy())
    for action in setup(RestartPolicy(), 720, settings.seen()):
        settings.apply(action)
        ticket = touching(ticket, action)
    sent = []
    while payment := next_payment(ticket, settings.seen()):
        settings.apply(payment)
        ticket = after(ticket, payment, Answer(Verdict.DONE), NOW)
        sent.append(as_sql(payment))
    assert sent == [
        "RESET GLOBAL " + ", ".join(f'"{key}"' for key in KEYS),
        "SET GLOBAL PERSISTENT \"cluster.graceful_stop.timeout\" = '900s'",
        "SET GLOBAL PERSISTENT \"cluster.graceful_stop.min_availability\" = 'FULL'",
    ]


def test_a_statement_that_nobody_answered_is_reset_although_it_shows_no_trace():
    settings = Settings({})
    ticket = ticket_for(settings, RestartPolicy())
    ticket = touching(ticket, SetGlobal(ALLOCATION, "primaries"))
    assert next_payment(ticket, settings.seen()) == ResetGlobal((ALLOCATION,))


def test_what_somebody_else_has_set_is_left_and_named():
    settings = Settings({})
    ticket = touching(ticket_for(settings, RestartPolicy()), SetGlobal(TIMEOUT, "720s"))
    settings.transient[TIMEOUT] = "1234s"
    assert next_payment(ticket, settings.seen()) is None
    [sentence] = foreign(ticket, settings.seen())
    assert "'1234s'" in sentence


def test_the_remedy_is_what_a_person_pastes():
    settings = Settings({TIMEOUT: "900s"})
    ticket = touching(ticket_for(settings, RestartPolicy()), SetGlobal(TIMEOUT, "720s"))
    assert [as_sql(action) for action in remedy(ticket)] == [
        'RESET GLOBAL "cluster.graceful_stop.timeout"',
        "SET GLOBAL PERSISTENT \"cluster.graceful_stop.timeout\" = '900s'",
    ]


def test_what_dc_util_may_have_left_is_in_the_remedy_before_anybody_has_looked():
    settings = Settings({TIMEOUT: "900s"})
    pod = PodProgress("prod-2", "uid", 0, strategy=DecommissionStrategy.KUBERNETES_MANAGED)
    ticket = replace(ticket_for(settings, RestartPolicy()), pods=(pod,))
    assert remedy(ticket) == ()

    deleted = ticket.with_pod(replace(pod, deleted_at=NOW))
    assert [as_sql(action) for action in remedy(deleted)] == [
        "RESET GLOBAL " + ", ".join(f'"{key}"' for key in KEYS),
        "SET GLOBAL PERSISTENT \"cluster.graceful_stop.timeout\" = '900s'",
    ]
    seen = replace(a_world().crate.seen(), settings=settings.seen())
    assert remedy(learn_leftovers(deleted, Observation(None, seen))) == ()


# --- what an operator does during a managed drain -------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [(TIMEOUT, "720s"), (TIMEOUT, "1800s"), (MIN_AVAILABILITY, "FULL"), (FORCE, True)],
)
def test_what_an_operator_sets_while_a_delete_never_lands_is_not_taken_for_dc_utils(key, value):
    """The pod was never on its way: not even a value that dc_util would set is its."""
    world = a_world("kubernetes_managed")
    runner = Runner(world)

    def answers(action: Action) -> Answer | None:
        return Answer(Verdict.UNKNOWN, "timed out") if isinstance(action, DeletePod) else None

    def between(runner: Runner) -> None:
        if any(isinstance(each, DeletePod) for each in runner.effects):
            runner._save(stopped(runner.ticket, world.time.now))
            world.crate.set_global(key, value, persistent=True)
            world.promise()
            runner.between = lambda _: None

    runner.answers, runner.between = answers, between

    assert runner.start("crate-data-hot-prod-2") is RestartOutcome.STOPPED
    assert world.crate.persistent == {key: value}
    world.check_settings()
    world.check_restarted([])


def test_what_an_operator_sets_before_kubernetes_refuses_the_delete_is_not_taken_for_dc_utils():
    world = a_world("kubernetes_managed")
    runner = Runner(world)

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, DeletePod):
            return None
        world.crate.set_global(TIMEOUT, "1800s", persistent=True)
        world.promise()
        return Answer(Verdict.REFUSED, "Forbidden")

    runner.answers = answers

    assert runner.start("crate-data-hot-prod-2") is RestartOutcome.FAILED
    assert world.crate.persistent == {TIMEOUT: "1800s"}
    world.check_settings()


def test_a_look_that_is_older_than_an_acknowledged_set_does_not_close_the_books():
    """A node that is cut off shows the settings as they were."""
    world = a_world()
    runner, observe = Runner(world), world.observe
    stopped_at: list[float] = []

    def lagging(call: DrainCall | None) -> Observation:
        seen = observe(call)
        if not stopped_at or seen.crate is None or world.time.t > stopped_at[0] + 2:
            return seen
        return replace(seen, crate=replace(seen.crate, settings=dict(world.before)))

    def between(runner: Runner) -> None:
        if world.crate.effective(ALLOCATION) != "all" and not stopped_at:
            stopped_at.append(world.time.t)
            runner._save(stopped(runner.ticket, world.time.now))

    world.observe = lagging  # type: ignore[method-assign]
    runner.between = between

    assert runner.start("crate-data-hot-prod-2") is RestartOutcome.STOPPED
    world.check_settings()


def test_what_dc_util_leaves_behind_is_put_back_where_nobody_can_see_that_its_pod_has_left():
    world = a_world("kubernetes_managed")
    world.crate.set_global(TIMEOUT, "900s", persistent=True)
    world.promise()
    runner = Runner(world)

    def between(runner: Runner) -> None:
        world.kube_away = any(isinstance(each, DeletePod) for each in runner.effects)

    runner.between = between

    assert runner.start("crate-data-hot-prod-2") is RestartOutcome.NOT_RESTORED
    assert "Kubernetes did not answer" in runner.conclusion.reason
    world.check_settings()


@pytest.mark.parametrize(
    ("key", "before", "value"),
    [
        (FORCE, True, False),
        (MIN_AVAILABILITY, "FULL", "PRIMARIES"),
        (MIN_AVAILABILITY, "FULL", "NONE"),
        (ALLOCATION, "all", "none"),
    ],
)
def test_what_dc_util_does_not_set_is_left_to_the_operator_and_told(key, before, value):
    """This hook's settings are 720 s, true and FULL."""
    world = a_world("kubernetes_managed")
    world.crate.set_global(key, before, persistent=True)
    runner = Runner(world)

    def between(runner: Runner) -> None:
        if any(not node.member for node in world.crate.nodes.values()):
            world.crate.transient.pop(key, None)
            world.crate.set_global(key, value, persistent=True)
            runner.between = lambda _: None

    runner.between = between
    runner.start("crate-data-hot-prod-2")

    assert world.crate.persistent == {key: value}
    assert world.crate.transient == {}
    [note] = [note for note in runner.ticket.pods[0].notes if key in note]
    assert note == f"{key} is {value!r} by now, which dc_util does not set: left alone"


@pytest.mark.parametrize(
    ("label", "kept", "key", "value"),
    [
        ("false", "FULL", FORCE, False),
        ("true", "FULL", FORCE, True),
        ("", "FULL", MIN_AVAILABILITY, "FULL"),
        ("", "PRIMARIES", MIN_AVAILABILITY, "PRIMARIES"),
        ("", "NONE", MIN_AVAILABILITY, "FULL"),
    ],
)
def test_what_the_labels_let_dc_util_set_is_put_back(label, kept, key, value):
    """NONE: what it keeps could not be told, so it may be any."""
    settings = Settings({key: not value if key == FORCE else "NONE"})
    pod = PodProgress(
        "prod-2",
        "uid",
        0,
        statefulset="prod",
        strategy=DecommissionStrategy.KUBERNETES_MANAGED,
        min_availability=MinAvailability(kept),
        deleted_at=NOW,
        out_at=NOW,
    )
    ticket = replace(ticket_for(settings, RestartPolicy()), pods=(pod,))
    settings.transient[key] = value
    statefulset = StatefulSetSeen("db", "prod", labels={"dc-util-graceful-stop": label})
    crate = replace(a_world().crate.seen(), settings=settings.seen())

    ticket = learn_leftovers(ticket, Observation(KubeSeen((), (statefulset,)), crate))

    assert next_payment(ticket, settings.seen()) == ResetGlobal((key,))


# --- what an operator does afterwards -------------------------------------------------------------

#: Where a restart of three pods stands when all that the first one needed is put back.
MOMENTS = {
    "while its pod returns": lambda pod: pod.state is DecommissionState.AWAITING_POD,
    "between two pods": lambda pod: pod.state is DecommissionState.COMPLETED,
}


def by_hand(world: World, moment: str, key: str, value: SqlValue) -> Runner:
    """Restart all pods, and let an operator set something (None: RESET) behind the first."""
    runner = Runner(world)

    def between(runner: Runner) -> None:
        first = next((pod for pod in runner.ticket.pods if pod.began_at is not None), None)
        if first is None or not MOMENTS[moment](first):
            return
        runner.between = lambda _: None
        if value is None:
            world.crate.reset_global((key,))
        else:
            world.crate.set_global(key, value, persistent=True)
        world.promise()

    runner.between = between
    return runner


@pytest.mark.parametrize("strategy", ["manual", "kubernetes_managed"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_allocation_that_an_operator_restricts_between_two_pods_stays_and_ends_the_restart(
    moment, strategy
):
    world = a_world(strategy)
    world.excused = True
    runner = by_hand(world, moment, ALLOCATION, "primaries")

    assert runner.start() is RestartOutcome.FAILED
    assert world.crate.persistent == {ALLOCATION: "primaries"}
    assert sum(node.departures for node in world.crate.nodes.values()) == 1
    world.check_settings()


@pytest.mark.parametrize("strategy", ["manual", "kubernetes_managed"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("value", ["720s", "1800s", None])
def test_what_an_operator_changes_between_two_pods_is_what_the_next_ones_give_back(
    value, moment, strategy
):
    """720 s are what we, and dc_util, set for a drain; None is a RESET."""
    world = a_world(strategy)
    world.crate.set_global(TIMEOUT, "900s", persistent=True)
    uids = dict(world.uids)
    runner = by_hand(world, moment, TIMEOUT, value)

    assert runner.start() is RestartOutcome.COMPLETED
    assert world.crate.persistent == ({TIMEOUT: value} if value else {})
    world.check_settings()
    world.check_restarted(list(uids))


@pytest.mark.parametrize("lands_after_s", [12.0, 30.0, 59.0])
def test_a_set_that_lands_when_all_was_put_back_is_put_back_again(lands_after_s):
    world = a_world()
    runner = Runner(world)
    lost: list[SetGlobal] = []

    def answers(action: Action) -> Answer | None:
        if lost or not isinstance(action, SetGlobal) or action.key != ALLOCATION:
            return None
        lost.append(action)
        world.time.after(lands_after_s, lambda: runner._apply_late(action))
        return Answer(Verdict.UNKNOWN, "timed out")

    runner.answers = answers

    assert runner.start("crate-data-hot-prod-2") is RestartOutcome.COMPLETED
    world.time.advance(100)
    world.check_settings()


def test_a_set_that_only_some_nodes_acknowledged_is_put_back_though_the_asked_one_lags(
    monkeypatch,
):
    """Row count 0: applied, not answered with a yes, and the node that is asked shows no trace."""
    world = a_world()
    runner = Runner(world)
    observe = world.observe

    def lagging(call: DrainCall | None) -> Observation:
        seen = observe(call)
        reset = any(isinstance(each, ResetGlobal) for each in runner.effects)
        if seen.crate is None or not runner.ticket.stop or reset:
            return seen
        return replace(seen, crate=replace(seen.crate, settings=world.before))

    def answers(action: Action) -> Answer | None:
        if not isinstance(action, SetGlobal) or action.key != ALLOCATION:
            return None
        runner._apply(action)
        return Answer(Verdict.UNKNOWN, "not every node has acknowledged it")

    def between(runner: Runner) -> None:
        if world.crate.effective(ALLOCATION) != "all" and not runner.ticket.stop:
            runner._save(stopped(runner.ticket, world.time.now))

    monkeypatch.setattr(world, "observe", lagging)
    runner.answers, runner.between = answers, between

    assert runner.start("crate-data-hot-prod-2") is RestartOutcome.STOPPED
    world.check_settings()


def test_a_setting_that_was_left_alone_is_told_although_it_is_forgotten_at_once():
    world = a_world()
    runner = Runner(world)

    def between(runner: Runner) -> None:
        if any(not node.member for node in world.crate.nodes.values()):
            world.crate.set_global(TIMEOUT, "1800s", persistent=True)
            world.crate.transient.pop(TIMEOUT, None)
            runner.between = lambda _: None

    runner.between = between
    assert runner.start("crate-data-hot-prod-2") is RestartOutcome.COMPLETED

    [note] = [note for note in runner.ticket.pods[0].notes if "'1800s'" in note]
    assert "left alone" in note
    assert [note] == [
        event.fields["reason"] for event in runner.events if "'1800s'" in event.sentence()
    ]
    assert not any(was.ours for was in runner.ticket.settings)


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "one", "other", "same"),
    [
        (TIMEOUT, "720s", "720000ms", True),
        (TIMEOUT, "12m", "720s", True),
        (TIMEOUT, "2h", "7200000ms", True),
        (TIMEOUT, "720s", "721s", False),
        (FORCE, True, "true", True),
        (FORCE, False, True, False),
        (ALLOCATION, "ALL", "all", True),
        (MIN_AVAILABILITY, "primaries", "PRIMARIES", True),
    ],
)
def test_values_are_compared_by_what_they_mean(key, one, other, same):
    assert same_value(key, one, other) is same
