"""Any SELECT on the catalog is answered, with CrateDB's names, types and errors."""

from __future__ import annotations

import pytest


@pytest.fixture
def ask(lab, wire):
    lab.table("doc.metrics", shards=4, replicas="0-1", sick_mb=1200)
    lab.table("doc.events", shards=2, replicas="1")
    lab.table(
        "doc.parted",
        shards=2,
        partitioned_by=[("ts", "timestamp"), ("Region", "text")],
        partitions=[{"ts": 1704067200000, "Region": "e'u:{}"}, {"ts": 1704153600000}],
        sick_mb=900,
        sick_partitions=[0],
    )
    return wire(lab.url)


ANSWERS = [
    ("SELECT count(*) FROM sys.shards WHERE table_name = 'metrics'", ["count"], [[8]]),
    (
        "SELECT table_name, count(*) n FROM sys.shards s GROUP BY 1 ORDER BY n DESC, 1",
        ["table_name", "n"],
        [["metrics", 8], ["parted", 8], ["events", 4]],
    ),
    (
        """SELECT count(*) FILTER (WHERE "primary"), count(*) FILTER (WHERE NOT "primary")
           FROM sys.shards WHERE schema_name || '.' || table_name = 'doc.events'""",
        ["count", "count"],
        [[2, 2]],
    ),
    (
        """SELECT DISTINCT array_length(retention_leases['leases'], 1)
           FROM sys.shards WHERE table_name = 'events'""",
        ["array_length"],
        [[2]],
    ),
    (
        """SELECT count(*) FROM sys.shards WHERE "primary"
           AND ('peer_recovery/' || node['id']) = ANY(retention_leases['leases']['id'])""",
        ["count"],
        [[10]],
    ),
    (
        """SELECT max(severity) FROM (SELECT max(severity) AS severity FROM sys.health
           UNION ALL SELECT 3 WHERE (SELECT master_node FROM sys.cluster) IS NULL) x""",
        ["max"],
        [[1]],
    ),
    (
        """WITH worst AS (SELECT table_name, max(translog_stats['uncommitted_size']) AS size
           FROM sys.shards WHERE NOT "primary" GROUP BY table_name)
           SELECT w.table_name, w.size / 1048576 AS mb FROM worst w ORDER BY mb DESC LIMIT 1""",
        ["table_name", "mb"],
        [["metrics", 1200]],
    ),
    (
        """SELECT "values", "values"['Region'] FROM information_schema.table_partitions
           WHERE "values"['ts'] = 1704067200000""",
        ["values", "values['Region']"],
        [[{"ts": 1704067200000, "Region": "e'u:{}"}, "e'u:{}"]],
    ),
    (
        """SELECT partitioned_by, partitioned_by[1] FROM information_schema.tables
           WHERE table_name = 'parted'""",
        ["partitioned_by", "partitioned_by[1]"],
        [[["ts", "Region"], "ts"]],
    ),
    (
        """SELECT settings['cluster']['routing']['allocation']['disk']['watermark'],
           settings['cluster']['max_shards_per_node'] FROM sys.cluster""",
        [
            "settings['cluster']['routing']['allocation']['disk']['watermark']",
            "settings['cluster']['max_shards_per_node']",
        ],
        [[{"flood_stage": "95%", "high": "90%", "low": "85%"}, 1000]],
    ),
    (
        """SELECT fs['total']['size'] - fs['total']['used'] = fs['total']['available'] AS adds_up
           FROM sys.nodes LIMIT 1""",
        ["adds_up"],
        [[True]],
    ),
    (
        """SELECT table_name FROM information_schema.tables WHERE table_schema = 'doc'
           AND table_name LIKE 'me%' AND table_name ~ 'm.*s'""",
        ["table_name"],
        [["metrics"]],
    ),
    ("SELECT table_name::text FROM sys.health WHERE table_name='events'",
     ["table_name"], [["events"]]),
    ("SELECT 0.1 + 0.2", ["(0.1 + 0.2)"], [[0.30000000000000004]]),
    ("SELECT 7 / 2, 7 / 2.0, 1.5", ["(7 / 2)", "(7 / 2.0)", "1.5"], [[3, 3.5, 1.5]]),
    ("SELECT $$it's$$, 'it''s'", ["'it''s'", "'it''s'"], [["it's", "it's"]]),
    ("SELECT CASE WHEN 1 = 1 THEN 'yes' ELSE 'no' END AS x", ["x"], [["yes"]]),
    ("SELECT {a = 1, \"B\" = 'x'} AS o, {} AS e", ["o", "e"], [[{"a": 1, "B": "x"}, {}]]),
    ("SELECT schema_name FROM information_schema.schemata ORDER BY 1 LIMIT 2",
     ["schema_name"], [["blob"], ["doc"]]),
    ("SELECT name, superuser FROM sys.users", ["name", "superuser"], [["crate", True]]),
    ("SELECT h.health FROM sys.cluster_health AS h", ["health"], [["GREEN"]]),
    ("SELECT sys.cluster_health.health FROM sys.cluster_health", ["health"], [["GREEN"]]),
    ("SELECT count(*) FROM doc.metrics", ["count"], [[4000]]),
    ("SELECT coalesce(partition_ident, '-') FROM sys.health WHERE table_name = 'events'",
     ["coalesce"], [["-"]]),
    ("VALUES (1, 'a'), (2, 'b')", ["col0", "col1"], [[1, "a"], [2, "b"]]),
]  # fmt: skip


