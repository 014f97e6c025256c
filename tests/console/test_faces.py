"""`caretaker translogs`: each face, each option of the seeds' tables and of the page."""

from __future__ import annotations

import pytest

SICK = 1840  # MiB: 327 % of the default threshold


def test_without_an_option_it_only_reports(caretaker, lab, changes):
    """The report names table, size, threshold, per cent, cause and replicas."""
    lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    lab.table("doc.calm", replicas="1")

    ended = caretaker("translogs")

    assert ended.code == 0
    line = next(line for line in ended.out.splitlines() if "doc.metrics" in line)
    assert line.split()[0] == "doc.metrics"
    for shown in ("1840.0", "563.2", "326.7", "safe_commit_lag", "0-1"):
        assert shown in line.split()
    assert "doc.calm" not in ended.out
    assert not changes()
    assert ended.err == ""


def test_a_report_shows_what_a_reset_would_not_take_and_why(caretaker, lab):
    """Above the threshold, below the percentage: problematic, and not acted on."""
    lab.table("doc.metrics", sick_mb=700)

    ended = caretaker("translogs")

    assert "below 200 % of its threshold" in ended.out
    assert not caretaker("translogs", "--execute").statements


def test_a_report_of_a_healthy_cluster_says_so(caretaker, lab):
    lab.table("doc.calm", replicas="1")

    assert caretaker("translogs").out == "No replica is above its threshold.\n"
    assert caretaker("translogs", "--autoexec").out.startswith("No table is above its threshold")


@pytest.mark.parametrize("verb", ["translogs", "problematic-translogs"])
def test_autoexec_frees_the_translogs_and_gives_the_replicas_back(caretaker, lab, changes, verb):
    """The whole promise, under both names."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)

    ended = caretaker(verb, "--autoexec")

    assert ended.code == 0
    assert "COMPLETED" in ended.out
    assert "1 found, 1 attempted, 1 completed, 0 failed, 0 not restored, 0 skipped" in ended.out
    assert table.number_of_replicas == "0-1"
    assert table.worst_mb < 1
    assert [stmt.split()[0] for stmt in changes()] == ["ALTER", "OPTIMIZE", "ALTER"]


def test_every_run_is_in_the_instance_that_the_ui_shows(caretaker, lab):
    lab.table("doc.metrics", sick_mb=SICK)

    caretaker("translogs")
    caretaker("translogs", "--dry-run")
    caretaker("translogs", "--autoexec")

    with caretaker.instance() as instance:
        runs = instance.get_runs()
    assert [run.job_name for run in runs] == ["translog_reset", "translog_reset", "translog_report"]
    assert {run.status.value for run in runs} == {"SUCCESS"}
    assert {run.tags["caretaker/started_by"] for run in runs} == {"command line"}


@pytest.mark.parametrize("flags", [("--dry-run",), ("--autoexec", "--dry-run")])
def test_a_dry_run_prints_the_plan_and_touches_nothing(caretaker, lab, changes, flags):
    """In order, and neither CrateDB nor the store learns of it."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)

    ended = caretaker("translogs", *flags)

    assert ended.code == 0
    assert ended.statements == [
        """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0')""",
        'OPTIMIZE TABLE "doc"."metrics" WITH (max_num_segments = 100000, flush = true)',
        """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0-1')""",
    ]
    assert not changes()
    assert table.worst_mb == SICK
    with caretaker.store as store:
        assert store.tickets(include_closed=True) == []
        assert store.outcomes() == []


def test_a_dry_run_prints_what_a_run_then_sends(caretaker, lab):
    """The same statements, the same order, over several tables and a partition."""
    lab.table("doc.a", replicas="1", sick_mb=SICK)
    lab.table(
        "doc.b", replicas="2", partitioned_by=[("day", "timestamp")],
        partitions=[{"day": 1735689600000}, {"day": 1735776000000}], sick_mb=2 * SICK,
        sick_partitions=[1],
    )  # fmt: skip

    planned = caretaker("translogs", "--dry-run").statements
    run = caretaker("translogs", "--autoexec", "--output", "json").json

    sent = [statement for table in run["tables"] for statement in table["statements"]]
    assert len(sent) == 6
    assert sent == planned


