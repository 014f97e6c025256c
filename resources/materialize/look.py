"""One look at all clusters: so many statements, however many clusters there are."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from caretaker.errors import CaretakerError, RefusedError
from caretaker.strategies.model import Json
from caretaker.strategies.signals import (
    Ended,
    Hydration,
    Online,
    Used,
    activity,
    crash_counts,
    is_observable,
    ready,
)
from resources.materialize.client import Materialize
from resources.materialize.failures import is_forbidden, is_undefined
from resources.materialize.types import aware
from resources.sql import materialize as sql
from resources.sql.materialize import APPLICATION_NAME, Reading

Rows = list[tuple[Any, ...]]

#: A statement that runs for longer than that is one that nobody has written the end of.
_RUNS_AT_MOST = timedelta(hours=24)

#: Materialize writes its statement history every five seconds.
HISTORY_WRITTEN_S = 6.0


@dataclass(slots=True)
class Look:
    """What was seen.

    Attributes:
        clusters: As in a case, by name.
        signals: By cluster id, as in a case.
        warnings: What is unknown, and why.
    """

    sizes: list[Json] = field(default_factory=list)
    clusters: list[Json] = field(default_factory=list)
    signals: dict[str, Json] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Looker:
    """Reads the catalog, leaving out what this version or this role does not have."""

    def __init__(
        self,
        materialize: Materialize,
        *,
        now: datetime,
        crash_lookback_s: float,
        activity_lookback_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare a look; `sleep` waits for the statement history to be written, where it must."""
        self._materialize = materialize
        self._now = now
        self._crash_lookback_s = crash_lookback_s
        self._activity_lookback_s = activity_lookback_s
        self._sleep = sleep
        self._columns: dict[str, set[str]] = {}
        self._warnings: list[str] = []

    def look(self, *, wait_for_history: bool = False) -> Look:
        """Return all clusters with their signals.

        `wait_for_history`: where nothing was logged lately, wait once until our own statements
        must have been: nothing then means that logging is off.
        """
        self._columns = self._materialize.columns()
        sizes = self._required(sql.SIZES)
        if not sizes:
            # Every strategy that could bring a suspended cluster back would be switched off.
            raise RefusedError(
                f"{self._materialize.shown} offers no size of a replica, and without"
                f" {sql.SIZES.what} nothing can be decided",
                target=self._materialize.settings.variable,
            )
        clusters, replicas = self._required(sql.CLUSTERS), self._required(sql.REPLICAS)
        processes = {size: count for size, count, *_ in sizes}
        used = self._used(wait=wait_for_history)
        subscriptions = _dict(self._optional(sql.SUBSCRIPTIONS))
        facts = _Facts(
            online=_dict(self._optional(sql.STATUSES), Online),
            hydration=self._hydration(),
            ends=self._ends(),
            created=_dict(self._optional(sql.CREATED)),
            pending=_ids(self._optional(sql.PENDING_REPLICAS)),
            internal=_ids(self._optional(sql.INTERNAL_REPLICAS)),
        )
        schedules = _dict(self._optional(sql.SCHEDULES))
        scaling = _ids(self._of_newer(sql.AUTO_SCALING))
        reconfigured = _ids(self._of_newer(sql.RECONFIGURATIONS))
        look = Look(sizes=[_size(row) for row in sizes], warnings=self._warnings)
        by_cluster: defaultdict[str, Rows] = defaultdict(list)
        for row in replicas:
            by_cluster[row[2]].append(row)
        for cluster_id, name, managed, size, factor, _owner in sorted(
            clusters, key=lambda row: (row[1], row[0])
        ):
            own = by_cluster[cluster_id]
            rows = [facts.replica(row) for row in own]
            look.clusters.append(
                {
                    "id": cluster_id,
                    "name": name,
                    "managed": bool(managed),
                    "size": size,
                    "replication_factor": factor,
                    "schedule": _schedule(schedules, cluster_id, managed=bool(managed)),
                    "pending": cluster_id in reconfigured or any(one["pending"] for one in rows),
                    "auto_scaling": cluster_id in scaling,
                    "replicas": rows,
                }
            )
            look.signals[cluster_id] = {
                "activity": self._activity(cluster_id, used, subscriptions),
                "replicas": {row[1]: facts.signals(row, processes) for row in own},
            }
        return look

    # --- what may be missing --------------------------------------------------------------

    def _required(self, reading: Reading) -> Rows:
        if missing := self._missing(reading):
            raise RefusedError(
                f"{self._materialize.shown}: this version has no {missing}, and without"
                f" {reading.what} nothing can be decided",
                target=self._materialize.settings.variable,
            )
        return self._materialize.session.rows(reading.sql)

    def _optional(self, reading: Reading, args: Sequence[Any] = ()) -> Rows | None:
        """Return the rows; None, with a warning, where this version or role does not have them."""
        if missing := self._missing(reading):
            self._warnings.append(f"{reading.what}: unknown, this version has no {missing}")
            return None
        try:
            return self._materialize.session.rows(reading.sql, args)
        except RefusedError as error:
            self._warnings.append(f"{reading.what}: unknown, {_why(error, reading)}")
            return None

    def _of_newer(self, reading: Reading) -> Rows | None:
        return None if self._missing(reading) else self._optional(reading)

    def _missing(self, reading: Reading) -> str:
        """Return the first of what a reading needs that is not there, or ''."""
        for relation, columns in reading.needs.items():
            there = self._columns.get(relation)
            if not there:
                return relation
            for column in columns:
                if column not in there:
                    return f"{relation}.{column}"
        return ""

    # --- signals ----------------------------------------------------------------------------

    def _hydration(self) -> dict[str, Hydration] | None:
        rows = self._optional(sql.HYDRATION)
        if rows is None:
            return None
        return {
            replica: Hydration(required, hydrated, unknown, bool(reports))
            for replica, required, hydrated, unknown, reports in rows
        }

    def _ends(self) -> dict[str, list[Ended]] | None:
        since = self._now - timedelta(seconds=self._crash_lookback_s)
        rows = self._optional(sql.CRASHES, (since,))
        if rows is None:
            return None
        ends: defaultdict[str, list[Ended]] = defaultdict(list)
        for replica, process, reason, at, restart in rows:
            if (when := aware(at)) is not None:
                ends[replica].append(Ended(process, reason, when, bool(restart)))
        return ends

    def _used(self, *, wait: bool) -> dict[str | None, Used] | None:
        """Return what the history says by cluster; None where statements are not logged."""
        found = self._history()
        if found is not None and wait and not is_observable(found, self._now):
            self._sleep(HISTORY_WRITTEN_S)
            found = self._history()
        if found is not None and not is_observable(found, self._now):
            self._warnings.append(
                f"{sql.ACTIVITY.what}: unknown, no statement was logged lately, not even ours:"
                " statement logging is off"
            )
            return None
        return found

    def _history(self) -> dict[str | None, Used] | None:
        since = self._now - timedelta(seconds=self._activity_lookback_s)
        args = (APPLICATION_NAME, APPLICATION_NAME, self._now - _RUNS_AT_MOST, since, since)
        rows = self._optional(sql.ACTIVITY, args)
        if rows is None:
            return None
        return {
            cluster: Used(_utc(last_at), running, _utc(logged_at))
            for cluster, last_at, running, logged_at in rows
        }

    def _activity(
        self,
        cluster_id: str,
        used: dict[str | None, Used] | None,
        subscriptions: dict[str, Any] | None,
    ) -> Json | None:
        if used is None or subscriptions is None:
            return None
        count = subscriptions.get(cluster_id, 0)
        return activity(used.get(cluster_id), count, self._now, self._activity_lookback_s)


