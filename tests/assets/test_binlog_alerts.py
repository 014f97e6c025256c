"""Each alert of the audit trail, as its check on the page shows it: red, and green again."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.binlog import binlog_alerts, row_changes
from ops.binlog_observing import BINLOG_OFFSETS, ROW_CHANGES

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
