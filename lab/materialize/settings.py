"""Session parameters: Materialize's own, kept in PostgreSQL under a prefix, and those both know."""

from __future__ import annotations

import re

#: PostgreSQL takes unknown parameters only with a dot in their names.
PREFIX = "mz."
#: Parameters of Materialize that PostgreSQL lacks or means otherwise, with their defaults.
DEFAULT_PARAMETERS = {
    "auto_route_catalog_queries": "on",
    "cluster": "quickstart",
    "cluster_replica": "",
    "current_object_missing_warnings": "on",
    "database": "materialize",
    "emit_timestamp_notice": "off",
    "emit_trace_id_notice": "off",
    "enable_session_rbac_checks": "off",
    "force_source_table_syntax": "off",
    "max_query_result_size": "1073741824",
    "real_time_recency": "off",
    "real_time_recency_timeout": "10s",
    "statement_logging_sample_rate": "0.99",
    "transaction_isolation": "strict serializable",
    "welcome_message": "on",
}
#: Parameters that both know by the same name and meaning.
SHARED = frozenset({
    "application_name", "client_encoding", "client_min_messages", "datestyle", "extra_float_digits",
    "idle_in_transaction_session_timeout", "integer_datetimes", "intervalstyle", "is_superuser",
    "search_path", "standard_conforming_strings", "statement_timeout", "timezone",
})  # fmt: skip
#: Parameters that can only be shown, and what they show.
FIXED = {"server_version": "9.5.0", "server_version_num": "90500"}
#: What stands behind the client's own search path: the schemas that are always searched.
IMPLICIT_SCHEMAS = "mz_catalog, pg_catalog"

#: Limits of the environment, as `ALTER SYSTEM` would set them.
SYSTEM = {
    "version": "v26.12.0 (lab)",
    "rbac": "off",
    "max_replicas_per_cluster": "5",
    "max_clusters": "25",
    "max_credit_consumption_rate": "1024",
    "allowed_sizes": "",
    "availability_zones": "",
    "multi_replica_sources": "on",
    "boot_s": "2",
    "hydrate_s": "5",
    "restart_s": "2",
}


def local(name: str) -> str | None:
    """Return the name that a parameter has here; None where Materialize knows none of this name."""
    name = name.lower()
    if name in DEFAULT_PARAMETERS:
        return PREFIX + name
    return name if name in SHARED else None


def startup_options(given: dict[str, str]) -> dict[str, str]:
    r"""Return what a client's startup packet sets, by the names that parameters have here.

    `options` holds `-c name=value` or `--name=value`, a backslash before a space that belongs to
    a value. What Materialize does not know it passes over.

    >>> startup_options({"options": "-c cluster=a\\\\ b --search_path=x", "_pq_.x": "1"})
    {'mz.cluster': 'a b', 'search_path': 'x, mz_catalog, pg_catalog'}
    """
    found = {k: v for k, v in given.items() if k not in {"user", "database", "options"}}
    for word in re.split(r"(?<!\\)\s+", given.get("options", "").replace("-c ", "--").strip()):
        name, equals, value = word.removeprefix("-c").removeprefix("--").partition("=")
        if equals:
            found[name.replace("-", "_")] = re.sub(r"\\(.)", r"\1", value)
    out = {}
    for name, value in found.items():
        known = local(name)
        if known == "search_path":
            out[known] = f"{value}, {IMPLICIT_SCHEMAS}"
        elif known is not None:
            out[known] = value
    return out
