"""A row that cannot work switches that strategy off, and no other; the run names it."""

from __future__ import annotations

import json
from typing import Any

import pytest

GOOD: dict[str, dict[str, Any]] = {
    "target_size": {"target_size": "50cc"},
    "shrink_to_fit": {"max_replica_size": "100cc"},
    "burst": {"burst_replica_size": "400cc"},
    "idle_suspend": {"idle_after_s": 600},
}

#: (strategy, config as JSON text, the key that is named)
BAD = {
    "unknown key": ("target_size", {"target_size": "50cc", "cooldwn_s": 5}, "cooldwn_s"),
    "text for a number": ("idle_suspend", {"idle_after_s": "600"}, "idle_after_s"),
    "number for text": ("target_size", {"target_size": 50}, "target_size"),
    "negative": ("burst", {"burst_replica_size": "50cc", "cooldown_s": -1}, "cooldown_s"),
    "zero": ("idle_suspend", {"idle_after_s": 0}, "idle_after_s"),
    "true for a number": ("idle_suspend", {"idle_after_s": True}, "idle_after_s"),
    "half for a whole": ("shrink_to_fit", {"max_replica_size": "50cc", "min_oom_count": 1.5},
                         "min_oom_count"),
    "null": ("target_size", {"target_size": None}, "target_size"),
    "missing": ("target_size", {}, "target_size"),
    "unknown size": ("burst", {"burst_replica_size": "51cc"}, "burst_replica_size"),
    "a list": ("target_size", {"target_size": ["50cc"]}, "target_size"),
    "no object": ("target_size", ["target_size"], "config"),
    "text": ("target_size", "50cc", "config"),
    "NULL": ("target_size", None, "config"),
}  # fmt: skip
#: Those that JSON text can hold and json.dumps cannot write.
RAW = {
    "huge": ("idle_suspend", '{"idle_after_s": 1e300}', "idle_after_s"),
    "longer than Python reads": ("idle_suspend", '{"idle_after_s": ' + "9" * 5000 + "}", "config"),
    "deeper than Python goes": ("idle_suspend", "[" * 3000 + "]" * 3000, "config"),
    "NaN in quotes": ("idle_suspend", '{"idle_after_s": "NaN"}', "idle_after_s"),
}


def write(bench, kind, text):
    bench.lab.cluster("prod", {"r1": "25cc"})
    bench.sql("ALTER TABLE mz_cluster_strategies ALTER config DROP NOT NULL")
    bench.raw_strategy(bench.lab.cluster_id("prod"), kind, text)


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [(kind, None if config is None else json.dumps(config), key)
     for kind, config, key in BAD.values()] + list(RAW.values()),
    ids=[*BAD, *RAW],
)  # fmt: skip
def test_that_strategy_is_off_and_named_and_others_work(here, kind, text, key):
    write(here, kind, text)
    other = "burst" if kind == "target_size" else "target_size"
    here.strategy("prod", other, **GOOD[other])
    here.lab.cluster("sound", {"r1": "25cc"})
    here.strategy("sound", "target_size", target_size="50cc")

    cycle = here.controller().cycle()

    (problem,) = cycle.planned.problems
    assert (problem["cluster"], problem["strategy"], problem["key"]) == ("prod", kind, key)
    assert problem["message"]
    acted = {(one.cluster.name, one.action["strategy"]) for one in cycle.planned.actions()}
    assert ("sound", "target_size") in acted
    assert ("prod", kind) not in acted
    assert other == "burst" or ("prod", other) in acted
    assert cycle.outcome.failures == []


@pytest.mark.parametrize("strategy", [None, ""])
@pytest.mark.parametrize("cluster", [None, "", "prod"])
def test_a_row_that_does_not_say_of_what_it_is_harms_no_other(here, cluster, strategy):
    here.sql("ALTER TABLE mz_cluster_strategies ALTER cluster_id DROP NOT NULL")
    here.sql("ALTER TABLE mz_cluster_strategies ALTER strategy_type DROP NOT NULL")
    here.lab.cluster("prod", {"r1": "25cc"})
    here.strategy("prod", "target_size", target_size="50cc")
    here.raw_strategy("u999", "burst", "{}")
    here.raw_strategy(here.lab.cluster_id(cluster) if cluster else cluster, strategy, "{}")

    cycle = here.controller().cycle()

    assert here.lab.replicas("prod") == {"r1": "25cc", "r_50cc": "50cc"}
    said = [*cycle.observed.warnings, *cycle.planned.warnings]
    said += [one["message"] for one in cycle.planned.problems]
    assert any(("'(none)'" if cluster else "cluster ''") in one for one in said)


