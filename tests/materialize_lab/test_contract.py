"""What the lab claims of Materialize, asked of the lab and, where there is one, of the real one."""

from __future__ import annotations

import psycopg
import pytest

INTERNAL = "XX000"
TOO_MANY = "creating cluster replica would violate max_replicas_per_cluster limit"


def test_a_cluster_is_made_with_what_was_said(bench):
    managed, unmanaged = bench.managed("25cc", 2), bench.unmanaged(a="25cc", b="50cc")

    assert bench.cluster(managed) == (True, "25cc", 2)
    assert bench.replicas(managed) == {"r1": "25cc", "r2": "25cc"}
    assert bench.cluster(unmanaged) == (False, None, None)
    assert bench.replicas(unmanaged) == {"a": "25cc", "b": "50cc"}


def test_one_replica_is_the_default(bench):
    name = bench.name()
    bench.run(f"CREATE CLUSTER {name} SIZE '25cc'")

    assert bench.cluster(name) == (True, "25cc", 1)


def test_a_replica_comes_and_goes(bench):
    name = bench.unmanaged()
    for sql in (f"CREATE CLUSTER REPLICA {name}.one (SIZE = '25cc')",
                f"CREATE CLUSTER REPLICA {name}.two SIZE '50cc'"):  # fmt: skip
        assert bench.connection.execute(sql.encode()).statusmessage == "CREATE CLUSTER REPLICA"
    assert bench.replicas(name) == {"one": "25cc", "two": "50cc"}

    dropped = bench.connection.execute(f"DROP CLUSTER REPLICA {name}.one".encode())

    assert dropped.statusmessage == "DROP CLUSTER REPLICA"
    assert bench.replicas(name) == {"two": "50cc"}


