"""When clusters are looked after without anybody asking."""

# No postponed annotations here: Dagster reads those of a schedule as they stand.
import dagster as dg

from ops.strategies_standing import CONFIG_VARIABLE, standing_options
from schedules.translog import timezone


@dg.schedule(
    name="cluster_strategies_every_5_minutes",
    job_name="cluster_strategies",
    cron_schedule="*/5 * * * *",
    execution_timezone=timezone(),
    default_status=dg.DefaultScheduleStatus.STOPPED,
    tags={"caretaker/wing": "strategies"},
    description=(
        "Every 5 minutes, keep the replicas of all clusters as their strategies want, with the "
        f"limits of the file that {CONFIG_VARIABLE} names. Off until switched on: it starts "
        "changes."
    ),
)
def cluster_strategies_every_5_minutes() -> dg.RunRequest:
    """Apply, whatever mode the file names."""
    return dg.RunRequest(run_config={**standing_options(), "mode": "apply"})
