"""A fresh database becomes a Materialize: types, relations, the lab's world, the first clusters."""

from __future__ import annotations

from importlib import resources

import psycopg

from lab.materialize import catalog, types
from lab.materialize.settings import DEFAULT_PARAMETERS, PREFIX

#: (id, name, replicas): as the emulator starts, which gives some of them none.
_SYSTEM_CLUSTERS = (
    ("s1", "mz_system", 0),
    ("s2", "mz_catalog_server", 1),
    ("s3", "mz_probe", 0),
    ("s4", "mz_support", 0),
    ("s5", "mz_analytics", 0),
)


def _file(name: str) -> str:
    return (resources.files("lab.materialize") / "sql" / name).read_text(encoding="utf-8")


def build(connection: psycopg.Connection, database: str) -> None:
    """Make everything that is the same in every lab; the connection is the superuser's."""
    execute = connection.execute
    execute("SET allow_system_table_mods = on")
    for schema in ("mz_catalog", "mz_internal", "mz_introspection"):
        execute(f"CREATE SCHEMA {schema}".encode())
    for statement in types.statements():
        execute(statement.encode())
    execute("SET search_path = pg_catalog, mz_catalog")
    for name, spec in catalog.RELATIONS.items():
        execute(catalog.create(name, spec).encode())
    for file in ("world.sql", "clusters.sql", "surface.sql"):
        execute(_file(file).encode())
    _grant(connection)
    execute(
        f'ALTER DATABASE "{database}" SET search_path = public, mz_catalog, pg_catalog'.encode()
    )
    for parameter, value in DEFAULT_PARAMETERS.items():
        execute(f"ALTER DATABASE \"{database}\" SET {PREFIX}{parameter} = '{value}'".encode())


def _grant(connection: psycopg.Connection) -> None:
    for schema in ("mz_catalog", "mz_internal", "mz_introspection"):
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO PUBLIC".encode())
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO PUBLIC".encode())
    for relation in catalog.RESTRICTED:
        revoke = f"REVOKE SELECT ON {relation} FROM PUBLIC"  # noqa: S608 - no query
        connection.execute(revoke.encode())
    connection.execute("GRANT USAGE ON SCHEMA lab TO PUBLIC")


def populate(connection: psycopg.Connection) -> None:
    """Make the clusters that a new environment has, all of them long since ready."""
    execute = connection.execute
    for cluster, name, factor in _SYSTEM_CLUSTERS:
        _cluster(connection, cluster, name, factor, "s1")
    _cluster(connection, "u1", "quickstart", 1, "s1")
    execute(
        "INSERT INTO lab.counters VALUES ('cluster u', 1) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
    execute("UPDATE lab.schedule SET at = lab.now()")
    execute("SELECT lab.live()")
    execute(
        "INSERT INTO lab.schedule (at, what) VALUES (lab.now() + interval '1 minute', 'measure')"
    )


def _cluster(
    connection: psycopg.Connection, cluster: str, name: str, factor: int, owner: str
) -> None:
    connection.execute(
        "INSERT INTO mz_catalog.mz_clusters VALUES (%s, %s, %s, '{}', true, '25cc', "
        "%s::bigint::mz_catalog.uint4, true, '{}', false, '1s')",
        (cluster, name, owner, factor),
    )
    connection.execute(
        "INSERT INTO mz_internal.mz_cluster_schedules VALUES (%s, 'manual', NULL)", (cluster,)
    )
    for n in range(1, factor + 1):
        connection.execute(
            "SELECT lab.add_replica(%s, %s, '25cc', NULL, %s, lab.now())",
            (cluster, f"r{n}", owner),
        )
