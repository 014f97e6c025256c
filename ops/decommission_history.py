"""What the asset `restarts` shows of every decommission: rates, durations, reasons, a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import dagster as dg

from caretaker.decommission.alerts import CHECKS, Ended, Terminating, Verdict, verdicts
from caretaker.errors import CaretakerError
from ops.decommission_pictures import durations_picture, timeline_picture
from ops.decommission_run import RestartReport, note
from ops.pictures import embedded
from ops.shown import duration, table
from resources.clock import utc_now
from resources.state_store import DecommissionRow, LookRow, RestartRow, StateStore
from resources.state_store.resource import StateStoreResource

RESTARTS = dg.AssetKey("restarts")
HEALTH = dg.AssetKey("crate_cluster_health")

#: What the asset looks back on.
LOOKED_BACK = timedelta(days=30)
_MOST = 2000

#: No more than a page shows side by side.
_COLUMNS = {
    "pod": "string",
    "namespace": "string",
    "outcome": "string",
    "duration_s": "float",
    "strategy": "string",
    "ended_at": "string",
    "reason": "string",
}
_WORDS = {
    "outcome": "done (in place: its container was started again in the same pod), failed, or "
    "refused: then nothing was touched.",
}


@dataclass(frozen=True)
class RestartHistory:
    """How decommissions of the last weeks ended, newest first, and what is open now."""

    ended: Sequence[DecommissionRow]
    open_now: Sequence[RestartRow]
    at: datetime

    @classmethod
    def read(cls, store: StateStore, now: datetime) -> RestartHistory:
        """Read it from the store; no cluster is asked."""
        return cls(store.decommissions(_MOST, now - LOOKED_BACK), store.open_restarts(), now)

    def metadata(self) -> dict[str, Any]:
        """Return rates, durations by strategy, the distribution, failures by reason, a picture."""
        tried = [row for row in self.ended if not row.refused]
        done = [row for row in tried if row.success]
        found: dict[str, Any] = {
            "decommissions": len(tried),
            "failed": len(tried) - len(done),
            "refused": len(self.ended) - len(tried),
            "open_tickets": len(self.open_now),
        }
        if tried:
            found["success_rate"] = round(len(done) / len(tried), 4)
        for strategy, count in sorted(Counter(row.strategy for row in tried).items()):
            found[f"count_{strategy}"] = count
        for strategy in sorted({row.strategy for row in done}):
            took = [row.duration_s for row in done if row.strategy == strategy]
            found[f"median_duration_s_{strategy}"] = round(median(took), 1)
        failed = Counter(_kind(row.error) for row in tried if not row.success)
        refused = Counter(_kind(row.error) for row in self.ended if row.refused)
        if reasons := failed + refused:
            found["failures_by_reason"] = table(
                [
                    {"reason": reason, "failed": failed[reason], "refused": refused[reason]}
                    for reason, _ in reasons.most_common()
                ],
                {"reason": "string", "failed": "int", "refused": "int"},
                {"refused": "A safety check refused; nothing was touched."},
            )
        if self.ended:
            found["pods"] = table([_record(row) for row in self.ended], _COLUMNS, _WORDS)
            found["durations"] = embedded(
                lambda: durations_picture(tried, self.at), "Duration of each decommission"
            )
        return found

    def checks(self, terminating: Sequence[Terminating] = ()) -> list[Verdict]:
        """Judge the four conditions that the operators settled on."""
        ended = [
            Ended(row.success, row.duration_s, row.strategy, row.error, row.refused)
            for row in self.ended
        ]
        return list(verdicts(ended, terminating, self.at))


def check_results(found: Sequence[Verdict]) -> list[dg.AssetCheckResult]:
    """Return verdicts as the asset's checks."""
    return [
        dg.AssetCheckResult(
            check_name=each.check,
            passed=each.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=each.found,
        )
        for each in found
    ]


def check_specs() -> list[dg.AssetCheckSpec]:
    """Return the checks of `restarts`, with what each promises."""
    return [
        dg.AssetCheckSpec(name, asset=RESTARTS, description=promise)
        for name, promise in CHECKS.items()
    ]


def publish(
    context: dg.OpExecutionContext, report: RestartReport, state: StateStoreResource
) -> None:
    """Show the run its own outcomes, and the assets those of the last weeks with them."""
    results = [result for each in report.clusters for result in each.results]
    metadata: dict[str, Any] = {"exit_code": report.exit_code}
    for each in report.clusters:
        name = f"{each.namespace}/{each.name}"
        metadata[name] = f"{each.outcome} {each.reason}".strip()
    if results:
        metadata["results"] = dg.MetadataValue.json([each.as_document() for each in results])
    context.add_output_metadata(metadata)
    if report.dry_run or not any(each.restart_id for each in report.clusters):
        return
    try:
        store = state.store
        history = RestartHistory.read(store, utc_now())
        context.log_event(dg.AssetMaterialization(RESTARTS, metadata=history.metadata()))
        for found in check_results(history.checks()):
            # What is Terminating now only the asset itself asks Kubernetes for.
            if found.check_name != "terminating":
                verdict = dg.AssetCheckEvaluation(
                    asset_key=RESTARTS,
                    check_name=str(found.check_name),
                    passed=found.passed,
                    metadata={},
                    severity=found.severity,
                    description=found.description,
                )
                context.log_event(verdict)  # type: ignore[arg-type]
        for cluster in report.clusters:
            if cluster.restart_id is not None:
                looks = store.looks(cluster.restart_id)
                name = f"{cluster.namespace}/{cluster.name}"
                shown = dg.AssetMaterialization(
                    HEALTH, metadata=timeline_metadata(name, looks, utc_now())
                )
                context.log_event(shown)
    except CaretakerError as error:
        note(context, error)


def timeline_metadata(name: str, looks: Sequence[LookRow], now: datetime) -> dict[str, Any]:
    """Return how a cluster fared during a restart, as a picture and in numbers."""
    if not looks:
        return {"cluster": name}
    last = looks[-1]
    took = (now - looks[0].at).total_seconds()
    worst = [look.health for look in looks if look.health]
    order = ("GREEN", "YELLOW", "RED")
    return {
        "cluster": name,
        "health": last.health or "unknown",
        "allocation": last.allocation or "unknown",
        "worst_health": max(worst, key=lambda word: order.index(word) if word in order else 3)
        if worst
        else "unknown",
        "took": duration(took),
        "timeline": embedded(
            lambda: timeline_picture(name, looks, now),
            f"Pods, health and allocation of {name} during its restart",
        ),
    }


def _kind(error: str) -> str:
    """Return what an error begins with: numbers and names behind it differ every time."""
    head = error.split(":", maxsplit=1)[0]
    return "".join("n" if letter.isdigit() else letter for letter in head)[:80] or "unknown"


def _record(row: DecommissionRow) -> dict[str, Any]:
    return {
        "pod": row.pod_name,
        "namespace": row.cluster.namespace,
        "outcome": _outcome(row),
        "duration_s": round(row.duration_s, 1),
        "strategy": row.strategy,
        "ended_at": f"{row.ended_at:%m-%d %H:%M:%S}",
        "reason": row.error,
    }


def _outcome(row: DecommissionRow) -> str:
    if row.success:
        return "done, in place" if row.restarted_in_place else "done"
    return "refused" if row.refused else "failed"