def test_of_two_rows_the_newest_holds_and_it_is_said(here):
    write(here, "target_size", '{"target_size": "100cc"}')
    here.sql("UPDATE mz_cluster_strategies SET updated_at = NULL")
    here.strategy("prod", "target_size", target_size="50cc")

    cycle = here.controller().cycle()

    assert [one.action["size"] for one in cycle.planned.actions()] == ["50cc"]
    assert "2 rows for target_size" in cycle.planned.problems[0]["message"]


def test_a_state_that_cannot_be_read_is_begun_anew_and_said(bench):
    bench.lab.cluster("prod", {"r1": "25cc"})
    bench.strategy("prod", "target_size", target_size="50cc")
    bench.sql(
        "INSERT INTO mz_cluster_strategy_state VALUES (%s, 'target_size', 99, '[]'::jsonb, now())",
        bench.lab.cluster_id("prod"),
    )

    cycle = bench.controller().cycle()

    assert [one["key"] for one in cycle.planned.problems] == ["state.version"]
    assert bench.state("prod")["target_size"]["pending_target_replica"]["name"] == "r_50cc"


def test_a_dry_run_changes_nothing_tables_included(lab):
    from tests.strategy_runs.bench import Bench  # noqa: PLC0415

    bench = Bench(lab)
    lab.cluster("prod", {"r1": "25cc"})
    bench.strategy("prod", "target_size", target_size="50cc")
    for table in ("mz_cluster_strategy_state", "mz_cluster_strategy_actions"):
        bench.sql(f"DROP TABLE {table}")
    begun = len(lab.journal)

    cycle = bench.controller().dry_run()

    assert [one.action["sql"] for one in cycle.planned.actions()] == [
        'CREATE CLUSTER REPLICA "prod"."r_50cc" (SIZE \'50cc\')'
    ]
    assert sum("there is no table" in warning for warning in cycle.planned.warnings) == 2
    told = {entry.stmt.split()[0].upper() for entry in lab.journal[begun:]}
    assert told <= {"SELECT", "SHOW"}


def test_what_was_not_executed_starts_no_cooldown(bench):
    """Nor is anything pending that was never made."""
    bench.lab.cluster("prod", {"r1": "25cc"})
    bench.lab.set_system(max_replicas_per_cluster=1)
    bench.strategy("prod", "target_size", target_size="50cc", cooldown_s=3600)
    controller = bench.controller()

    refused = controller.cycle()
    state = bench.state("prod")
    bench.lab.set_system(max_replicas_per_cluster=5)
    bench.pass_(5)
    controller.cycle()

    assert "max_replicas_per_cluster" in refused.outcome.failures[0]
    assert state == {}
    assert bench.lab.replicas("prod") == {"r1": "25cc", "r_50cc": "50cc"}
    assert [executed for _, executed, _ in bench.audit()] == [False, True]


def test_a_failure_in_one_cluster_says_nothing_of_another(bench):
    for name in ("a", "b", "c"):
        bench.lab.cluster(name, {"r1": "25cc"})
        bench.strategy(name, "shrink_to_fit", max_replica_size="50cc")
        bench.sql("DELETE FROM mz_cluster_strategies WHERE cluster_id = %s",
                  bench.lab.cluster_id(name))  # fmt: skip
        bench.lab.call({"op": "drop_replicas", "if_exists": False, "names": [[name, "r1"]]})
        bench.strategy(name, "shrink_to_fit", max_replica_size="50cc")
    from lab.faults import Action, Fault  # noqa: PLC0415

    rule = Fault(match='"b_50cc"', action=Action.ERROR, message="no room today")
    bench.lab.faults.add(rule)
    cycle = bench.controller().cycle()

    assert set(bench.lab.replicas("a")) == {"a_25cc", "a_50cc"}
    assert bench.lab.replicas("b") == {}
    assert set(bench.lab.replicas("c")) == {"c_25cc", "c_50cc"}
    assert [failure.partition(":")[0] for failure in cycle.outcome.failures] == ["b"]
    of_b = [(text, executed, error) for text, executed, error in bench.audit() if '"b"' in text]
    assert [executed for _, executed, _ in of_b] == [False, False]
    assert "no room today" in str(of_b[0][2])
    assert str(of_b[1][2]).startswith("not run: ")
