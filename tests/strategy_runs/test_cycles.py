"""What clusters are like after some cycles."""

from __future__ import annotations

import psycopg
import pytest

from caretaker.strategies.cycle import plan
from ops.strategies_apply import apply
from resources.clock import Clock
from tests.strategy_runs.bench import Bench, settle
from tests.strategy_runs.scenes import SCENES


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_each_strategy_arrives_and_then_leaves_the_cluster_alone(bench, controller, scene):
    """And the audit says what was done, no more and no less."""
    scene.prepare(bench)

    cycles = settle(bench, controller)

    assert bench.lab.replicas("prod") == scene.wanted
    assert 0 < cycles <= 6
    assert bench.done() == bench.said()
    assert {executed for _, executed, _ in bench.audit()} == {True}


def test_a_cycle_asks_as_much_of_thirty_clusters_as_of_one(bench, controller):
    bench.lab.set_system(max_clusters=100)
    counts = []
    for clusters in (1, 30):
        for number in range(clusters):
            name = f"c{clusters}_{number}"
            bench.lab.cluster(name, {"r1": "50cc"})
            bench.strategy(name, "target_size", target_size="50cc")
            bench.strategy(name, "idle_suspend", idle_after_s=86400)
        with controller.opened() as (source, store):
            controller.look(source, store)
            sent = source.session.sent
            counts.append(sent if store.in_materialize else sent + store.session.sent)

    assert counts[0] == counts[1] < 30


def test_what_was_suspended_is_woken_by_a_query_that_fails(bench, controller):
    """It fails at once, the next cycle brings the cluster back, and then it is answered."""
    bench.lab.cluster("prod", {"r1": "50cc"})
    bench.lab.statement_ran("prod", seconds_ago=7200)
    bench.pass_(7200)
    bench.strategy("prod", "target_size", target_size="50cc")
    bench.strategy("prod", "idle_suspend", idle_after_s=600)
    controller.cycle()
    suspended = bench.lab.replicas("prod")
    asleep = controller.cycle()
    with psycopg.connect(bench.lab.url, autocommit=True) as somebody:
        somebody.execute("SET cluster = prod")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="no replicas available"):
            somebody.execute("SELECT 1")
        controller.cycle()
        bench.pass_(10)

        assert somebody.execute("SELECT 1").fetchone() == (1,)
    assert (suspended, list(asleep.planned.actions())) == ({}, [])
    assert bench.lab.replicas("prod") == {"r_50cc": "50cc"}
    assert bench.done() == bench.said()


def test_the_cluster_that_serves_our_own_tables_is_never_suspended(lab):
    """Only where the tables are in Materialize: elsewhere we need no cluster."""
    for elsewhere in (False, True):
        bench = Bench(lab, elsewhere=elsewhere)
        bench.pass_(7200)
        bench.strategy("quickstart", "idle_suspend", idle_after_s=600)
        cycle = bench.controller().dry_run()
        held = [one["reason"] for one in cycle.planned.held]

        assert bool(list(cycle.planned.actions())) is elsewhere
        assert any("serves our own session" in reason for reason in held) is not elsewhere


def test_unknown_activity_suspends_nothing(bench, controller):
    bench.lab.cluster("prod", {"r1": "50cc"})
    bench.lab.statement_logging = False
    bench.pass_(86400)
    bench.strategy("prod", "idle_suspend", idle_after_s=600)

    cycle = controller.cycle()

    assert bench.lab.replicas("prod") == {"r1": "50cc"}
    assert "whether the cluster is in use is unknown" in cycle.planned.held[0]["reason"]
    assert any("statement logging is off" in warning for warning in cycle.planned.warnings)


def test_a_size_that_never_gets_ready_keeps_the_others_waiting_once(bench, controller):
    """A managed cluster's change is waited for, and rolled back: not again in every cycle."""
    bench.lab.managed_cluster("prod", "25cc")
    bench.lab.index("prod", "i", hydrate_s=1e7)
    bench.lab.speed = 200.0
    bench.strategy("prod", "target_size", target_size="50cc", pending_timeout_s=20)

    first, second = controller.cycle(), controller.cycle()

    assert len(first.outcome.failures) == 1
    assert [executed for _, executed, _ in bench.audit()] == [False]
    assert list(second.planned.actions()) == []
    assert any("was given up" in one["reason"] for one in second.planned.held)


def test_a_size_that_is_not_allowed_keeps_no_managed_cluster_asleep(bench, controller):
    bench.lab.managed_cluster("prod", "25cc")
    bench.lab.statement_ran("prod", seconds_ago=7200)
    bench.pass_(7200)
    bench.strategy("prod", "idle_suspend", idle_after_s=600)
    bench.strategy("prod", "target_size", target_size="50cc")
    bench.lab.set_system(allowed_sizes="25cc")
    controller.cycle()
    assert bench.lab.replicas("prod") == {}

    bench.lab.statement_ran("prod", seconds_ago=1)
    for _ in range(2):
        controller.cycle()

    assert bench.lab.replicas("prod") == {"r1": "25cc"}


def test_what_was_decided_long_ago_is_decided_anew(bench, controller):
    """Changing one cluster took so long that the idle one may be in use by now."""
    for name in ("a", "b"):
        bench.lab.cluster(name, {"r1": "25cc"})
    bench.lab.statement_ran("b", seconds_ago=7200)
    bench.pass_(7200)
    bench.strategy("a", "target_size", target_size="50cc")
    bench.strategy("b", "idle_suspend", idle_after_s=600)
    waited = [0.0]
    with controller.opened() as (source, store):
        observed = controller.look(source, store, "run")
        planned = plan(observed, controller.policy)
        hands = controller.hands(source, store, "run")
        hands.clock = Clock(monotonic=lambda: waited[0], sleep=lambda _: None)

        def say(_name: str, _fields: object) -> None:
            waited[0] += 3600
            bench.lab.statement_ran("b", seconds_ago=1)

        hands.say = say
        outcome = apply(planned, observed, hands)

    assert bench.lab.replicas("a") == {"r1": "25cc", "r_50cc": "50cc"}
    assert bench.lab.replicas("b") == {"r1": "25cc"}
    assert "decides anew" in outcome.stood_back[0]
    assert [executed for _, executed, _ in bench.audit()].count(False) == 1
