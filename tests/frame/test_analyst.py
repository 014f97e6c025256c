"""Somebody who queries the demo's clusters: what they do, and what the demo says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psycopg
import pytest

from lab.cluster_sizes import ClusterSizes
from lab.materialize.process import MaterializeProcess


@pytest.fixture
def materialize():
    with MaterializeProcess("--boot-s", "0.05", "--hydrate-s", "0.05", ready_within_s=120) as lab:
        yield lab


@pytest.fixture
def told(tmp_path):
    return tmp_path / "analyst.jsonl"


@pytest.fixture
def analyst(checkout, materialize, told):
    """Start one; it ends with the test, well."""
    command = [sys.executable, "-m", "lab.analyst", "--control", materialize.control.url]
    process = subprocess.Popen(
        [*command, "--told", str(told)],
        cwd=checkout,
        env={**os.environ, "DATABASE_URL": materialize.connection_string},
    )
    yield process
    process.terminate()
    assert process.wait(60) == 0


def line_with(told, key):
    """Return the first line that tells of this, once it is there."""
    deadline = time.monotonic() + 120
    while True:
        lines = told.read_text().splitlines() if told.exists() else []
        for line in map(json.loads, lines):
            if key in line:
                return line
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)


def run(url, sql):
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def test_its_query_fails_while_the_cluster_is_suspended_and_is_answered_afterwards(
    analyst, materialize, told
):
    url = materialize.connection_string
    line_with(told, "ready")
    run(url, 'DROP CLUSTER REPLICA "dashboards"."old"')

    failed = line_with(told, "failed")
    run(url, 'CREATE CLUSTER REPLICA "dashboards"."r_50cc" (SIZE \'50cc\')')
    answered = line_with(told, "answered")

    assert failed["error"] == (
        '0A000 CLUSTER "dashboards" has no replicas available to service request'
    )
    assert answered["answer"] == "3 orders, 99.75"
    assert answered["replicas"] == "r_50cc (50cc)"
    assert analyst.poll() is None


def test_each_strategy_is_written_down_once_however_often_it_begins_anew(
    analyst, materialize, told
):
    """A connection that is lost makes it begin anew."""
    line_with(told, "ready")
    count = (
        "SELECT count(*), count(DISTINCT (cluster_id, strategy_type)) FROM mz_cluster_strategies"
    )
    before = run(materialize.connection_string, count)

    materialize.control.pull("crash")
    materialize.control.pull("restart")
    deadline = time.monotonic() + 60
    while told.read_text().count('"made"') < 2:
        assert time.monotonic() < deadline, told.read_text()
        time.sleep(0.1)
    time.sleep(1.0)

    assert run(materialize.connection_string, count) == before == [(6, 6)]
    assert analyst.poll() is None


class TestWhatTheDemoSays:
    """A sentence for each thing that happened, once."""

    @pytest.fixture
    def sizes(self, tmp_path):
        return ClusterSizes(tmp_path, 6875, 6899)

    def news(self, sizes, told, *lines):
        with told.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return list(sizes.news())

    def action(self, **more):
        context = {"strategy": "burst", "reasons": ["r1 is ready"], "credits_delta": -4.0}
        return {
            "action": "DROP ...", "id": "1", "cluster": "prod", "context": context,
            "executed": True, "error": None, **more,
        }  # fmt: skip

    def test_an_action_with_its_reason_and_credits(self, sizes, told):
        (said,) = self.news(sizes, told, {"made": "x"}, self.action())
        assert said == "strategies: prod: DROP ... (burst: r1 is ready, -4 credits/h)"

    def test_the_same_action_is_not_said_again(self, sizes, told):
        assert len(self.news(sizes, told, self.action(), self.action())) == 1
        assert self.news(sizes, told, self.action()) == []
        assert len(self.news(sizes, told, self.action(id="2"))) == 1

    def test_one_that_failed_says_why(self, sizes, told):
        (said,) = self.news(sizes, told, self.action(executed=False, error="quota"))
        assert said.endswith(" -> quota")

    def test_a_failed_and_an_answered_query(self, sizes, told):
        failed = {"failed": "SELECT 1", "error": "0A000 none"}
        answered = {"answered": "SELECT 1", "answer": "1", "waited_s": "9", "replicas": "r (50cc)"}
        first, second, again, _ = self.news(sizes, told, failed, answered, failed, answered)
        assert first == again == "strategies: dashboards: SELECT 1 failed with 0A000 none"
        assert "succeeded after 9 s (1), on r (50cc)" in second

    def test_nothing_yet(self, sizes):
        assert list(sizes.news()) == []
