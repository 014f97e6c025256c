"""`caretaker strategies` and `mz-clusterctl`: what they print, what they do, how they end."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import uuid
from urllib.parse import quote

import click
import psycopg
import pytest
from psycopg.types.json import Jsonb

from console.strategies import clusterctl, strategies
from lab.materialize import LabMaterialize
from lab.materialize.postgres import SHARED
from ops import strategies_lock
from resources import process
from resources.materialize.resource import MaterializeResource
from resources.sql.strategies import CREATE
from tests.console.examples import all_examples


@pytest.fixture(scope="module", autouse=True)
def _postgres():
    """One PostgreSQL for the labs of this module; gone with it."""
    yield
    SHARED.close()


@pytest.fixture
def mz():
    """A Materialize whose replicas come up in a tenth of a second."""
    with LabMaterialize(boot_s=0.05, hydrate_s=0.05, restart_s=0.05) as running:
        yield running


class Tables:
    """The three tables of a Materialize or a PostgreSQL, as an operator writes them."""

    def __init__(self, url):
        self.url = url

    def ask(self, sql, *values):
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def make(self):
        for statement in CREATE.values():
            self.ask(statement)

    def open_to(self, user):
        for table in CREATE:
            self.ask(f"GRANT ALL ON {table} TO {user}")

    def strategy(self, cluster_id, strategy, **config):
        self.make()
        self.ask(
            "INSERT INTO mz_cluster_strategies (cluster_id, strategy_type, config)"
            " VALUES (%s, %s, %s)",
            cluster_id, strategy, Jsonb(config),
        )  # fmt: skip

    def audit(self):
        return self.ask("SELECT action_sql, executed FROM mz_cluster_strategy_actions")


@pytest.fixture
def postgres_url(mz):
    """A database of a real PostgreSQL: the one below the lab, past its proxy."""
    name = f"plain_{uuid.uuid4().hex}"
    with mz.postgres.admin("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
    folder, _, port = mz.postgres.socket.rpartition("/.s.PGSQL.")
    yield f"postgresql://postgres@/{name}?host={quote(folder, safe='')}&port={port}"
    mz.postgres.drop(name)


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def eventually(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


@pytest.fixture
def tables(mz):
    return Tables(mz.url)


@pytest.fixture
def ctl(caretaker, mz):
    """`caretaker strategies ...` in this process, with DATABASE_URL of the lab."""
    caretaker.environment["DATABASE_URL"] = mz.url

    def run(*arguments, **environment):
        caretaker.environment |= environment
        return caretaker("strategies", *arguments)

    return run


@pytest.fixture
def program(caretaker, mz):
    """`mz-clusterctl ...` as a process of its own: the program that the wheel installs."""

    def run(*arguments, **environment):
        ended = subprocess.run(
            [sys.executable, "-m", "console.clusterctl", *arguments],
            cwd=caretaker.folder,
            env={**caretaker.process_environment, "DATABASE_URL": mz.url, **environment},
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr

    return run


def sentence(ended, *words, code=1):
    """Check that this is one clear sentence, an exit code, and no traceback."""
    returncode, out, err = ended
    assert returncode == code, (returncode, out, err)
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line, (word, line)
    return line


CREATE_R50 = 'CREATE CLUSTER REPLICA "prod"."r_50cc" (SIZE \'50cc\')'


class TestADryRun:
    """It prints what apply would do, and writes nothing."""

    def test_the_sql_in_order_with_reasons_and_credits_ready_to_paste(self, ctl, mz, tables):
        cluster = mz.cluster("prod", {"old": "100cc"})
        tables.strategy(cluster, "target_size", target_size="50cc")

        ended = ctl("dry-run")

        assert ended.code == 0
        assert ended.statements == [CREATE_R50]
        assert "-- prod\n-- target_size: there is no replica" in ended.out
        assert "(+0.5 credits/h)" in ended.out
        assert ended.out.splitlines()[-1].endswith("nothing was changed")
        assert mz.replicas("prod") == {"old": "100cc"}
        assert tables.audit() == []
        tables.ask(ended.statements[0])

    def test_nothing_is_made_where_there_are_no_tables(self, ctl, mz, tables):
        mz.cluster("prod", {"old": "100cc"})

        ended = ctl("dry-run")

        assert ended.code == 0
        assert "there is no table mz_cluster_strategies" in ended.out
        with pytest.raises(psycopg.Error):
            tables.audit()

    def test_apply_with_dry_run_is_one_too(self, ctl, mz, tables):
        tables.strategy(mz.cluster("prod", {"old": "100cc"}), "target_size", target_size="50cc")
        assert ctl("apply", "--dry-run").statements == [CREATE_R50]
        assert mz.replicas("prod") == {"old": "100cc"}

    def test_what_is_held_and_what_is_wrong_is_said_in_comments(self, ctl, mz, tables):
        mz.statement_logging = False
        cluster = mz.cluster("prod", {"r1": "50cc"})
        tables.strategy(cluster, "idle_suspend", idle_after_s=1)
        tables.strategy(cluster, "burst", burst_replica_size="50cc", x=1)

        ended = ctl("dry-run")

        assert ended.code == 0
        assert ended.statements == []
        assert "-- prod, idle_suspend: held: whether the cluster is in use is unknown" in ended.out
        assert "-- prod, burst: problem: x is no key of burst" in ended.out

    def test_only_clusters_whose_name_matches(self, ctl, mz, tables):
        for name in ("prod", "test"):
            tables.strategy(mz.cluster(name, {}), "target_size", target_size="50cc")
        assert len(ctl("dry-run").statements) == 2
        assert ctl("dry-run", "--cluster", "^pr").statements == [CREATE_R50]

    def test_a_name_that_no_cluster_has_is_a_warning_and_no_error(self, ctl, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        ended = ctl("dry-run", "--cluster", "nope")
        assert ended.code == 0
        assert "no cluster's name matches 'nope'" in ended.out
        assert ended.statements == []

    def test_only_the_sizes_that_are_named(self, ctl, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "shrink_to_fit", max_replica_size="100cc")
        ended = ctl("dry-run", "--replica-sizes", "25cc, 100cc")
        assert [one.split("'")[1] for one in ended.statements] == ["100cc", "25cc"]

    def test_limits_come_from_a_file(self, ctl, caretaker, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "shrink_to_fit", max_replica_size="100cc")
        limits = caretaker.folder / "limits.yaml"
        limits.write_text("max_replicas: 1\nmode: apply\n")

        ended = ctl("dry-run", "--config", str(limits))

        assert len(ended.statements) == 1
        assert mz.replicas("prod") == {}

    def test_one_json_document(self, ctl, mz, tables):
        tables.strategy(mz.cluster("prod", {"old": "100cc"}), "target_size", target_size="50cc")

        document = ctl("dry-run", "--output", "json").json

        (action,) = document["actions"]
        assert (action["sql"], action["state"]) == (CREATE_R50, "planned")
        assert action["credits_per_hour_delta"] == 0.5
        assert document["exit_code"] == 0
        assert {"held", "problems", "warnings", "skipped", "run_id"} <= document.keys()


class TestApply:
    """It does it, says so, and fails where an action failed."""

    def test_cycle_after_cycle_until_nothing_is_left_to_do(self, ctl, mz, tables):
        tables.strategy(mz.cluster("prod", {"old": "100cc"}), "target_size", target_size="50cc")

        first = ctl("apply")

        assert first.code == 0
        assert first.out.splitlines()[0].split() == [
            "CLUSTER", "ACTION", "STRATEGY", "STATE", "CREDITS/H", "REASON"
        ]  # fmt: skip
        assert "executed" in first.out
        eventually(lambda: mz.is_ready("prod", "r_50cc"))
        assert ctl("apply").code == 0
        assert mz.replicas("prod") == {"r_50cc": "50cc"}
        assert tables.audit() == [
            (CREATE_R50, True), ('DROP CLUSTER REPLICA "prod"."old"', True)
        ]  # fmt: skip
        assert "0 actions on 1 cluster" in ctl("apply").out

    def test_an_action_that_failed_is_exit_code_1_and_the_others_are_done(self, ctl, mz, tables):
        tables.strategy(mz.cluster("a", {}), "shrink_to_fit", max_replica_size="100cc")
        tables.strategy(mz.cluster("b", {}), "target_size", target_size="50cc")
        mz.set_system(max_replicas_per_cluster=1)

        ended = ctl("apply", "--output", "json")

        assert ended.code == 1
        states = [(one["cluster"], one["state"]) for one in ended.json["actions"]]
        assert states == [
            ("a", "executed"), ("a", "not_executed"), ("a", "not_executed"), ("b", "executed")
        ]  # fmt: skip
        assert ended.json["exit_code"] == 1
        assert "max_replicas_per_cluster" in ended.json["failures"][0]
        assert ended.err.startswith("error: ") or "[ERROR]" in ended.err

    def test_every_call_is_a_run_that_the_page_shows(self, ctl, caretaker, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        run_id = ctl("apply", "--output", "json").json["run_id"]
        with caretaker.instance() as instance:
            run = instance.get_run_by_id(run_id)
        assert run.job_name == "cluster_strategies"
        assert run.is_success

    def test_while_another_run_is_at_work_it_is_refused_and_nothing_is_touched(
        self, ctl, caretaker, mz, tables
    ):
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        with caretaker.store as store, MaterializeResource(url=mz.url).open() as source:
            environment = strategies_lock.lock_of(source.identity().environment)
            owner = process.owner_of_run("the-other", os.getppid())
            store.acquire_lock(environment, owner, purpose="x", is_dead=lambda *_: False)

        ctl("apply").refused("the-other", code=3)

        assert mz.replicas("prod") == {}
        assert tables.audit() == []
        assert ctl("dry-run").statements == [CREATE_R50]

    def test_v_tells_what_is_done_and_silence_is_the_rule(self, ctl, mz, tables):
        cluster = mz.cluster("prod", {})
        tables.strategy(cluster, "target_size", target_size="50cc")
        assert ctl("dry-run").err == ""
        told = ctl("dry-run", "-v").err
        assert "[INFO] CREATE CLUSTER REPLICA" in told
        assert "[DEBUG]" not in told
        assert '[DEBUG] prod: {"now"' in ctl("dry-run", "-vv").err

    def test_vv_prints_no_password(self, mz, ctl, tables):
        mz.create_user("ops", "mz_monitor_redacted", password="s3cret-p4ss", superuser=True)
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        tables.open_to("ops")
        url = mz.url_for("ops", "s3cret-p4ss")

        ended = ctl("apply", "-vv", "--postgres-url", url)

        assert ended.code == 0
        assert "s3cret-p4ss" not in ended.out + ended.err


class TestWipeState:
    """It forgets what strategies remember, and nothing else."""

    def remembering(self, ctl, mz, tables):
        for name in ("prod", "test"):
            tables.strategy(mz.cluster(name, {}), "target_size", target_size="50cc", cooldown_s=99)
        assert ctl("apply").code == 0

    def rows(self, tables):
        return [row[0] for row in tables.ask("SELECT cluster_id FROM mz_cluster_strategy_state")]

    def test_of_one_cluster_or_of_all(self, ctl, mz, tables):
        self.remembering(ctl, mz, tables)

        assert ctl("wipe-state", "--dry-run").out == "2 rows of state would be forgotten\n"
        assert len(self.rows(tables)) == 2
        ended = ctl("wipe-state", "--cluster", "^prod$")
        assert ended.out == "1 rows of state of prod forgotten\n"
        assert self.rows(tables) == [mz.cluster_id("test")]
        assert ctl("wipe-state", "--output", "json").json["rows"] == 1
        assert self.rows(tables) == []
        assert len(tables.audit()) == 2
        assert tables.ask("SELECT count(*) FROM mz_cluster_strategies") == [(2,)]

    def test_tables_of_another_shape_are_refused_and_made_again(self, ctl, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        tables.ask("DROP TABLE mz_cluster_strategy_state")
        tables.ask("CREATE TABLE mz_cluster_strategy_state (cluster_id TEXT, payload JSONB)")

        refused = ctl("apply")
        refused.refused("mz_cluster_strategy_state", "wipe-state --recreate")
        assert ctl("wipe-state", "--recreate", "--cluster", "x").code == 2
        assert ctl("wipe-state", "--recreate").out.startswith("made again: ")
        assert ctl("apply").code == 0


class TestBadInput:
    """One sentence and an exit code, by the real program."""

    def test_no_database_url(self, program):
        sentence(program("dry-run", DATABASE_URL=""), "DATABASE_URL", "postgresql://")

    def test_a_url_that_is_none(self, program):
        said = sentence(program("apply", "--postgres-url", "mysql://u:hunter2@h/d"), "DATABASE_URL")
        assert "hunter2" not in said

    def test_a_wrong_password(self, program, mz):
        mz.create_user("ops", password="right", superuser=True)
        url = mz.url_for("ops", "wrong-one")
        said = sentence(program("apply", "-vv", DATABASE_URL=url), "'ops'", "invalid password")
        assert "wrong-one" not in said

    def test_a_plain_postgresql(self, program, postgres_url):
        sentence(program("dry-run", DATABASE_URL=postgres_url), "is no Materialize", "DATABASE_URL")

    def test_nobody_there(self, program, unused_port):
        url = f"postgresql://u@127.0.0.1:{unused_port}/d"
        sentence(program("dry-run", DATABASE_URL=url), str(unused_port), "cannot be reached")

    def test_an_expression_that_is_none(self, program):
        sentence(program("apply", "--cluster", "("), "--cluster", "'('", code=2)

    def test_a_size_that_materialize_does_not_have(self, program):
        said = sentence(program("apply", "--replica-sizes", "25cc,9cc"), "'9cc'", code=2)
        assert "--replica-sizes" in said
        assert "50cc" in said

    def test_the_same_size_twice(self, program):
        sentence(program("apply", "--replica-sizes", "25cc,25cc"), "--replica-sizes", code=2)

    def test_no_privilege_on_a_cluster(self, program, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        mz.set_system(rbac="on")
        mz.create_user("guest", "mz_monitor_redacted")
        tables.open_to("guest")

        code, out, err = program("apply", DATABASE_URL=mz.url_for("guest"))

        assert code == 1
        assert "must be owner of CLUSTER prod" in out
        assert "Traceback" not in out + err
        assert mz.replicas("prod") == {}

    def test_a_store_that_is_away(self, program, mz, unused_port):
        mz.cluster("prod", {})
        store = f"postgresql://u:hunter2@127.0.0.1:{unused_port}/d"
        said = sentence(program("apply", CARETAKER_STRATEGY_STORE_URL=store), str(unused_port))
        assert "hunter2" not in said

    def test_a_store_url_that_is_none(self, program):
        store = "sqlite:///x"
        sentence(
            program("apply", CARETAKER_STRATEGY_STORE_URL=store), "CARETAKER_STRATEGY_STORE_URL"
        )

    def test_no_dagster_home(self, program):
        sentence(program("dry-run", DAGSTER_HOME=""), "DAGSTER_HOME")

    @pytest.mark.parametrize("arguments", [("nope",), ("apply", "--nope"), ("apply", "prod")])
    def test_what_there_is_not(self, program, arguments):
        sentence(program(*arguments), "mz-clusterctl", "--help", code=2)

    def test_no_verb_shows_the_verbs(self, program):
        code, out, err = program()
        assert code == 2
        for verb in ("dry-run", "apply", "wipe-state"):
            assert verb in out + err

    def test_a_file_with_an_unknown_key_is_an_error_of_the_file(self, program, caretaker):
        path = caretaker.folder / "limits.yaml"
        path.write_text("max_replica: 3\n")
        sentence(program("apply", "--config", str(path)), "max_replica", "limits.yaml")

    def test_a_url_in_the_env_file_of_the_folder_is_enough(self, caretaker, mz):
        (caretaker.folder / ".env").write_text(f"DATABASE_URL={mz.url}\n")
        environment = {**os.environ, **caretaker.process_environment}
        environment.pop("DATABASE_URL", None)
        ended = subprocess.run(
            [sys.executable, "-m", "console.clusterctl", "dry-run", "--output", "json"],
            cwd=caretaker.folder, env=environment, text=True, capture_output=True, timeout=300,
            check=True,
        )  # fmt: skip
        assert json.loads(ended.stdout)["version"].startswith("v")


class TestFlags:
    """The seed's flags, before the verb or behind it."""

    def test_flags_before_the_verb_are_the_verbs(self, ctl, mz, tables):
        for name in ("prod", "test"):
            tables.strategy(mz.cluster(name, {}), "target_size", target_size="50cc")
        assert ctl("--cluster", "prod", "dry-run").statements == [CREATE_R50]
        both = ctl("--cluster", "test", "dry-run", "--cluster", "prod")
        assert both.statements == [CREATE_R50]

    def test_the_flag_wins_over_the_variable(self, ctl, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        ended = ctl(
            "dry-run", "--postgres-url", mz.url, DATABASE_URL="postgresql://nobody@h.invalid/d"
        )
        assert ended.statements == [CREATE_R50]

    def test_two_programs_print_the_same(self, ctl, program, mz, tables):
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")
        code, out, _ = program("dry-run")
        assert (code, out) == (0, ctl("dry-run").out)

    def test_its_help_shows_its_own_name(self, program):
        for verb in ((), ("dry-run",), ("apply",), ("wipe-state",)):
            code, out, _ = program(*verb, "--help")
            assert code == 0
            examples = out.partition("Examples:\n")[2].split("\n")
            assert [line.split()[0] for line in examples if line.strip()] == ["mz-clusterctl"] * 2


class TestExamples:
    """What `--help` shows works as it is printed."""

    @pytest.fixture
    def limits(self, caretaker):
        (caretaker.folder / "limits.yaml").write_text("max_credits_per_hour: 8\n")

    @pytest.mark.usefixtures("limits")
    @pytest.mark.parametrize(
        "example", [one for one in all_examples() if one.startswith("caretaker strategies ")]
    )
    def test_of_caretaker(self, ctl, mz, tables, example):
        tables.strategy(mz.cluster("prod", {"old": "100cc"}), "target_size", target_size="50cc")
        ended = ctl(*shlex.split(example)[2:])
        assert ended.code == 0, ended
        assert ended.out

    def test_the_program_has_the_same_ones(self):
        assert examples_of(clusterctl) == [
            one.replace("caretaker strategies", "mz-clusterctl") for one in examples_of(strategies)
        ]


def examples_of(group):
    commands = [group, *group.commands.values()]
    helps = [command.get_help(click.Context(command)) for command in commands]
    return [
        line.strip()
        for text in helps
        for line in text.partition("Examples:\n")[2].splitlines()
        if line.strip()
    ]


class TestTablesElsewhere:
    """In a PostgreSQL, by CARETAKER_STRATEGY_STORE_URL."""

    def test_the_same_cycle(self, ctl, mz, postgres_url):
        tables = Tables(postgres_url)
        tables.strategy(mz.cluster("prod", {}), "target_size", target_size="50cc")

        ended = ctl("apply", CARETAKER_STRATEGY_STORE_URL=postgres_url)

        assert ended.code == 0, ended.err
        assert mz.replicas("prod") == {"r_50cc": "50cc"}
        assert tables.audit() == [(CREATE_R50, True)]
