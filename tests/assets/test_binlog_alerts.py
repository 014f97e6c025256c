"""Each alert of the audit trail, as its check on the page shows it: red, and green again."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.events import AssetObservationData

from assets.binlog import binlog_alerts, row_changes
from caretaker.binlog import alerts
from definitions.jobs import binlog_sync
from ops.binlog_metrics import Metrics, Vitals
from ops.binlog_observing import (
    BINLOG_OFFSETS,
    ROW_CHANGES,
    position_metadata,
    rows_metadata,
)

WELL = {
    "error_rate": 0.0,
    "attempts": 60,
    "failed_attempts": 0,
    "staging_pending": 1,
    "staging_oldest_s": 0.5,
    "lag_s": 0.3,
    "flush_failed": False,
    "retries": 0,
    "mongodb_errors": 0,
}


@pytest.fixture
def verdicts(instance):
    """Return a function that judges what was observed last, and returns which checks passed."""

    def judge():
        job = dg.define_asset_job("alerts", dg.AssetSelection.checks_for_assets(row_changes.key))
        definitions = dg.Definitions([row_changes], asset_checks=[binlog_alerts], jobs=[job])
        result = definitions.resolve_job_def("alerts").execute_in_process(instance=instance)
        return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}

    return judge


@pytest.fixture
def judged(instance, verdicts):
    """Return a function that observes, and returns which checks passed."""

    def judge(rows, margin_s=86_400.0):
        told = ((ROW_CHANGES, rows), (BINLOG_OFFSETS, {"purge_margin_s": margin_s}))
        for key, numbers in told:
            instance.report_runless_asset_event(dg.AssetObservation(key, metadata=numbers))
        return verdicts()

    return judge


@pytest.mark.parametrize(
    ("check", "rows", "margin_s"),
    [
        ("error_rate", {"error_rate": 0.02, "attempts": 100, "failed_attempts": 2}, 86_400.0),
        ("staging", {"staging_pending": 101}, 86_400.0),
        ("staging", {"staging_pending": 1, "staging_oldest_s": 301.0}, 86_400.0),
        ("lag", {"lag_s": 5.1}, 86_400.0),
        ("shutdown_flush", {"flush_failed": True}, 86_400.0),
        ("retries", {"retries": 1}, 86_400.0),
        ("mongodb_connection", {"mongodb_errors": 1}, 86_400.0),
        ("purge_margin", {}, 3599.0),
    ],
)
def test_each_alert_is_red_alone_and_green_again(judged, check, rows, margin_s):
    red = judged(WELL | rows, margin_s)
    green = judged(WELL)

    assert {name for name, passed in red.items() if not passed} == {check}
    assert all(green.values())
    assert len(green) == 7


@pytest.mark.parametrize(
    "rows",
    [
        {"error_rate": 0.01, "attempts": 100, "failed_attempts": 1},
        {"staging_pending": 100, "staging_oldest_s": 300.0},
        {"lag_s": 5.0},
    ],
)
def test_at_the_limit_nobody_is_woken(judged, rows):
    assert all(judged(WELL | rows, 3600.0).values())


def test_what_nobody_observed_is_no_alert(verdicts):
    assert all(verdicts().values())


@pytest.fixture
def synced(instance, verdicts):
    """Return a function that observes what a sync's metrics say, and returns which checks failed.

    The sync itself judges the same.
    """
    looks: list[Vitals] = []

    def look(metrics):
        now = metrics.vitals()
        judged = {each.check: each.passed for each in alerts.verdicts(now, *looks[-1:])}
        looks.append(now)
        told = ((ROW_CHANGES, rows_metadata(now)), (BINLOG_OFFSETS, position_metadata(now)))
        for key, numbers in told:
            instance.report_runless_asset_event(dg.AssetObservation(key, metadata=numbers))
        found = verdicts()
        assert found == judged
        return {name for name, passed in found.items() if not passed}

    return look


def test_what_a_sync_observes_is_all_that_its_alerts_are_judged_by(synced):
    metrics = Metrics()
    metrics.flush_failed()
    metrics.looked(staging=(3, 9999.0))
    metrics.attempted(10, 9, 40, 40)

    first = synced(metrics)
    # Nothing more happened; what is older than the look before was told by that one.
    second = synced(metrics)

    assert first == {
        "error_rate",
        "staging",
        "shutdown_flush",
        "retries",
        "mongodb_connection",
    }
    assert second == {"error_rate", "staging", "shutdown_flush"}


def test_another_runs_totals_are_no_look_before(instance, verdicts):
    """The run before had 40 retries; that this one has 2 is no improvement by 38."""
    for retries in (40, 2):
        run = instance.create_run_for_job(binlog_sync)
        observation = dg.AssetObservation(ROW_CHANGES, metadata=WELL | {"retries": retries})
        instance.report_dagster_event(
            dg.DagsterEvent(
                dg.DagsterEventType.ASSET_OBSERVATION.value,
                run.job_name,
                event_specific_data=AssetObservationData(observation),
            ),
            run.run_id,
        )

    assert not verdicts()["retries"]
