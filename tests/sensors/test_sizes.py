"""A reset is started when one is needed and possible, and otherwise the tick says why not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from caretaker.translog.model import ResetState, TableRef
from caretaker.translog.outcome import ResetOutcome, ResetResult
from sensors import live_runs
from sensors import translog_sizes as module
from sensors.translog import translog_sizes


@pytest.fixture
def look(lab, tick):
    """Let the sensor tick at the lab; return (result, why it skipped)."""

    def one(cursor=None, url=None):
        result = tick(translog_sizes, url=url or lab.connection_string, cursor=cursor)
        return result, result.skip_reason.skip_message if result.skip_reason else ""

    return one


@pytest.fixture
def ended(lab, store):
    """Record a reset of doc.metrics that ended so many hours ago, without a cure."""

    def record(hours_ago):
        ended_at = datetime.now(UTC) - timedelta(hours=hours_ago)
        result = ResetResult(
            TableRef("doc", "metrics"),
            ResetState.COMPLETED,
            ResetOutcome.COMPLETED,
            degraded=True,
            started_at=ended_at,
            ended_at=ended_at,
        )
        store.record_outcome(lab.world.cluster_id, "run-0", result)

    return record


def test_a_large_translog_starts_one_run_that_names_it(lab, look):
    lab.table("doc.metrics", sick_mb=2300)
    lab.table("doc.orders", sick_mb=1200)

    result, reason = look()

    assert reason == ""
    (request,) = result.run_requests
    assert request.run_config == {}
    assert request.tags == {
        "caretaker/found": "2",
        "caretaker/tables": "doc.metrics (408 %); doc.orders (213 %)",
    }


def test_nothing_above_the_threshold(lab, look):
    lab.table("doc.calm", sick_mb=100)
    result, reason = look()
    assert result.run_requests == []
    assert reason == "nothing above its threshold; the fullest of 1 is doc.calm at 18 %"


def test_above_the_threshold_and_below_what_a_reset_acts_on(lab, look):
    lab.table("doc.metrics", sick_mb=700)
    _, reason = look()
    assert reason == (
        "1 above their threshold, none of them at 200 % of it; the worst is doc.metrics at 124 %"
    )


def test_a_live_reset_run_is_named(lab, look, run_of):
    lab.table("doc.metrics", sick_mb=2300)
    run_id = run_of("translog_reset", dg.DagsterRunStatus.STARTED)
    assert look()[1] == f"reset run {run_id} is started"


def test_a_run_that_only_looks_alive_is_not_waited_for(lab, look, run_of, monkeypatch):
    monkeypatch.setattr(live_runs, "BELIEVED_FOR", timedelta(0))
    lab.table("doc.metrics", sick_mb=2300)
    run_of("translog_reset", dg.DagsterRunStatus.STARTED)
    assert len(look()[0].run_requests) == 1


def test_after_a_failed_run_there_is_a_pause(lab, look, run_of, monkeypatch):
    """What made it fail would make the next one fail, every 30 seconds."""
    lab.table("doc.metrics", sick_mb=2300)
    run_id = run_of("translog_reset", dg.DagsterRunStatus.FAILURE)

    assert look()[1].startswith(f"reset run {run_id} ended as FAILURE")
    monkeypatch.setattr(module, "PAUSE_AFTER_FAILURE", timedelta(0))
    assert len(look()[0].run_requests) == 1


def test_a_cluster_that_is_held_is_left_to_its_holder(lab, look, store, alive):
    lab.table("doc.metrics", sick_mb=2300)
    store.acquire_lock(
        lab.world.cluster_id, alive("run-9"), purpose="rolling_restart", is_dead=lambda *_: False
    )
    assert look()[1] == "the cluster is held by run run-9 for rolling_restart"


def test_a_ticket_comes_first(lab, look, open_ticket, dead):
    lab.table("doc.metrics", sick_mb=2300)
    ticket = open_ticket(dead("run-1"), "other", cluster_id=lab.world.cluster_id)
    assert look()[1] == f"doc.other waits to be restored first (ticket {ticket.id})"


def test_a_cluster_that_could_not_bear_it(lab, look):
    lab.table("doc.metrics", sick_mb=2300)
    lab.sql("SET GLOBAL TRANSIENT \"cluster.routing.allocation.enable\" = 'primaries'")

    result, reason = look()

    assert result.run_requests == []
    assert "a run would refuse: cluster.routing.allocation.enable is 'primaries'" in reason


def test_a_cluster_that_is_not_green(lab, look):
    lab.table("doc.metrics", sick_mb=2300)
    lab.table("doc.other", replicas="2")
    lab.crash(1)
    lab.advance(2)

    result, reason = look(url=lab.urls[0])

    assert result.run_requests == []
    assert "not GREEN" in reason


def test_a_table_that_was_reset_an_hour_ago_cools_off(lab, look, ended):
    lab.table("doc.metrics", sick_mb=2300)
    ended(1)
    _, reason = look()
    assert reason.startswith("1 found, none to reset now: doc.metrics: it was reset recently")


def test_a_table_that_resets_do_not_cure_is_set_aside(lab, look, ended):
    lab.table("doc.metrics", sick_mb=2300)
    for hours_ago in (30, 20, 10):
        ended(hours_ago)
    assert "doc.metrics: set aside: 3 resets did not cure it" in look()[1]


def test_an_unset_address_is_named(tick):
    assert "CRATE_CONNECTION_STRING" in tick(translog_sizes, url="").skip_reason.skip_message


def test_a_cluster_that_does_not_answer_is_a_sentence(tick):
    result = tick(translog_sizes, url="http://127.0.0.1:9")
    assert result.run_requests == []
    assert "127.0.0.1:9" in result.skip_reason.skip_message


def test_the_lineage_sees_sizes_every_five_minutes_and_not_every_tick(lab, look):
    lab.table("doc.metrics", sick_mb=700)

    first, _ = look()
    second, _ = look(first.cursor)
    cursor = json.loads(second.cursor)
    cursor["observed_at"] = (datetime.now(UTC) - timedelta(minutes=6)).isoformat()
    third, _ = look(json.dumps(cursor))

    (event,) = first.asset_events
    assert event.asset_key == dg.AssetKey("crate_tables")
    assert event.metadata["worst_percentage"].value == pytest.approx(124.3)
    assert event.metadata["tables_over_threshold"].value == 1
    assert second.asset_events == []
    assert len(third.asset_events) == 1


@pytest.mark.parametrize("cursor", ["", "no JSON", "[]", '{"observed_at": 7}'])
def test_a_cursor_that_somebody_edited_does_no_harm(lab, look, cursor):
    lab.table("doc.metrics", sick_mb=700)
    assert len(look(cursor)[0].asset_events) == 1


def test_it_is_off_until_switched_on():
    assert translog_sizes.default_status is dg.DefaultSensorStatus.STOPPED
