"""The relations, column by column, as Materialize has them, and the DDL that makes them here."""

from __future__ import annotations

import re

#: Columns as `name type`, `!` where they are never null. Written as Materialize documents types.
RELATIONS: dict[str, str] = {
    "mz_catalog.mz_clusters": """id text!, name text!, owner_id text!,
        privileges array of mz_aclitem!, managed boolean!, size text, replication_factor uint4,
        disk boolean, availability_zones list of text, introspection_debugging boolean,
        introspection_interval interval""",
    "mz_catalog.mz_cluster_replicas": """id text!, name text!, cluster_id text!, size text,
        availability_zone text, owner_id text!, disk boolean""",
    "mz_catalog.mz_cluster_replica_sizes": """size text!, processes uint8!, workers uint8!,
        cpu_nano_cores uint8!, memory_bytes uint8!, disk_bytes uint8, credits_per_hour numeric!""",
    "mz_internal.mz_cluster_replica_statuses": """replica_id text!, process_id uint8!, status text!,
        reason text, updated_at timestamptz!""",
    "mz_internal.mz_cluster_replica_status_history": """replica_id text!, process_id uint8!,
        status text!, reason text, occurred_at timestamptz!""",
    "mz_internal.mz_cluster_replica_metrics": """replica_id text!, process_id uint8!,
        cpu_nano_cores uint8, memory_bytes uint8, disk_bytes uint8, heap_bytes uint8,
        heap_limit uint8""",
    "mz_internal.mz_cluster_replica_metrics_history": """replica_id text!, process_id uint8!,
        cpu_nano_cores uint8, memory_bytes uint8, disk_bytes uint8, heap_bytes uint8,
        heap_limit uint8, occurred_at timestamptz!""",
    "mz_internal.mz_cluster_replica_utilization": """replica_id text!, process_id uint8!,
        cpu_percent float8, memory_percent float8, disk_percent float8, heap_percent float8""",
    "mz_internal.mz_cluster_replica_utilization_history": """replica_id text!, process_id uint8!,
        cpu_percent float8, memory_percent float8, disk_percent float8, heap_percent float8,
        occurred_at timestamptz!""",
    "mz_internal.mz_cluster_replica_history": """replica_id text, size text, cluster_id text,
        cluster_name text, replica_name text, created_at timestamptz!, dropped_at timestamptz,
        credits_per_hour numeric""",
    "mz_internal.mz_hydration_statuses": "object_id text!, replica_id text, hydrated boolean",
    "mz_internal.mz_compute_hydration_statuses": """object_id text!, replica_id text!,
        hydrated boolean!, hydration_time interval""",
    "mz_internal.mz_statement_execution_history": """id uuid!, prepared_statement_id uuid!,
        sample_rate float8!, cluster_id text, application_name text!, cluster_name text,
        database_name text!, search_path list of text!, transaction_isolation text!,
        execution_timestamp uint8, transaction_id uint8!, transient_index_id text,
        mz_version text!, began_at timestamptz!, finished_at timestamptz, finished_status text,
        result_size bigint, rows_returned bigint, execution_strategy text""",
    "mz_internal.mz_subscriptions": """id text!, session_id uuid!, cluster_id text!,
        created_at timestamptz!, referenced_object_ids list of text!""",
    "mz_internal.mz_sessions": """id uuid!, connection_id uint4!, role_id text!, client_ip text,
        connected_at timestamptz!""",
    "mz_internal.mz_cluster_schedules": """cluster_id text!, type text!,
        refresh_hydration_time_estimate interval""",
    "mz_internal.mz_pending_cluster_replicas": "id text!",
    "mz_internal.mz_internal_cluster_replicas": "id text!",
    "mz_catalog.mz_audit_events": """id uint8!, event_type text!, object_type text!, details jsonb!,
        user text, occurred_at timestamptz!""",
    "mz_catalog.mz_indexes": """id text!, oid oid!, name text!, on_id text!, cluster_id text!,
        owner_id text!, create_sql text!, redacted_create_sql text!""",
    "mz_catalog.mz_materialized_views": """id text!, oid oid!, schema_id text!, name text!,
        cluster_id text!, definition text!, owner_id text!, privileges array of mz_aclitem!,
        create_sql text!, redacted_create_sql text!""",
    "mz_catalog.mz_sources": """id text!, oid oid!, schema_id text!, name text!, type text!,
        connection_id text, size text, envelope_type text, key_format text, value_format text,
        cluster_id text, owner_id text!, privileges array of mz_aclitem!, create_sql text,
        redacted_create_sql text""",
    "mz_catalog.mz_sinks": """id text!, oid oid!, schema_id text!, name text!, type text!,
        connection_id text, size text, envelope_type text, format text, key_format text,
        value_format text, cluster_id text!, owner_id text!, create_sql text!,
        redacted_create_sql text!""",
    "mz_catalog.mz_roles": """id text!, oid oid!, name text!, inherit boolean!,
        rolcanlogin boolean, rolsuper boolean""",
    "mz_catalog.mz_cluster_replica_frontiers": """object_id text!, replica_id text!,
        write_frontier mz_timestamp""",
    "mz_internal.mz_wallclock_global_lag": "object_id text!, lag interval",
    "mz_internal.mz_wallclock_global_lag_recent_history": """object_id text!, lag interval,
        occurred_at timestamptz!""",
    "mz_internal.mz_cluster_deployment_lineage": """cluster_id text,
        current_deployment_cluster_id text!, cluster_name text!""",
    "mz_internal.mz_materialized_view_refreshes": """materialized_view_id text!,
        last_completed_refresh mz_timestamp, next_refresh mz_timestamp""",
    "mz_internal.mz_comments": """id text!, object_type text!, object_sub_id integer,
        comment text!""",
    "mz_introspection.mz_active_peeks": """id uuid!, object_id text!, type text!,
        time mz_timestamp!""",
}
#: Newer servers have these; a lab has them when asked to.
NEWER: dict[str, str] = {
    "mz_internal.mz_cluster_auto_scaling_strategies": """cluster_id text!, strategy jsonb!,
        state jsonb""",
    "mz_internal.mz_cluster_reconfigurations": """cluster_id text!, status text!,
        started_at timestamptz!, finished_at timestamptz""",
}
#: Relations that only some roles may read, and which roles.
RESTRICTED: dict[str, tuple[str, ...]] = {
    "mz_internal.mz_statement_execution_history": ("mz_monitor",),
    "mz_internal.mz_statement_execution_history_redacted": ("mz_monitor", "mz_monitor_redacted"),
}