@dataclass(slots=True)
class _Facts:
    """What is known of replicas, by id; None where it is unknown of all of them."""

    online: dict[str, Online] | None
    hydration: dict[str, Hydration] | None
    ends: dict[str, list[Ended]] | None
    created: dict[str, Any] | None
    pending: frozenset[str]
    internal: frozenset[str]

    def replica(self, row: tuple[Any, ...]) -> Json:
        """Return a replica as a case has it."""
        replica_id, name, _cluster, size = row
        created_at = _utc((self.created or {}).get(replica_id))
        return {
            "id": replica_id,
            "name": name,
            "size": size,
            "created_at": created_at.isoformat() if created_at else None,
            "internal": replica_id in self.internal,
            "pending": replica_id in self.pending,
        }

    def signals(self, row: tuple[Any, ...], processes: dict[str, int]) -> Json:
        """Return the signals of a replica as a case has them."""
        replica_id, _name, _cluster, size = row
        online = (self.online or {}).get(replica_id)
        hydration = (self.hydration or {}).get(replica_id)
        oom_count = crash_count = None
        if self.ends is not None:
            oom_count, crash_count = crash_counts(self.ends.get(replica_id, ()))
        return {
            "ready": ready(online, hydration, processes.get(size, 1)),
            "oom_count": oom_count,
            "crash_count": crash_count,
        }


def _why(error: CaretakerError, reading: Reading) -> str:
    if is_forbidden(error):
        return (
            f"we may not read {', '.join(sorted(reading.needs))}:"
            " GRANT mz_monitor_redacted TO the role of DATABASE_URL"
        )
    if is_undefined(error):
        return f"this version does not know the statement: {error}"
    raise error


def _schedule(schedules: dict[str, Any] | None, cluster_id: str, *, managed: bool) -> str:
    """Return who decides on a cluster's replicas; only managed clusters have schedules."""
    if schedules is None:
        return "unknown" if managed else "manual"
    return str(schedules.get(cluster_id, "manual"))


def _size(row: tuple[Any, ...]) -> Json:
    size, processes, workers, memory_bytes, credits_per_hour = row
    return {
        "size": size,
        "processes": processes,
        "workers": workers,
        "memory_bytes": memory_bytes,
        "credits_per_hour": float(credits_per_hour),
    }


def _dict(rows: Rows | None, kind: Callable[..., Any] | None = None) -> dict[str, Any] | None:
    if rows is None:
        return None
    if kind is None:
        return {row[0]: row[1] for row in rows}
    return {row[0]: kind(*row[1:]) for row in rows}


def _ids(rows: Rows | None) -> frozenset[str]:
    return frozenset(row[0] for row in rows or ())


def _utc(value: object) -> datetime | None:
    at = aware(value)
    return None if at is None else at.astimezone(UTC)
