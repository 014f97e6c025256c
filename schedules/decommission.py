"""When CrateDB's pods are looked at without anybody asking; nothing is restarted by the clock."""

from __future__ import annotations

import dagster as dg

from schedules.translog import timezone

restart_hourly_report = dg.ScheduleDefinition(
    name="restart_hourly_report",
    job_name="restart_report",
    cron_schedule="37 * * * *",
    execution_timezone=timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    tags={"caretaker/wing": "decommission"},
    description=(
        "Every hour, look at all CrateDB clusters in pods: their health, what is restricted, and "
        "pods that are Terminating past their grace. Changes nothing."
    ),
)
