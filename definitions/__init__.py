"""What Dagster loads: jobs, assets, sensors, schedules, and the resources they use."""

from __future__ import annotations

import dagster as dg

from assets.translog import crate_tables, replicas_are_back, translog_backlog, translog_resets
from definitions.bindings import resources
from definitions.jobs import translog_report, translog_reset, translog_restore
from ops.logs import event_logger
from schedules.translog import translog_hourly_report, translog_nightly
from sensors.translog import translog_open_tickets, translog_sizes

defs = dg.Definitions(
    jobs=[translog_report, translog_reset, translog_restore],
    assets=[crate_tables, translog_backlog, translog_resets],
    asset_checks=[replicas_are_back],
    schedules=[translog_nightly, translog_hourly_report],
    sensors=[translog_open_tickets, translog_sizes],
    resources=resources(),
    loggers={"console": event_logger},
)
