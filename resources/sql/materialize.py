"""Every statement Materialize ever gets from us, but those that `caretaker.strategies` decides on.

A constant has a purpose and its columns, in order; values are parameters (`%s`). Unsigned integers
are converted on the server: a client that does not know Materialize's own types gets text. A
Reading names the columns it needs: a version that lacks one of them cannot be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: How we appear in the statement history; what is called so is not activity.
APPLICATION_NAME = "caretaker"


@dataclass(frozen=True, slots=True)
class Reading:
    """A statement that reads the catalog, and what it needs there.

    Attributes:
        needs: Relation by its full name, and the columns of it.
        what: What is unknown without it, for people.
    """

    sql: str
    needs: Mapping[str, Sequence[str]]
    what: str


# ---------------------------------------------------------------------------- who is there

#: version, environment, role, time; a PostgreSQL has no mz_version().
IDENTITY = "SELECT mz_version(), mz_environment_id(), current_user, now()"

#: The cluster that runs what reads tables of users.
SESSION_CLUSTER = "SHOW cluster"

#: Every column of the relations that are asked for: schema, relation, column.
COLUMNS = """
SELECT s.name, r.name, c.name
FROM mz_catalog.mz_columns c
JOIN mz_catalog.mz_relations r ON r.id = c.id
JOIN mz_catalog.mz_schemas s ON s.id = r.schema_id
WHERE s.name IN ('mz_catalog', 'mz_internal') AND r.name IN ({names})
"""


def columns(relations: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Ask which columns these relations have; those that are not there have no row."""
    names = tuple(relation.partition(".")[2] for relation in relations)
    return COLUMNS.format(names=", ".join(["%s"] * len(names))), names


# ---------------------------------------------------------------------------- the clusters

#: id, name, managed, size, replication factor, owner.
CLUSTERS = Reading(
    "SELECT id, name, managed, size, replication_factor::bigint, owner_id"
    " FROM mz_catalog.mz_clusters",
    {
        "mz_catalog.mz_clusters": (
            "id", "name", "managed", "size", "replication_factor", "owner_id",
        )
    },
    "the clusters",
)  # fmt: skip

#: id, name, cluster id, size.
REPLICAS = Reading(
    "SELECT id, name, cluster_id, size FROM mz_catalog.mz_cluster_replicas",
    {"mz_catalog.mz_cluster_replicas": ("id", "name", "cluster_id", "size")},
    "the replicas",
)

#: size, processes, workers, memory in bytes, credits per hour.
SIZES = Reading(
    # The memory of a size without a limit is the largest uint8, and more than a bigint holds.
    "SELECT size, processes::bigint, workers::bigint, memory_bytes, credits_per_hour"
    " FROM mz_catalog.mz_cluster_replica_sizes",
    {
        "mz_catalog.mz_cluster_replica_sizes": (
            "size", "processes", "workers", "memory_bytes", "credits_per_hour",
        )
    },
    "the sizes",
)  # fmt: skip

#: cluster id, type.
SCHEDULES = Reading(
    "SELECT cluster_id, type FROM mz_internal.mz_cluster_schedules",
    {"mz_internal.mz_cluster_schedules": ("cluster_id", "type")},
    "the clusters' schedules",
)

#: replica id.
PENDING_REPLICAS = Reading(
    "SELECT id FROM mz_internal.mz_pending_cluster_replicas",
    {"mz_internal.mz_pending_cluster_replicas": ("id",)},
    "which replicas are part of a reconfiguration",
)

#: replica id.
INTERNAL_REPLICAS = Reading(
    "SELECT id FROM mz_internal.mz_internal_cluster_replicas",
    {"mz_internal.mz_internal_cluster_replicas": ("id",)},
    "which replicas are Materialize's own",
)

#: cluster id. Of newer versions.
AUTO_SCALING = Reading(
    "SELECT cluster_id FROM mz_internal.mz_cluster_auto_scaling_strategies"
    " WHERE strategy IS NOT NULL",
    {"mz_internal.mz_cluster_auto_scaling_strategies": ("cluster_id", "strategy")},
    "which clusters Materialize scales by itself",
)

#: cluster id. Of newer versions.
RECONFIGURATIONS = Reading(
    "SELECT cluster_id FROM mz_internal.mz_cluster_reconfigurations WHERE finished_at IS NULL",
    {"mz_internal.mz_cluster_reconfigurations": ("cluster_id", "finished_at")},
    "which clusters are being reconfigured",
)

#: replica id, when it was made.
CREATED = Reading(
    "SELECT h.replica_id, h.created_at FROM mz_internal.mz_cluster_replica_history h"
    " JOIN mz_catalog.mz_cluster_replicas r ON r.id = h.replica_id",
    {"mz_internal.mz_cluster_replica_history": ("replica_id", "created_at")},
    "how old replicas are",
)

# ---------------------------------------------------------------------------- the signals

#: replica id, processes that say something, processes that are online.
STATUSES = Reading(
    "SELECT replica_id, count(*)::bigint, count(*) FILTER (WHERE status = 'online')::bigint"
    " FROM mz_internal.mz_cluster_replica_statuses GROUP BY replica_id",
    {"mz_internal.mz_cluster_replica_statuses": ("replica_id", "status")},
    "whether replicas are online",
)