def test_execute_prints_and_runs_nothing(caretaker, lab, changes):
    lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)

    ended = caretaker("translogs", "--execute")

    assert ended.code == 0
    assert ended.statements == caretaker("translogs", "--dry-run").statements
    assert not changes()


# --- the options ------------------------------------------------------------------------------


@pytest.mark.parametrize(("percentage", "taken"), [("150", True), ("328", False), ("326", True)])
def test_percentage_decides_from_where_on_tables_are_acted_on(caretaker, lab, percentage, taken):
    lab.table("doc.metrics", sick_mb=SICK)

    for face in ("--dry-run", "--execute"):
        assert bool(caretaker("translogs", face, "--percentage", percentage).statements) is taken


def test_max_wait_ends_the_wait_for_leases(caretaker, lab):
    """With the statement to restore long sent when the exit code comes."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)

    ended = caretaker("translogs", "--autoexec", "--max-wait", "0")

    assert ended.code == 2
    assert "LEASES_TIMED_OUT" in ended.out
    assert "4 wanted" in ended.out
    assert table.number_of_replicas == "0-1"


def test_size_mb_is_a_floor(caretaker, lab):
    lab.table("doc.metrics", sick_mb=SICK)

    assert caretaker("translogs", "--dry-run", "--size-mb", "1800").statements
    assert not caretaker("translogs", "--dry-run", "--size-mb", "1900").statements


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("doc.m.*", ["m"]), ("doc", []), (r"(doc|iot)\..*", ["m", "s"]), ("", ["m", "s"])],
)
def test_table_must_match_the_whole_name(caretaker, lab, pattern, found):
    lab.table("doc.m", sick_mb=SICK)
    lab.table("iot.s", sick_mb=SICK)

    run = caretaker("translogs", "--dry-run", "--table", pattern, "--output", "json").json
    report = caretaker("translogs", "--table", pattern, "--output", "json").json

    assert [table["table"] for table in run["tables"]] == found
    assert [table["table"] for table in report["tables"]] == found


def test_max_tables_takes_the_worst_and_says_what_it_left(caretaker, lab):
    lab.table("doc.bad", sick_mb=SICK)
    worse = lab.table("doc.worse", sick_mb=2 * SICK)

    run = caretaker("translogs", "--autoexec", "--max-tables", "1", "--output", "json").json

    assert [(t["table"], t["outcome"]) for t in run["tables"]] == [
        ("worse", "COMPLETED"),
        ("bad", "SKIPPED"),
    ]
    assert "max_tables" in run["tables"][1]["reason"]
    assert run["summary"]["skipped"] == 1
    assert run["exit_code"] == 0
    assert worse.worst_mb < 1


def test_no_nudge_leaves_the_leases_to_cratedb(caretaker, lab, changes):
    lab.table("doc.metrics", sick_mb=SICK)
    lab.world.lease_tick_s = 0.1
    lab.advance(30)

    planned = caretaker("translogs", "--dry-run", "--no-nudge").statements
    printed = caretaker("translogs", "--execute", "--no-nudge").statements
    ended = caretaker(
        "translogs", "--autoexec", "--no-nudge", "--config", caretaker.config(max_wait_s=20)
    )

    assert ended.code == 0
    assert [statement.split()[0] for statement in planned] == ["ALTER", "ALTER"]
    assert printed == planned
    assert [stmt.split()[0] for stmt in changes()] == ["ALTER", "ALTER"]


def test_flush_first_takes_no_replica_away_where_a_flush_cures(caretaker, lab, changes):
    table = lab.table("doc.metrics", sick_mb=SICK)

    plan = caretaker("translogs", "--dry-run", "--remedy", "flush_first").statements
    printed = caretaker("translogs", "--execute", "--remedy", "flush_first").statements
    ended = caretaker("translogs", "--autoexec", "--remedy", "flush_first")

    assert [statement.split()[0] for statement in plan] == [
        "OPTIMIZE",
        "ALTER",
        "OPTIMIZE",
        "ALTER",
    ]
    assert printed == plan
    assert ended.code == 0
    assert [stmt.split()[0] for stmt in changes()] == ["OPTIMIZE"]
    assert table.worst_mb < 1
    assert lab.most_at_zero == 0


def test_expected_nodes_refuses_a_cluster_of_another_size(caretaker, lab, changes):
    lab.table("doc.metrics", sick_mb=SICK)

    for face in ("--autoexec", "--dry-run"):
        said = caretaker("translogs", face, "--expected-nodes", "4").refused("4 are expected")
        assert "3 nodes are present" in said
    assert not changes()
    assert caretaker("translogs", "--autoexec", "--expected-nodes", "3").code == 0


def test_concurrent_is_that_many_at_once_and_no_more(caretaker, lab):
    """A process for each step; still everything back and small."""
    tables = lab.tables([f"doc.t{n}" for n in range(2)], replicas="1", sick_mb=SICK)

    ended = caretaker.process("translogs", "--autoexec", "--concurrent", "2", "--output", "json")

    assert ended.code == 0, ended.err
    assert ended.json["summary"]["completed"] == 2
    assert "Traceback" not in ended.err
    assert lab.most_at_zero <= 2
    assert {table.number_of_replicas for table in tables} == {"1"}
    assert all(table.worst_mb < 1 for table in tables)


def test_a_config_file_is_the_run_config_and_flags_win(caretaker, lab):
    """One file serves report, reset and resume alike."""
    lab.table("doc.m", sick_mb=SICK)
    lab.table("iot.s", sick_mb=2 * SICK)
    config = caretaker.config(table="doc.*", percentage=150, size_mb=None)

    def found(*flags):
        run = caretaker("translogs", "--config", config, "--output", "json", *flags)
        assert run.code == 0, run.err
        return [table["table"] for table in run.json["tables"]]

    assert found("--dry-run") == ["m"]
    assert found("--dry-run", "--table", "iot.*") == ["s"]
    assert found() == ["m"]
    assert found("--resume") == []


def test_a_config_file_may_ask_for_a_dry_run(caretaker, lab, changes):
    lab.table("doc.m", sick_mb=SICK)

    ended = caretaker("translogs", "--autoexec", "--config", caretaker.config(dry_run=True))

    assert len(ended.statements) == 3
    assert not changes()


def test_resume_restores_what_a_dead_run_left(caretaker, lab, die_with_a_table_at_zero):
    """And --resume --dry-run prints how."""
    table = die_with_a_table_at_zero("doc.metrics", "0-1")
    assert lab.at_zero() == ["doc.metrics"]

    planned = caretaker("translogs", "--resume", "--dry-run")
    assert planned.statements == [
        """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0-1')"""
    ]
    assert lab.at_zero() == ["doc.metrics"]
    ended = caretaker("translogs", "--resume", "--output", "json")

    assert ended.code == 0
    assert ended.json["tables"][0]["final_replicas"] == "0-1"
    assert table.number_of_replicas == "0-1"
    assert caretaker("translogs", "--resume").out == "No open ticket: nothing to resume.\n"


# --- what does not go together ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--autoexec", "--execute"), "--execute"),
        (("--execute", "--dry-run"), "--dry-run"),
        (("--resume", "--autoexec"), "--resume"),
        (("--resume", "--execute"), "--resume"),
        (("--resume", "--percentage", "300"), "--resume"),
        (("--resume", "--table", "doc.*"), "--resume"),
        (("--resume", "--no-nudge"), "--resume"),
        (("--resume", "--max-tables", "1"), "--resume"),
        (("--resume", "--concurrent", "1"), "--resume"),
        (("--resume", "--expected-nodes", "3"), "--resume"),
    ],
)
def test_what_excludes_each_other_is_refused(caretaker, lab, flags, named):
    caretaker("translogs", *flags).refused(named)
    assert len(lab.journal) == 0