def test_hostile_names_are_only_names(bench):
    name = bench.unmanaged()
    bench.run(f'CREATE CLUSTER REPLICA {name}."a""b.c\'d \\ é" (SIZE \'25cc\')')

    assert bench.replicas(name) == {"a\"b.c'd \\ é": "25cc"}

    bench.run(f'DROP CLUSTER REPLICA {name}."a""b.c\'d \\ é"')
    assert bench.replicas(name) == {}


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("CREATE CLUSTER REPLICA {m}.x (SIZE '25cc')", "cannot modify managed cluster {m}"),
        ("DROP CLUSTER REPLICA {m}.r1", "cannot drop replica of managed cluster"),
        ("ALTER CLUSTER REPLICA {m}.r1 RENAME TO x", "cannot modify managed cluster {m}"),
        ("CREATE CLUSTER {m} SIZE '25cc'", "cluster '{m}' already exists"),
        ("CREATE CLUSTER REPLICA {u}.a (SIZE '25cc')",
         "cannot create multiple replicas named 'a' on cluster '{u}'"),
        ("CREATE CLUSTER REPLICA {u}.x (SIZE 'nosuch')", "unknown cluster replica size nosuch"),
        ("CREATE CLUSTER REPLICA {u}.x (SIZE 'it''s')", "unknown cluster replica size it's"),
        ("CREATE CLUSTER REPLICA {u}.x (INTROSPECTION INTERVAL '1s')",
         "SIZE option must be specified"),
        ("CREATE CLUSTER REPLICA {u}.x (SIZE '25cc', SIZE '50cc')",
         "SIZE specified more than once"),
        ("CREATE CLUSTER REPLICA {u}.x (SIZE '25cc', INTERNAL)",
         "cannot specify INTERNAL or BILLED AS as non-internal user"),
        ("CREATE CLUSTER REPLICA nosuch.x (SIZE '25cc')", "unknown cluster 'nosuch'"),
        ("CREATE CLUSTER {n} (MANAGED)", "SIZE must be specified for managed clusters"),
        ("CREATE CLUSTER {n} (MANAGED = false)",
         "REPLICAS must be specified for unmanaged clusters"),
        ("CREATE CLUSTER {n} REPLICAS (), MANAGED", "REPLICAS not supported for managed clusters"),
        ("CREATE CLUSTER {n} REPLICAS (), SIZE '25cc'",
         "SIZE not supported for unmanaged clusters"),
        ("CREATE CLUSTER {n} REPLICAS (), REPLICATION FACTOR 0",
         "REPLICATION FACTOR not supported for unmanaged clusters"),
        ("CREATE CLUSTER {n} REPLICAS (r1 (SIZE '25cc'), r1 (SIZE '25cc'))",
         "cannot create multiple replicas named 'r1' on cluster '{n}'"),
        ("CREATE CLUSTER {n} SIZE 'abc', REPLICATION FACTOR 3", "unknown cluster replica size abc"),
        ("DROP CLUSTER nosuch", "unknown cluster 'nosuch'"),
        ("DROP CLUSTER REPLICA nosuch.r1", "unknown cluster 'nosuch'"),
        ("DROP CLUSTER REPLICA {u}.nosuch", 'CLUSTER {u} has no CLUSTER REPLICA named "nosuch"'),
        ("ALTER CLUSTER nosuch SET (REPLICATION FACTOR 2)", "unknown cluster 'nosuch'"),
        ("ALTER CLUSTER {u} SET (REPLICATION FACTOR 2)",
         "REPLICATION FACTOR not supported for unmanaged clusters"),
        ("ALTER CLUSTER {u} SET (SIZE '50cc')", "SIZE not supported for unmanaged clusters"),
        ("ALTER CLUSTER {u} SET (MANAGED)",
         "Cannot convert unmanaged cluster to managed, non-unique replica sizes: 25cc, 50cc"),
        ("ALTER CLUSTER {e} SET (MANAGED)", "Missing SIZE for empty cluster"),
        ("ALTER CLUSTER {u} RESET (SIZE)", "Cannot change SIZE of unmanaged clusters"),
        ("ALTER CLUSTER {m} RESET (SIZE)", "SIZE has no default value"),
        ("ALTER CLUSTER {m} SET (SIZE 'abc')", "unknown cluster replica size abc"),
        ("CREATE CLUSTER mz_mine SIZE '25cc'", 'cluster name "mz_mine" is reserved'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_the_servers_words(sql, message, bench):
    names = {"m": bench.managed(), "u": bench.unmanaged(a="25cc", b="50cc"),
             "e": bench.unmanaged(), "n": bench.name()}  # fmt: skip
    before = (bench.replicas(names["m"]), bench.replicas(names["u"]))

    assert bench.refused(sql.format(**names)) == (INTERNAL, message.format(**names))
    assert (bench.replicas(names["m"]), bench.replicas(names["u"])) == before


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("ALTER CLUSTER foo.bar RENAME TO x",
         "Expected one of OWNER or RENAME or RESET or SET or SWAP, found dot"),
        ("ALTER CLUSTER foo SET REPLICATION FACTOR 2",
         "Expected left parenthesis, found REPLICATION"),
        ('CREATE CLUSTER REPLICA quickstart."" SIZE \'25cc\'', "zero-length delimited identifier"),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "Expected end of statement, found ON"),
        ("SELECT * FROM t FOR UPDATE", "Expected end of statement, found FOR"),
        ("SAVEPOINT a",
         'Expected a keyword at the beginning of a statement, found identifier "savepoint"'),
        ("LISTEN a",
         'Expected a keyword at the beginning of a statement, found identifier "listen"'),
    ],
)  # fmt: skip
def test_what_is_no_statement_here_is_a_syntax_error(sql, message, bench):
    assert bench.refused(sql) == ("42601", message)


def test_there_is_nothing_to_lock(bench):
    code, message = bench.refused("SELECT pg_advisory_lock(1)")

    assert (code, message) == ("42883", 'function "pg_advisory_lock" does not exist')


def test_too_many_replicas_are_refused_with_the_numbers(bench):
    name = bench.unmanaged(a="25cc", b="25cc", c="25cc", d="25cc", e="25cc")

    assert bench.refused(f"CREATE CLUSTER REPLICA {name}.f (SIZE '25cc')") == (
        "53000",
        f"{TOO_MANY} (desired: 6, limit: 5, current: 5)",
    )
    assert bench.refused(
        f"CREATE CLUSTER {bench.name()} SIZE '25cc', REPLICATION FACTOR 9999999"
    ) == (
        "53000",
        f"{TOO_MANY} (desired: 9999999, limit: 5, current: 0)",
    )


def test_dropping_what_is_not_there_can_be_allowed(bench):
    bench.run("DROP CLUSTER IF EXISTS nosuch")
    bench.run("DROP CLUSTER REPLICA IF EXISTS nosuch.r1")
    name = bench.unmanaged()
    bench.run(f"DROP CLUSTER REPLICA IF EXISTS {name}.r1")


