"""`caretaker doctor materialize`: what works, what is missing, what to do; it writes nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from console.doctor import doctor


@pytest.fixture
def examine(monkeypatch):
    """Run it; return exit code and checks by name."""

    def run(url, store=""):
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("CARETAKER_STRATEGY_STORE_URL", store)
        monkeypatch.setattr("resources.materialize.look.HISTORY_WRITTEN_S", 0.0)
        result = CliRunner().invoke(doctor, ["materialize", "--output", "json"])
        checks: dict[str, list[tuple[str, str]]] = {}
        for each in json.loads(result.output)["checks"]:
            checks.setdefault(each["check"], []).append((each["status"], each["detail"]))
        return result.exit_code, checks

    return run


def statuses(checks):
    return {status for found in checks.values() for status, _ in found}


def test_not_configured_is_off_and_no_failure(examine):
    code, checks = examine("")
    assert code == 0
    assert checks["connection"] == [("off", "DATABASE_URL is not set")]


def test_all_is_well(lab, bench, examine):
    lab.cluster("prod", {"r1": "50cc"})
    bench.strategy("prod", "target_size", target_size="50cc")
    before = lab.sql("SELECT count(*) FROM pg_class")

    code, checks = examine(lab.url)

    assert code == 0
    assert statuses(checks) == {"ok"}
    assert "1 strategies of 1 clusters" in checks["tables"][0][1]
    assert "quickstart" in checks["our own cluster"][0][1]
    assert lab.sql("SELECT count(*) FROM pg_class") == before


def test_tables_that_are_not_there_are_a_warning_and_stay_away(lab, examine):
    code, checks = examine(lab.url)
    assert code == 0
    assert [status for status, _ in checks["tables"]] == ["warn"] * 3
    assert not lab.sql("SELECT 1 FROM pg_class WHERE relname LIKE 'mz_cluster_strateg%'")


def test_a_table_of_another_shape_cannot_work(lab, bench, examine):
    bench.sql("ALTER TABLE mz_cluster_strategy_state DROP COLUMN strategy_type")
    code, checks = examine(lab.url)
    assert code == 1
    ((status, detail),) = checks["tables"]
    assert status == "fail"
    assert "wipe-state --recreate" in detail


def test_without_the_monitor_role_it_says_what_to_grant(lab, examine):
    lab.create_user("guest")
    code, checks = examine(lab.url_for("guest"))
    assert code == 0
    assert any("GRANT mz_monitor_redacted" in detail for _, detail in checks["signal"])


def test_statement_logging_that_is_off_is_named(lab, examine):
    lab.statement_logging = False
    lab.advance(5000)
    _, checks = examine(lab.url)
    assert any("statement logging is off" in detail for _, detail in checks["signal"])


def test_clusters_of_others_are_named_where_they_have_a_strategy(lab, bench, examine):
    for name in ("prod", "theirs"):
        lab.cluster(name, {})
    bench.strategy("prod", "target_size", target_size="50cc")
    lab.create_user("guest", "mz_monitor_redacted")

    _, checks = examine(lab.url_for("guest"))

    ((status, detail),) = checks["privileges"]
    assert status == "warn"
    assert "prod" in detail
    assert "theirs" not in detail
    assert "OWNER TO guest" in detail


def test_a_plain_postgresql_is_no_materialize(lab, examine):
    folder, _, port = lab.postgres.socket.rpartition("/.s.PGSQL.")
    code, checks = examine(f"postgresql://postgres@/postgres?host={folder}&port={port}")
    assert code == 1
    assert "is no Materialize" in checks["reach"][0][1]


def test_a_store_that_is_away_fails_and_the_rest_is_examined(lab, examine):
    code, checks = examine(lab.url, "postgresql://u:s3cret@127.0.0.1:1/d")
    assert code == 1
    assert checks["tables"][0][0] == "fail"
    assert "127.0.0.1:1" in checks["tables"][0][1]
    assert checks["connection"][0][0] == "ok"
    assert "s3cret" not in str(checks)


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@127.0.0.1:1/d", "mysql://u:s3cret@h/d"])
def test_what_cannot_be_reached_fails_without_its_password(examine, url):
    code, checks = examine(url)
    assert code == 1
    assert checks["reach"][0][0] == "fail"
    assert "s3cret" not in str(checks)
