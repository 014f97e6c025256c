"""The binlog wing in the lineage: MySQL's databases, the trail of their changes, and its alerts."""

# No postponed annotations here: Dagster reads those of a check as they stand.
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg

from caretaker.binlog.alerts import CHECKS, verdicts
from ops.binlog_observing import BINLOG_OFFSETS, ROW_CHANGES, evaluation

GROUP = "binlog"
OWNERS = ["team:data-platform"]

mysql_databases = dg.AssetSpec(
    "mysql_databases",
    description="Databases of the MySQL or MariaDB source; read as a replica would, never written.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mysql"},
)

row_changes = dg.AssetSpec(
    ROW_CHANGES,
    deps=[mysql_databases],
    description=(
        "The audit trail: a document for every row change of the source, written once. No run "
        "materializes it: one long run of binlog_sync writes it all the time, and tells every "
        "minute how far behind it is, how much it writes, and what fails."
    ),
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mongodb"},
)

binlog_offsets = dg.AssetSpec(
    BINLOG_OFFSETS,
    deps=[mysql_databases],
    description=(
        "How far the trail of the source is: which transactions are in it (gtid), where in the "
        "binlog the next one begins (file, pos), how many documents there are (seq), and for how "
        "many seconds more the source keeps what was not read yet (purge_margin_s). A sync that "
        "was stopped or killed goes on exactly here."
    ),
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mongodb"},
)


#: What an alert assumes of a number that no observation has.
_UNKNOWN: dict[str, Any] = {
    "error_rate": 0.0,
    "attempts": 0,
    "failed_attempts": 0,
    "staging_pending": 0,
    "staging_oldest_s": 0.0,
    "lag_s": None,
    "flush_failed": False,
    "retries": 0,
    "mongodb_errors": 0,
    "purge_margin_s": None,
}


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(name, asset=ROW_CHANGES, description=words)
        for name, words in CHECKS.items()
    ],
    name="binlog_alerts",
)
def binlog_alerts(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Judge the newest observation again; the sync itself does so every minute."""
    observed = {
        **_observed(context.instance, BINLOG_OFFSETS),
        **_observed(context.instance, ROW_CHANGES),
    }
    for verdict in verdicts(SimpleNamespace(**{**_UNKNOWN, **observed})):
        said = evaluation(verdict)
        yield dg.AssetCheckResult(
            asset_key=ROW_CHANGES,
            check_name=verdict.check,
            passed=verdict.passed,
            severity=said.severity,
            metadata={"found": verdict.found if observed else "no sync has been observed"},
        )


def _observed(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, Any]:
    """Return the numbers of the newest observation of an asset; nothing where there is none."""
    for record in instance.fetch_observations(key, limit=1).records:
        observation = record.event_log_entry.asset_observation
        if observation is not None:
            return {name: value.value for name, value in observation.metadata.items()}
    return {}
