"""The pages after a run and after a look: what is, what is wanted, what was done."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest

from assets.strategies import cluster_actions, look_at_clusters, materialize_clusters
from definitions.jobs import cluster_strategies
from resources.materialize.resource import MaterializeResource

ASSETS: list[Any] = [materialize_clusters, look_at_clusters, cluster_actions]


@pytest.fixture
def pages(instance, resources):
    """Materialise the three assets; return the result."""

    def make(raise_on_error=True):
        return dg.materialize(
            ASSETS, instance=instance, resources=resources, raise_on_error=raise_on_error
        )

    return make


@pytest.fixture
def cycle(instance, resources):
    def run(**config):
        return cluster_strategies.execute_in_process(
            run_config={"mode": "apply", **config}, resources=resources, instance=instance,
            raise_on_error=False,
        )  # fmt: skip

    return run


def metadata_of(instance, key):
    event = instance.get_latest_materialization_event(dg.AssetKey(key))
    return event.asset_materialization.metadata if event else None


def checks_of(result):
    return {
        each.check_name: each.passed for each in result.get_asset_check_evaluations()
    }  # fmt: skip


def test_looking_changes_nothing_and_returns_typed_rows(lab, bench, pages):
    lab.cluster("prod", {"old": "100cc"})
    bench.strategy("prod", "target_size", target_size="50cc")

    result = pages()

    signals = result.output_for_node("look_at_clusters", "cluster_signals")
    row = signals[signals.cluster == "prod"].iloc[0]
    assert (row.replica, row["size"], row.ready, row.credits_per_hour) == ("old", "100cc", True, 1)
    desired = result.output_for_node("look_at_clusters", "cluster_desired_state")
    assert sorted(zip(desired.op, desired.replica, strict=True)) == [
        ("create", "r_50cc"), ("keep", "old")
    ]  # fmt: skip
    assert result.output_for_node("cluster_actions").empty
    assert lab.replicas("prod") == {"old": "100cc"}
    assert bench.audit() == []
    assert checks_of(result) == {
        "configs_are_valid": True, "credits_under_budget": True, "no_flapping": True
    }  # fmt: skip


def test_what_nobody_knows_is_missing_and_not_zero(lab, pages):
    lab.statement_logging = False
    lab.cluster("prod", {"r1": "50cc"})
    lab.drop_relation("mz_internal.mz_hydration_statuses")

    signals = pages().output_for_node("look_at_clusters", "cluster_signals")

    row = signals[signals.cluster == "prod"].iloc[0]
    assert row.isna()[["ready", "cluster_last_used", "cluster_running"]].all()
    assert row.oom_count == 0


def test_a_run_publishes_what_it_saw_wanted_and_did(lab, bench, cycle, instance):
    lab.cluster("prod", {"old": "100cc"})
    bench.strategy("prod", "target_size", target_size="50cc")

    result = cycle()

    assert result.success
    done = metadata_of(instance, "cluster_actions")
    (row,) = [record.data for record in done["actions"].records]
    assert (row["action"], row["credits/h"]) == ("prod: create r_50cc (50cc)", "+0.5")
    assert row["reason"].startswith("target_size: ")
    picture = done["picture"].value
    assert picture.startswith("![")
    data = base64.b64decode(picture.partition("base64,")[2].rstrip(")"))
    assert data.startswith(b"\x89PNG")
    assert metadata_of(instance, "cluster_desired_state")["actions to do"].value == 1
    assert metadata_of(instance, "cluster_signals")["replicas"].value == 2
    assert checks_of(result) == {
        "configs_are_valid": True, "credits_under_budget": True, "no_flapping": True
    }  # fmt: skip


def test_a_run_that_did_nothing_draws_nothing(lab, bench, cycle, instance):
    lab.cluster("prod", {"r_50cc": "50cc"})
    bench.strategy("prod", "target_size", target_size="50cc")
    assert cycle().success
    assert metadata_of(instance, "cluster_actions") is None
    assert metadata_of(instance, "cluster_signals") is not None


def test_a_bad_row_turns_the_check_red_and_the_others_go_on(lab, bench, cycle):
    for name in ("a", "b"):
        lab.cluster(name, {})
    bench.strategy("a", "target_size", target_sise="50cc")
    bench.strategy("b", "target_size", target_size="50cc")

    result = cycle()

    assert result.success
    assert checks_of(result)["configs_are_valid"] is False
    assert lab.replicas("b") == {"r_50cc": "50cc"}
    assert lab.replicas("a") == {}


def test_a_cluster_above_its_budget_turns_the_check_red(lab, bench, cycle):
    lab.cluster("prod", {"r1": "400cc"})
    bench.strategy("prod", "burst", burst_replica_size="50cc")
    assert checks_of(cycle(max_credits_per_hour=1.0))["credits_under_budget"] is False


def test_an_action_that_failed_is_on_the_page(lab, bench, cycle, instance):
    lab.cluster("prod", {"r1": "25cc"})
    bench.strategy("prod", "target_size", target_size="50cc")
    lab.set_system(max_replicas_per_cluster=1)

    assert not cycle().success

    done = metadata_of(instance, "cluster_actions")
    assert done["24 h: failed"].value == 1
    assert "max_replicas_per_cluster" in done["last failure"].value


def test_a_version_without_the_history_of_replicas_has_no_picture_and_the_rest(
    lab, pages, instance
):
    lab.drop_relation("mz_internal.mz_cluster_replica_history")
    pages()
    assert metadata_of(instance, "cluster_actions")["24 h: executed"].value == 0


def test_a_materialize_that_is_away_fails_the_look_with_a_sentence(instance):
    result = dg.materialize(
        ASSETS, instance=instance, raise_on_error=False,
        resources={"materialize": MaterializeResource(url="postgresql://u:s3cret@h.invalid/d")},
    )  # fmt: skip
    assert not result.success
    said = str([event.step_failure_data for event in result.all_events if event.is_step_failure])
    assert "h.invalid" in said
    assert "s3cret" not in said


def test_the_lineage_tells_the_story():
    """Clusters, what is known of them, what is wanted, what was done."""
    graph = dg.Definitions(
        assets=ASSETS, resources={"materialize": MaterializeResource()}
    ).resolve_asset_graph()
    names = ["materialize_clusters", "cluster_signals", "cluster_desired_state", "cluster_actions"]
    for above, below in pairwise(names):
        assert graph.get(dg.AssetKey(below)).parent_keys == {dg.AssetKey(above)}