def test_a_managed_cluster_is_resized_suspended_and_brought_back(bench):
    name = bench.managed("25cc", 2)

    bench.run(f"ALTER CLUSTER {name} SET (REPLICATION FACTOR 0)")
    assert (bench.cluster(name), bench.replicas(name)) == ((True, "25cc", 0), {})
    bench.run(f"ALTER CLUSTER {name} SET (SIZE = '50cc', REPLICATION FACTOR = 2)")
    assert bench.replicas(name) == {"r1": "50cc", "r2": "50cc"}
    bench.run(f"ALTER CLUSTER {name} RESET (REPLICATION FACTOR)")
    assert (bench.cluster(name), bench.replicas(name)) == ((True, "50cc", 1), {"r1": "50cc"})


def test_a_cluster_changes_hands_between_managed_and_not(bench):
    name = bench.managed("25cc", 3)
    bench.run(f"ALTER CLUSTER {name} SET (MANAGED = false)")
    assert bench.cluster(name) == (False, None, None)
    assert bench.refused(f"ALTER CLUSTER {name} SET (MANAGED, REPLICATION FACTOR 4)") == (
        INTERNAL, "REPLICATION FACTOR 4 does not match number of replicas (3)",
    )  # fmt: skip
    assert bench.refused(f"ALTER CLUSTER {name} SET (MANAGED, SIZE '50cc')") == (
        INTERNAL, "Cluster replicas of size 25cc do not match expected SIZE 50cc",
    )  # fmt: skip
    bench.run(f"DROP CLUSTER REPLICA {name}.r2")
    assert bench.refused(f"ALTER CLUSTER {name} SET (MANAGED)") == (
        INTERNAL, "Cannot convert unmanaged cluster to managed, invalid replica names: r3",
    )  # fmt: skip
    bench.run(f"DROP CLUSTER REPLICA {name}.r3")
    bench.run(f"ALTER CLUSTER {name} SET (MANAGED, SIZE '25cc')")

    assert bench.cluster(name) == (True, "25cc", 1)


def test_a_graceful_resize_has_replaced_the_replicas_when_it_returns(bench):
    name = bench.managed("25cc", 1)

    bench.run(
        f"ALTER CLUSTER {name} SET (SIZE = '50cc') "
        "WITH (WAIT UNTIL READY (TIMEOUT '10m', ON TIMEOUT ROLLBACK))"
    )

    assert (bench.cluster(name), bench.replicas(name)) == ((True, "50cc", 1), {"r1": "50cc"})


def test_clusters_are_renamed_and_swapped(bench):
    one, two, three = bench.managed("25cc"), bench.managed("50cc"), bench.name()
    bench.run(f"ALTER CLUSTER {one} SWAP WITH {two}")
    assert (bench.cluster(one)[1], bench.cluster(two)[1]) == ("50cc", "25cc")

    bench.run(f"ALTER CLUSTER {one} RENAME TO {three}")
    assert bench.cluster(three)[1] == "50cc"


def test_show_lists_clusters_and_replicas(bench):
    name = bench.unmanaged(b="25cc", a="50cc")
    cursor = bench.connection.execute("SHOW CLUSTERS")
    assert [column.name for column in cursor.description] == ["name", "replicas", "comment"]
    assert (name, "a (50cc), b (25cc)", "") in cursor.fetchall()

    cursor = bench.connection.execute(f"SHOW CLUSTER REPLICAS WHERE cluster = '{name}'".encode())
    assert [column.name for column in cursor.description] == [
        "cluster", "replica", "size", "ready", "comment",
    ]  # fmt: skip
    assert {row[:3] for row in cursor} == {(name, "a", "50cc"), (name, "b", "25cc")}
    like = f"SELECT name FROM (SHOW CLUSTERS LIKE '{name}')"  # noqa: S608 - ours
    assert bench.run(like) == [(name,)]


def test_a_cluster_without_replicas_answers_nothing_but_the_catalog_does(bench):
    name = bench.unmanaged()
    bench.run(f"SET cluster = {name}")
    try:
        expected = ("0A000", f'CLUSTER "{name}" has no replicas available to service request')
        assert bench.refused("SELECT generate_series(1, 1)") == expected
        assert bench.refused("SELECT %s::int", 1) == expected
        assert bench.run("SELECT name FROM mz_catalog.mz_clusters WHERE name = %s", name) == [
            (name,)
        ]
        assert bench.run("SHOW cluster") == [(name,)]
    finally:
        bench.run("RESET cluster")


