"""What Dagster loads: jobs, assets, sensors, schedules, and the resources they use."""

from __future__ import annotations

import dagster as dg

from definitions.bindings import resources
from definitions.jobs import translog_reset, translog_restore
from ops.logs import event_logger

defs = dg.Definitions(
    jobs=[translog_reset, translog_restore],
    resources=resources(),
    loggers={"console": event_logger},
)
