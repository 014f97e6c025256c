"""Whatever clusters, replicas and sizes are called: quoted or refused, and nothing else happens."""

from __future__ import annotations

import pytest

from lab.materialize.sizes import Size
from tests.strategy_runs.bench import settle

NAMES = {
    "quotes": "a\"b'c",
    "injection": 'x"; DROP CLUSTER quickstart CASCADE; --',
    "comment": "/* */ -- $1 %s {0}",
    "blanks": "  two  words ",
    "unicode": "größe \u202e💥 数",
    "backslash": "a\\b\\'",
    "our own words": "x\" SET (SIZE = '50cc') WITH (WAIT UNTIL READY (TIMEOUT '9s'",
    "as long as it may be": "n" * 255,
    "as long as it may be, in bytes": "ü" * 127,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_cluster_of_any_name_is_looked_after(here, name):
    here.lab.cluster(name, {name: "25cc"})
    here.lab.cluster("bystander", {"r1": "25cc"})
    here.strategy(name, "target_size", target_size="50cc")

    settle(here, here.controller())

    assert list(here.lab.replicas(name).values()) == ["50cc"]
    assert here.lab.replicas("bystander") == {"r1": "25cc"}
    assert here.lab.replicas("quickstart") == {"r1": "25cc"}
    assert here.done() == here.said()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_replica_gets_the_name_that_was_asked_for(here, name):
    here.lab.cluster("prod", {"r1": "25cc"})
    here.strategy("prod", "target_size", target_size="50cc", replica_name=name)

    settle(here, here.controller())

    assert here.lab.replicas("prod") == {name: "50cc"}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_size_of_any_name_is_a_size(here, name):
    here.lab.size(Size(name, 3.0, 1, 2**30))
    here.lab.cluster("prod", {"r1": "25cc"})
    here.strategy("prod", "target_size", target_size=name, replica_name="r")

    settle(here, here.controller())

    assert here.lab.replicas("prod") == {"r": name}


@pytest.mark.parametrize("name", ["line\nbreak", "bell\a", "n" * 256, "ü" * 128], ids=ascii)
def test_a_name_that_cannot_be_written_is_refused_and_nothing_sent(here, name):
    """By us, before Materialize would."""
    here.lab.cluster("prod", {"r1": "25cc"})
    here.strategy("prod", "target_size", target_size="50cc", replica_name=name)

    cycle = here.controller().cycle()

    assert [problem["key"] for problem in cycle.planned.problems] == ["replica_name"]
    assert here.done() == {}
    assert here.audit() == []


def test_a_cluster_whose_name_cannot_be_written_is_left_alone(here):
    here.lab.cluster("tab\there", {"r1": "25cc"})
    here.strategy("tab\there", "target_size", target_size="50cc")

    cycle = here.controller().cycle()

    assert "control character" in cycle.planned.clusters[0].result["skipped"]
    assert here.done() == {}


def test_a_managed_cluster_of_any_name_is_resized_and_suspended(here):
    for name in (NAMES["injection"], NAMES["our own words"]):
        here.lab.managed_cluster(name, "25cc")
        here.strategy(name, "target_size", target_size="50cc")
    here.lab.speed = 200.0

    settle(here, here.controller())

    assert {tuple(here.lab.replicas(name).values()) for name in
            (NAMES["injection"], NAMES["our own words"])} == {("50cc",)}  # fmt: skip
    assert "quickstart" in {row[0] for row in here.lab.sql("SELECT name FROM mz_clusters")}


def test_a_dropped_relation_name_in_a_strategy_row_harms_nobody(bench):
    """Rows that nobody can use: a cluster that is not there, a strategy that is none."""
    bench.lab.cluster("prod", {"r1": "25cc"})
    hostile = "'; DELETE FROM mz_cluster_strategies; --"
    bench.raw_strategy(hostile, "target_size", '{"target_size": "50cc"}')
    bench.raw_strategy(bench.lab.cluster_id("prod"), hostile, "{}")
    bench.strategy("prod", "target_size", target_size="50cc")

    cycle = bench.controller().cycle()

    assert any("no such cluster" in warning for warning in cycle.planned.warnings)
    assert any("there is no strategy" in one["message"] for one in cycle.planned.problems)
    assert "50cc" in bench.lab.replicas("prod").values()
    assert bench.sql("SELECT count(*) FROM mz_cluster_strategies") == [(3,)]
