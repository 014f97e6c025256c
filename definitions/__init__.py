"""What Dagster loads: jobs, assets, sensors, schedules, and the resources they use."""

from __future__ import annotations

import dagster as dg

from assets.binlog import binlog_alerts, binlog_offsets, mysql_databases, row_changes
from assets.translog import crate_tables, replicas_are_back, translog_backlog, translog_resets
from definitions.bindings import resources
from definitions.jobs import (
    binlog_setup,
    binlog_sync,
    binlog_verify,
    translog_report,
    translog_reset,
    translog_restore,
)
from ops.logs import event_logger
from schedules.translog import translog_hourly_report, translog_nightly
from sensors.binlog import binlog_supervisor
from sensors.translog import translog_open_tickets, translog_sizes

defs = dg.Definitions(
    jobs=[
        translog_report,
        translog_reset,
        translog_restore,
        binlog_setup,
        binlog_sync,
        binlog_verify,
    ],
    assets=[
        crate_tables,
        translog_backlog,
        translog_resets,
        mysql_databases,
        row_changes,
        binlog_offsets,
    ],
    asset_checks=[replicas_are_back, binlog_alerts],
    schedules=[translog_nightly, translog_hourly_report],
    sensors=[translog_open_tickets, translog_sizes, binlog_supervisor],
    resources=resources(),
    loggers={"console": event_logger},
)