#: replica id; of the objects that it must hold: all, hydrated, reported without a value; reports of
#: anything at all. Statuses of dropped replicas linger on, so only live replicas are asked for.
#: Sources that run on one replica are never required of another one: those of databases.
HYDRATION = Reading(
    """
SELECT r.id, count(o.id)::bigint, count(*) FILTER (WHERE h.hydrated)::bigint,
       count(*) FILTER (WHERE h.object_id IS NOT NULL AND h.hydrated IS NULL)::bigint,
       max(s.reports)::bigint
FROM mz_catalog.mz_cluster_replicas r
LEFT JOIN (
    SELECT id, cluster_id FROM mz_catalog.mz_indexes WHERE id LIKE 'u%'
    UNION ALL
    SELECT id, cluster_id FROM mz_catalog.mz_materialized_views WHERE id LIKE 'u%'
    UNION ALL
    SELECT id, cluster_id FROM mz_catalog.mz_sources WHERE id LIKE 'u%' AND type = 'kafka'
) o ON o.cluster_id = r.cluster_id
LEFT JOIN mz_internal.mz_hydration_statuses h ON h.object_id = o.id AND h.replica_id = r.id
LEFT JOIN (
    SELECT replica_id, count(*) AS reports FROM mz_internal.mz_hydration_statuses
    GROUP BY replica_id
) s ON s.replica_id = r.id
GROUP BY r.id
""",
    {
        "mz_catalog.mz_indexes": ("id", "cluster_id"),
        "mz_catalog.mz_materialized_views": ("id", "cluster_id"),
        "mz_catalog.mz_sources": ("id", "cluster_id", "type"),
        "mz_internal.mz_hydration_statuses": ("object_id", "replica_id", "hydrated"),
    },
    "whether replicas are hydrated",
)

#: replica id, process, reason, when it went offline, whether it was online before. Of live
#: replicas, since a time. The window spans all of a replica's history: the first end in the
#: look-back was a restart, too, if it was online before that. At one and the same moment offline
#: comes first, as where a replica begins.
CRASHES = Reading(
    """
SELECT replica_id, process_id::bigint, reason, occurred_at, status_before = 'online'
FROM (
    SELECT h.replica_id, h.process_id, h.status, h.reason, h.occurred_at,
           lag(h.status) OVER (
               PARTITION BY h.replica_id, h.process_id ORDER BY h.occurred_at, h.status
           ) AS status_before
    FROM mz_internal.mz_cluster_replica_status_history h
    JOIN mz_catalog.mz_cluster_replicas r ON r.id = h.replica_id
) t
WHERE status = 'offline' AND occurred_at >= %s
""",
    {
        "mz_internal.mz_cluster_replica_status_history": (
            "replica_id", "process_id", "status", "reason", "occurred_at",
        )
    },
    "how often replicas crashed",
)  # fmt: skip

#: cluster id; by others than us: the last use, statements that run; and the last that was logged at
#: all. Parameters: us, us, since when what began can still run, since when, since when: a
#: subscription may have begun long before and have ended just now. What never ends because the
#: server went down under it is 'aborted'.
ACTIVITY = Reading(
    """
SELECT cluster_id,
       max(coalesce(finished_at, began_at)) FILTER (WHERE application_name <> %s),
       count(*) FILTER (
           WHERE application_name <> %s AND finished_at IS NULL AND began_at > %s
           AND coalesce(finished_status, '') <> 'aborted'
       )::bigint,
       max(began_at)
FROM mz_internal.mz_statement_execution_history_redacted
WHERE began_at >= %s OR finished_at >= %s
GROUP BY cluster_id
""",
    {
        "mz_internal.mz_statement_execution_history_redacted": (
            "cluster_id", "application_name", "began_at", "finished_at", "finished_status",
        )
    },
    "when clusters were last used",
)  # fmt: skip

#: cluster id, live subscriptions.
SUBSCRIPTIONS = Reading(
    "SELECT cluster_id, count(*)::bigint FROM mz_internal.mz_subscriptions GROUP BY cluster_id",
    {"mz_internal.mz_subscriptions": ("cluster_id",)},
    "which clusters feed subscriptions",
)

REQUIRED = (CLUSTERS, REPLICAS, SIZES)
#: Versions that lack these do not do what they tell of.
OF_NEWER_VERSIONS = (AUTO_SCALING, RECONFIGURATIONS)
OPTIONAL = (
    SCHEDULES, PENDING_REPLICAS, INTERNAL_REPLICAS, CREATED, STATUSES, HYDRATION, CRASHES,
    ACTIVITY, SUBSCRIPTIONS,
)  # fmt: skip
RELATIONS = sorted(
    {name for one in (*REQUIRED, *OPTIONAL, *OF_NEWER_VERSIONS) for name in one.needs}
)

# ---------------------------------------------------------------------------- around an action

#: One cluster now, a row for each of its replicas: name, managed, size, replication factor, replica
#: id, replica name, replica size.
CLUSTER_NOW = """
SELECT c.name, c.managed, c.size, c.replication_factor::bigint, r.id, r.name, r.size
FROM mz_catalog.mz_clusters c
LEFT JOIN mz_catalog.mz_cluster_replicas r ON r.cluster_id = c.id
WHERE c.id = %s
"""

#: Whose clusters are not ours: name. Parameter: our role.
CLUSTERS_OF_OTHERS = """
SELECT c.name FROM mz_catalog.mz_clusters c LEFT JOIN mz_catalog.mz_roles r ON r.id = c.owner_id
WHERE c.id LIKE 'u%%' AND coalesce(r.name, '') <> %s ORDER BY c.name
"""

#: Every life of every replica since a time: cluster, replica, size, created, dropped, credits/h.
LIVES = Reading(
    "SELECT cluster_name, replica_name, size, created_at, dropped_at, credits_per_hour"
    " FROM mz_internal.mz_cluster_replica_history"
    " WHERE cluster_id LIKE 'u%%' AND (dropped_at IS NULL OR dropped_at >= %s)",
    {
        "mz_internal.mz_cluster_replica_history": (
            "cluster_id", "cluster_name", "replica_name", "size", "created_at", "dropped_at",
            "credits_per_hour",
        )
    },
    "how long replicas lived",
)  # fmt: skip