_OURS = {"uint2", "uint4", "uint8", "mz_timestamp", "mz_aclitem"}


def columns(spec: str) -> list[tuple[str, str, bool]]:
    """Return (name, type as Materialize writes it, nullable) for each column of a relation.

    >>> columns("id text!, replication_factor uint4")
    [('id', 'text', False), ('replication_factor', 'uint4', True)]
    """
    found = []
    for part in re.split(r",\s*", spec.strip()):
        name, kind = part.split(None, 1)
        kind = " ".join(kind.split())
        found.append((name, kind.removesuffix("!"), not kind.endswith("!")))
    return found


def local(kind: str) -> str:
    """Return the type here that stands for one of Materialize's.

    >>> local("array of mz_aclitem"), local("list of text"), local("text")
    ('mz_catalog.mz_aclitem[]', 'mz_catalog.list', 'text')
    """
    if kind.startswith("list of "):
        return "mz_catalog.list"
    if kind.startswith("array of "):
        return f"{local(kind.removeprefix('array of '))}[]"
    return f"mz_catalog.{kind}" if kind in _OURS else kind


def create(name: str, spec: str) -> str:
    """Return the statement that makes one relation."""
    lines = [
        f'  "{column}" {local(kind)}{"" if nullable else " NOT NULL"}'
        for column, kind, nullable in columns(spec)
    ]
    return f"CREATE TABLE {name} (\n" + ",\n".join(lines) + "\n);"
