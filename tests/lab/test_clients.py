"""CrateDB's own Python client, and what the `crash` shell sends, are served as by a real node."""

from __future__ import annotations

import gzip
import json

import pytest
from crate import client  # type: ignore[import-untyped]
from crate.client.exceptions import (  # type: ignore[import-untyped]
    ConnectionError as CrateConnectionError,
)
from crate.client.exceptions import ProgrammingError

from lab.cratedb import LabCrateDB
from lab.faults import Action, Fault


@pytest.fixture
def connection(lab):
    with client.connect(lab.urls) as open_connection:
        yield open_connection


def test_connect_finds_the_lowest_version(connection):
    assert str(connection.lowest_server_version) == "6.4.3"


def test_server_infos_name_node_and_version(connection, lab):
    url = lab.urls[1]
    assert connection.client.server_infos(url) == (url, "data-hot-1", "6.4.3")


def test_a_select_comes_with_description_and_rowcount(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT name, is_master FROM sys.nodes ORDER BY name")
    assert [column[0] for column in cursor.description] == ["name", "is_master"]
    assert cursor.fetchall() == [
        ["data-hot-0", False],
        ["data-hot-1", False],
        ["data-hot-2", True],
    ]
    assert cursor.rowcount == 3
    assert cursor.duration >= 0


def test_parameters_are_bound(connection, lab):
    lab.table("doc.metrics", shards=2)
    cursor = connection.cursor()
    cursor.execute(
        "SELECT count(*) FROM sys.shards WHERE table_name = ? AND routing_state = ?",
        ("metrics", "STARTED"),
    )
    assert cursor.fetchone() == [4]


def test_executemany_answers_a_rowcount_per_row(connection):
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE doc.t (id INTEGER, name TEXT) CLUSTERED INTO 2 SHARDS")
    results = cursor.executemany("INSERT INTO doc.t (id, name) VALUES (?, ?)", [(1, "a"), (2, "b")])
    assert [result["rowcount"] for result in results] == [1, 1]
    cursor.execute("SELECT count(*) FROM doc.t")
    assert cursor.fetchone() == [2]


def test_an_error_is_a_programming_error_with_the_message(connection):
    cursor = connection.cursor()
    with pytest.raises(ProgrammingError, match=r"RelationUnknown\[Relation 'doc.nosuch' unknown\]"):
        cursor.execute("SELECT * FROM doc.nosuch")


def test_a_wrong_password_is_refused(lab):
    lab.create_user("ops", "secret")
    with (
        client.connect(lab.url, username="ops", password="wrong") as refused,
        pytest.raises(ProgrammingError),
    ):
        refused.cursor().execute("SELECT 1")


def test_the_client_goes_on_to_the_next_server_when_a_node_is_gone(connection, lab):
    lab.crash(0)
    lab.advance(1)
    cursor = connection.cursor()
    for _ in range(4):
        cursor.execute("SELECT name FROM sys.nodes ORDER BY name")
        assert cursor.fetchall() == [["data-hot-1"], ["data-hot-2"]]


def test_without_any_node_there_is_a_connection_error(lab):
    with client.connect(lab.url, timeout=2) as only:
        lab.faults.add(Fault(action=Action.REFUSE))
        with pytest.raises((CrateConnectionError, OSError)):
            only.cursor().execute("SELECT 1")


def test_gzipped_request_bodies_are_read(lab, wire):
    body = gzip.compress(json.dumps({"stmt": "SELECT ?", "args": ["x" * 10_000]}).encode())
    reply = wire(lab.url).raw("POST", "/_sql", body, **{"Content-Encoding": "gzip"})
    assert reply.rows == [["x" * 10_000]]


#: What crash sends when it connects, when it starts, and for \dt.
CRASH = [
    "SELECT current_user",
    "SELECT current_schema",
    "SELECT current_user, current_schema",
    "SELECT severity, description FROM sys.checks WHERE NOT passed ORDER BY severity DESC, id ASC",
    """SELECT c.id, count(*) AS "Failed Nodes", c.description FROM sys.node_checks c
       WHERE c.passed = false AND c.acknowledged = false GROUP BY c.id, c.description""",
    """SELECT table_schema || '.' || table_name AS name FROM information_schema.tables
       WHERE table_schema NOT IN ('sys', 'information_schema', 'pg_catalog')
       AND table_type = 'BASE TABLE' ORDER BY 1""",
    "SELECT version['number'] FROM sys.nodes LIMIT 1",
    """SELECT count(distinct(id)) AS number_of_shards,
       cast(sum(num_docs) AS integer) AS number_of_records FROM sys.shards""",
    """SELECT name, hostname, version['number'] AS crate_version,
       round(heap['max'] / 1024.0 / 1024.0) AS total_heap_mb,
       os_info['available_processors'] AS cpus, os['uptime'] / 1000 AS uptime_s,
       format('%s - %s (%s)', os_info['name'], os_info['version'], os_info['arch']) AS os_info
       FROM sys.nodes ORDER BY os['uptime'] DESC""",
]


@pytest.mark.parametrize("stmt", CRASH)
def test_what_crash_sends_is_answered(stmt, lab, wire):
    lab.table("doc.metrics")
    reply = wire(lab.url)(stmt, types=True)
    assert reply.status == 200, reply.text
    assert len(reply.json["cols"]) == len(reply.json["col_types"])


def test_tls_is_spoken_where_a_certificate_is_given(tmp_path):
    certificate = make_certificate(tmp_path)
    if certificate is None:
        pytest.skip("no openssl to make a certificate with")
    with (
        LabCrateDB(nodes=1, tls=certificate) as secure,
        client.connect(secure.url, verify_ssl_cert=True, ca_cert=certificate[0]) as connection,
    ):
        cursor = connection.cursor()
        cursor.execute("SELECT name FROM sys.nodes")
        assert cursor.fetchall() == [["data-hot-0"]]


def make_certificate(folder):
    import shutil  # noqa: PLC0415 - only this test needs them
    import subprocess  # noqa: PLC0415

    if shutil.which("openssl") is None:
        return None
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
