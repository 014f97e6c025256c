"""What Dagster loads: jobs, assets, sensors, schedules, and the resources they use."""

from __future__ import annotations

import dagster as dg

from assets.binlog import binlog_alerts, binlog_offsets, mysql_databases, row_changes
from assets.decommission import crate_cluster_health, crate_statefulsets, restarts
from assets.strategies import cluster_actions, look_at_clusters, materialize_clusters
from assets.translog import crate_tables, replicas_are_back, translog_backlog, translog_resets
from definitions.bindings import resources
from definitions.jobs import (
    binlog_setup,
    binlog_sync,
    binlog_verify,
    cluster_strategies,
    pod_decommission,
    pod_restart,
    restart_report,
    rolling_restart,
    translog_report,
    translog_reset,
    translog_restore,
    wipe_strategy_state,
)
from ops.logs import event_logger
from schedules.decommission import restart_hourly_report
from schedules.strategies import cluster_strategies_every_5_minutes
from schedules.translog import translog_hourly_report, translog_nightly
from sensors.binlog import binlog_supervisor
from sensors.decommission import restart_open_tickets
from sensors.strategies import cluster_idleness
from sensors.translog import translog_open_tickets, translog_sizes

defs = dg.Definitions(
    jobs=[
        translog_report,
        translog_reset,
        translog_restore,
        binlog_setup,
        binlog_sync,
        binlog_verify,
        pod_decommission,
        pod_restart,
        rolling_restart,
        restart_report,
        cluster_strategies,
        wipe_strategy_state,
    ],
    assets=[
        crate_tables,
        translog_backlog,
        translog_resets,
        mysql_databases,
        row_changes,
        binlog_offsets,
        crate_statefulsets,
        crate_cluster_health,
        restarts,
        materialize_clusters,
        look_at_clusters,
        cluster_actions,
    ],
    asset_checks=[replicas_are_back, binlog_alerts],
    schedules=[
        translog_nightly,
        translog_hourly_report,
        restart_hourly_report,
        cluster_strategies_every_5_minutes,
    ],
    sensors=[
        translog_open_tickets,
        translog_sizes,
        binlog_supervisor,
        restart_open_tickets,
        cluster_idleness,
    ],
    resources=resources(),
    loggers={"console": event_logger},
)
