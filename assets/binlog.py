"""The binlog wing in the lineage: MySQL's databases, the trail of their changes, and its alerts."""

# No postponed annotations here: Dagster reads those of a check as they stand.
from collections.abc import Iterator
from dataclasses import dataclass
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
    places, rows = (
        _observed(context.instance, BINLOG_OFFSETS),
        _observed(context.instance, ROW_CHANGES),
    )
    observed = {**(places[0].numbers if places else {}), **(rows[0].numbers if rows else {})}
    # Totals are a run's own: with another run's nothing is to be compared.
    ours = len(rows) > 1 and rows[0].run_id == rows[1].run_id
    before = _sign(rows[1].numbers) if ours else None
    for verdict in verdicts(_sign(observed), before):
        said = evaluation(verdict)
        yield dg.AssetCheckResult(
            asset_key=ROW_CHANGES,
            check_name=verdict.check,
            passed=verdict.passed,
            severity=said.severity,
            metadata={"found": verdict.found if observed else "no sync has been observed"},
        )


@dataclass(frozen=True)
class _Observed:
    """An observation's numbers, and which run made it."""

    run_id: str
    numbers: dict[str, Any]


def _sign(numbers: dict[str, Any]) -> Any:
    return SimpleNamespace(**{**_UNKNOWN, **numbers})


def _observed(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[_Observed]:
    """Return the last two observations of an asset, the newest first."""
    records = instance.fetch_observations(key, limit=2).records
    return [
        _Observed(
            record.run_id, {name: value.value for name, value in observation.metadata.items()}
        )
        for record in records
        if (observation := record.event_log_entry.asset_observation) is not None
    ]
