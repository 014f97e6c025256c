"""The translog wing in the lineage: CrateDB's tables, the backlog in them, and the resets."""

# No postponed annotations here: Dagster reads those of an asset as they stand.
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.frames import column_schema, frame, frame_type
from assets.translog_backlog import (
    BACKLOG_COLUMNS,
    BACKLOG_WORDS,
    backlog_metadata,
    backlog_rows,
    far_above,
)
from assets.translog_outlook import (
    SAMPLES_KEPT,
    TREND_WINDOW,
    forecasts_of,
    trails_of,
    worth_a_sample,
)
from caretaker.translog.model import partition_text
from ops.errors import step_errors
from ops.translog_config import TranslogReportConfig
from ops.translog_history import REPLICAS_ARE_BACK, RESETS, ResetHistory
from ops.translog_look import judge
from resources.clock import utc_now
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.retries import connecting, retrying
from resources.state_store import OutcomeRow
from resources.state_store.resource import StateStoreResource

GROUP = "translog"
OWNERS = ["team:data-platform"]

RESET_COLUMNS = {
    "table": "string",
    "partition": "string",
    "outcome": "string",
    "reason": "string",
    "cause": "string",
    "original_replicas": "string",
    "final_replicas": "string",
    "seconds_at_zero": "float64",
    "lease_wait_s": "float64",
    "duration_s": "float64",
    "ended_at": "datetime64[us, UTC]",
    "run_id": "string",
    "degraded": "bool",
}

RESET_WORDS = {
    "partition": "Values of the partition, empty for a whole table.",
    "outcome": "COMPLETED, or how it ended otherwise.",
    "reason": "Why it was not simply completed.",
    "cause": "Why the translog was large: safe_commit_lag, seq_no_gap, primary_too or unknown.",
    "original_replicas": "number_of_replicas before.",
    "final_replicas": "number_of_replicas as read back last; missing where it could not be.",
    "seconds_at_zero": "From before the SET to 0 was sent until the original was read back.",
    "lease_wait_s": "Seconds of these that were waited for retention leases.",
    "duration_s": "Seconds from the ticket to its end, verifying included.",
    "degraded": "Replicas are back as text, but not all started and small in time.",
}

crate_tables = dg.AssetSpec(
    "crate_tables",
    description="Tables and partitions of the CrateDB cluster; observed, never written by Dagster.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"cratedb"},
)


@dg.asset(
    deps=[crate_tables],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"cratedb", "pandas"},
    description=(
        "Tables whose replicas hold more uncommitted translog than they may, and those that will."
    ),
    dagster_type=frame_type(
        "TranslogBacklog", BACKLOG_COLUMNS, "A row for each table above its threshold."
    ),
    metadata={"columns": column_schema(BACKLOG_COLUMNS, BACKLOG_WORDS)},
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=25)),
    check_specs=[
        dg.AssetCheckSpec(
            "nothing_far_above_threshold",
            asset="translog_backlog",
            description="No replica holds as much of its threshold as a reset acts on (200 %).",
        )
    ],
)
def translog_backlog(
    config: TranslogReportConfig, cratedb: CrateDBResource, state: StateStoreResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
    """Look once, remember the sizes, and say what a reset would find."""
    with step_errors(), cratedb.client() as crate:
        policy, store = config.policy(), state.store
        connected = connecting(crate.connect)
        look = judge(
            connected.cluster_id,
            connected.cluster_name,
            retrying(crate.observe_tables),
            store,
            policy,
            utc_now(),
        )
        trails = trails_of(store.samples(look.cluster_id, look.at - TREND_WINDOW))
        store.add_samples(look.cluster_id, look.at, worth_a_sample(look, trails))
        store.prune_samples(look.at - SAMPLES_KEPT)
    forecasts = forecasts_of(look, trails)
    rows = backlog_rows(look, policy, forecasts)
    return dg.MaterializeResult(
        value=frame(rows, BACKLOG_COLUMNS),
        metadata=backlog_metadata(look, policy, rows, forecasts),
        check_results=[
            dg.AssetCheckResult(
                check_name="nothing_far_above_threshold", **far_above(rows, policy, forecasts)
            )
        ],
    )


@dg.asset(
    key=RESETS,
    # Not of the backlog: every report would then mark the history of resets as out of date.
    deps=[crate_tables],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"cratedb", "pandas"},
    description=(
        "What became of every reset in 30 days, how long each table had no replicas, and who still "
        "has none."
    ),
    dagster_type=frame_type("TranslogResets", RESET_COLUMNS, "A row for each reset that ended."),
    metadata={"columns": column_schema(RESET_COLUMNS, RESET_WORDS)},
)
def translog_resets(state: StateStoreResource) -> dg.MaterializeResult[Any]:
    """Read the outcomes that the state store keeps; CrateDB is not asked."""
    with step_errors():
        history = ResetHistory.read(state.store, utc_now())
    return dg.MaterializeResult(
        value=frame(map(_reset_row, history.outcomes), RESET_COLUMNS),
        metadata=history.metadata(),
    )


@dg.asset_check(
    asset=RESETS,
    name=REPLICAS_ARE_BACK,
    description=(
        "No table waits for an operator to get its replicas back. Where one does, what to paste is "
        "below."
    ),
)
def replicas_are_back(state: StateStoreResource) -> dg.AssetCheckResult:
    """Ask the state store for tickets whose restore was given up."""
    with step_errors():
        return dg.AssetCheckResult(**ResetHistory.read(state.store, utc_now()).check())


def _reset_row(row: OutcomeRow) -> dict[str, Any]:
    return {
        "table": str(row.target.table),
        "partition": partition_text(row.target),
        **{
            name: getattr(row, name) for name in RESET_COLUMNS if name not in {"table", "partition"}
        },
    }
