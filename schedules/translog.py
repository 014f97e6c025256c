"""When translogs are looked after without anybody asking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from caretaker.errors import InvalidSettingError

TIMEZONE = "CARETAKER_TIMEZONE"


def timezone(environ: Mapping[str, str] = os.environ) -> str:
    """Return the time zone of all schedules, UTC unless the variable names another one.

    >>> timezone({"CARETAKER_TIMEZONE": "Europe/Vienna"})
    'Europe/Vienna'
    """
    name = environ.get(TIMEZONE, "").strip() or "UTC"
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # ValueError: a path such as ../x; OSError: a directory of the database such as Europe.
        allowed = "a name of the tz database, such as UTC or Europe/Vienna"
        raise InvalidSettingError(TIMEZONE, name, allowed) from None


translog_nightly = dg.ScheduleDefinition(
    name="translog_nightly",
    job_name="translog_reset",
    cron_schedule="0 2 * * *",
    execution_timezone=timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    tags={"caretaker/wing": "translog"},
    description=(
        f"Every night at 02:00 ({TIMEZONE}), reset every table at 200 % of its threshold or "
        "above. Off until switched on: it starts changes."
    ),
)

#: Trends need looks that are closer together than nights, and the asset is late after 25 h.
translog_hourly_report = dg.ScheduleDefinition(
    name="translog_hourly_report",
    job_name="translog_report",
    cron_schedule="17 * * * *",
    execution_timezone=timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    tags={"caretaker/wing": "translog"},
    description="Every hour, look at all translogs and keep the backlog and its trend fresh.",
)