def test_a_cluster_that_is_none_can_be_chosen_and_not_used(bench):
    bench.run("SET cluster = 'nosuch'")
    try:
        assert bench.refused("SELECT 1") == (INTERNAL, "unknown cluster 'nosuch'")
    finally:
        bench.run("RESET cluster")


def test_ddl_in_a_transaction_is_acknowledged_and_fails_at_commit(bench):
    name = bench.unmanaged()
    with psycopg.connect(bench.url) as connection:
        made = connection.execute(f"CREATE CLUSTER REPLICA {name}.r (SIZE = 'nosuch')".encode())
        assert made.statusmessage == "CREATE CLUSTER REPLICA"
        with pytest.raises(psycopg.Error, match="unknown cluster replica size nosuch"):
            connection.commit()
        connection.execute(f"CREATE CLUSTER REPLICA {name}.r (SIZE = '25cc')".encode())
        assert bench.replicas(name) == {}
        connection.commit()
        assert bench.replicas(name) == {"r": "25cc"}
        connection.execute(f"DROP CLUSTER REPLICA {name}.r".encode())
        connection.rollback()
    assert bench.replicas(name) == {"r": "25cc"}


def test_one_ddl_is_all_that_a_transaction_holds(bench):
    name = bench.unmanaged()
    with psycopg.connect(bench.url) as connection:
        connection.execute(f"CREATE CLUSTER REPLICA {name}.a (SIZE = '25cc')".encode())
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(f"CREATE CLUSTER REPLICA {name}.b (SIZE = '25cc')".encode())
        connection.rollback()
    assert caught.value.diag.sqlstate == "25000"
    assert caught.value.diag.message_primary == (
        "this transaction can only execute a single statement"
    )
    assert bench.replicas(name) == {}


def test_ddl_among_other_statements_of_one_message_is_refused(bench):
    name = bench.unmanaged()

    code, message = bench.refused(f"SELECT 1; CREATE CLUSTER REPLICA {name}.a (SIZE = '25cc')")

    assert (code, message.endswith("cannot be run inside a transaction block")) == ("25001", True)
    assert bench.replicas(name) == {}


def test_types_of_its_own_have_its_own_oids(bench):
    cursor = bench.connection.execute(
        "SELECT replication_factor, availability_zones, privileges FROM mz_catalog.mz_clusters"
    )
    assert [column.type_code for column in cursor.description] == [16462, 16384, 16567]
    cursor = bench.connection.execute(
        "SELECT processes, workers, memory_bytes FROM mz_catalog.mz_cluster_replica_sizes"
    )
    assert {column.type_code for column in cursor.description} == {16464}
    assert all(isinstance(value, str) for value in cursor.fetchone())


def test_a_parameter_that_nobody_knows_is_refused(bench):
    expected = ("42704", 'unrecognized configuration parameter "nosuch"')

    assert bench.refused("SET nosuch = 1") == expected
    assert bench.refused("SHOW nosuch") == expected


def test_what_a_person_wrote_is_kept_in_tables_without_keys(bench):
    table = bench.name()
    bench.run(
        f"CREATE TABLE IF NOT EXISTS {table} "
        "(k text NOT NULL, v jsonb, at timestamptz DEFAULT now())"
    )
    try:
        bench.run(f"INSERT INTO {table} (k, v) VALUES (%s, %s)", "a", '{"n": 1}')  # noqa: S608
        bench.run(f"INSERT INTO {table} (k, v) VALUES (%s, %s)", "a", '{"n": 2}')  # noqa: S608
        bench.run(f"UPDATE {table} SET v = %s WHERE v ->> 'n' = '2'", '{"n": 3}')  # noqa: S608
        rows = bench.run(f"SELECT k, v ->> 'n' FROM {table} ORDER BY 2")  # noqa: S608
        assert rows == [("a", "1"), ("a", "3")]
        columns = bench.run(
            "SELECT c.name, c.type FROM mz_catalog.mz_columns c JOIN mz_catalog.mz_relations r "
            "ON r.id = c.id WHERE r.name = %s ORDER BY c.position",
            table,
        )
        assert columns == [("k", "text"), ("v", "jsonb"), ("at", "timestamp with time zone")]
    finally:
        bench.run(f"DROP TABLE {table}")
