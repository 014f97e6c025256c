"""The night shift begins when the operator's clock says so, and only once switched on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from caretaker.errors import InvalidSettingError
from schedules.decommission import restart_hourly_report
from schedules.translog import timezone, translog_hourly_report, translog_nightly

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_word_the_clock_is_utc():
    assert timezone({}) == timezone({"CARETAKER_TIMEZONE": " "}) == "UTC"


def test_an_operators_time_zone_is_taken():
    assert timezone({"CARETAKER_TIMEZONE": "Europe/Vienna"}) == "Europe/Vienna"


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../etc/passwd", "/etc/passwd", "a\0b"])
def test_a_wrong_time_zone_is_refused_by_the_variables_name(name):
    with pytest.raises(InvalidSettingError) as refused:
        timezone({"CARETAKER_TIMEZONE": name})
    assert str(refused.value).startswith("CARETAKER_TIMEZONE: found ")
    assert "Europe/Vienna" in str(refused.value)


def test_loading_with_a_wrong_time_zone_names_the_variable():
    loaded = subprocess.run(
        [sys.executable, "-c", "import schedules.translog"],
        env={**os.environ, "CARETAKER_TIMEZONE": "Mars/Olympus"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 1
    assert "CARETAKER_TIMEZONE: found 'Mars/Olympus'" in loaded.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("schedule", "cron", "job"),
    [
        (translog_nightly, "0 2 * * *", "translog_reset"),
        (translog_hourly_report, "17 * * * *", "translog_report"),
        (restart_hourly_report, "37 * * * *", "restart_report"),
    ],
)
def test_schedules_are_off_until_switched_on(schedule, cron, job):
    assert schedule.cron_schedule == cron
    assert schedule.job_name == job
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