@pytest.mark.parametrize(("stmt", "cols", "rows"), ANSWERS)
def test_the_answer_has_its_rows_and_names(stmt, cols, rows, ask):
    reply = ask(stmt)
    assert reply.status == 200, reply.text
    if not stmt.startswith("VALUES"):
        assert reply.json["cols"] == cols
    assert reply.rows == rows


@pytest.mark.parametrize(
    ("stmt", "args", "rows"),
    [
        ("SELECT ?", ["x"], [["x"]]),
        ("SELECT $1 || $1", ["x"], [["xx"]]),
        ("SELECT ?, ?", [None, 3], [[None, 3]]),
        ("SELECT count(*) FROM sys.shards WHERE table_name = ANY(?)", [["metrics"]], [[8]]),
        ("SELECT name FROM sys.nodes ORDER BY name LIMIT ?", [1], [["data-hot-0"]]),
    ],
)
def test_parameters_of_both_kinds_are_filled_in(stmt, args, rows, ask):
    assert ask(stmt, args).rows == rows


ERRORS = [
    ("SELECT nosuch FROM sys.shards", 404, 4043),
    ("SELECT settings['nosuch'] FROM sys.cluster", 404, 4043),
    ("SELECT 1 FROM nosuch", 404, 4041),
    ("SELECT 1 FROM sys.nosuch", 404, 4041),
    ("SELECT 1 FROM nosuch.t", 404, 4045),
    ("SELECT 1/0", 400, 4000),
    ("SELECT id FROM sys.nodes a, sys.cluster b", 400, 4006),
    ("SELECT nosuch(1)", 400, 4004),
    ("SELECT name, count(*) FROM sys.nodes", 400, 4000),
    ("SELECT ?", 400, 4000),
    ("SELEKT 1", 400, 4000),
    ("SELECT FROM WHERE", 400, 4000),
    ("SELECT 1; SELECT", 400, 4000),
    ("", 400, 4000),
]


@pytest.mark.parametrize(("stmt", "status", "code"), ERRORS)
def test_what_is_wrong_is_refused_with_crates_code(stmt, status, code, ask):
    reply = ask(stmt)
    assert (reply.status, reply.code) == (status, code), reply.text


def test_a_gap_in_the_lab_is_named_and_does_not_look_like_a_lost_node(ask, lab, monkeypatch):
    def broken(*args):
        raise RuntimeError(args[-1])

    monkeypatch.setattr(lab.engine, "_run", broken)
    reply = ask("SELECT 1")
    assert (reply.status, reply.code) == (500, 5000)
    assert reply.message.startswith("LabError[RuntimeError")


def test_col_types_are_crates_ids(ask):
    reply = ask(
        """SELECT id, "primary", table_name, size, node, retention_leases['leases']['id'],
           translog_stats['uncommitted_size'], severity, now()
           FROM sys.shards, (SELECT severity FROM sys.cluster_health) h LIMIT 1""",
        types=True,
    )
    assert reply.json["col_types"] == [9, 3, 4, 10, 12, [100, 4], 10, 8, 11]


def test_a_changed_table_is_shown_changed_at_once(ask, lab):
    question = "SELECT number_of_replicas FROM information_schema.tables WHERE table_name='events'"
    assert ask(question).rows == [["1"]]
    ask("ALTER TABLE doc.events SET (number_of_replicas = 0)")
    assert ask(question).rows == [["0"]]
    assert ask("SELECT count(*) FROM sys.shards WHERE table_name = 'events'").rows == [[2]]
    lab.table("doc.events").drop()
    assert ask(question).rows == []


def test_sys_jobs_shows_the_statement_that_asks(ask):
    reply = ask("SELECT stmt, username, node['name'] FROM sys.jobs")
    assert reply.rows == [["SELECT stmt, username, node['name'] FROM sys.jobs", "crate",
                           "data-hot-0"]]  # fmt: skip


@pytest.mark.parametrize("name", ["shards", "health", "nodes", "cluster", "allocations", "checks",
                                  "node_checks", "snapshots", "jobs", "users",
                                  "privileges", "cluster_health"])  # fmt: skip
def test_everything_of_every_system_table_can_be_asked_for(name, ask):
    reply = ask(f"SELECT * FROM sys.{name}", types=True)  # noqa: S608 - names from this file
    assert reply.status == 200
    assert reply.json["cols"] == sorted(reply.json["cols"])
