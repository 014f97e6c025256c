"""Before the first ALTER: what refuses a run, what is durable then, what a rehearsal does."""

from __future__ import annotations

import re

import pytest

from caretaker.translog.model import Owner
from caretaker.translog.outcome import ResetOutcome
from tests.world import NUDGE, ended, refuses_to_start

COMPLETED, SKIPPED = ResetOutcome.COMPLETED, ResetOutcome.SKIPPED


def a_yellow_table(world):
    world.lab.sql("CREATE TABLE doc.lonely (id INT) WITH (number_of_replicas = '3')")


def a_decommission(world):
    world.lab.hang_drain(2)
    world.fault(
        "sys.jobs",
        "wrong_rows",
        rows=[[1, 0]],
    )


REFUSALS = {
    "a table is YELLOW": (a_yellow_table, {}, r"doc\.lonely \(YELLOW\)"),
    "allocation is restricted": (
        lambda w: w.lab.sql("SET GLOBAL TRANSIENT cluster.routing.allocation.enable = 'primaries'"),
        {},
        "'primaries'",
    ),
    "a snapshot runs": (lambda w: w.lab.start_snapshot(), {}, "snapshot"),
    "a decommission runs": (a_decommission, {}, "decommissioned"),
    "a node is missing": (lambda _: None, {"expected_nodes": 4}, "4 are expected"),
    "there is no master": (lambda w: w.lab.drop_master(), {}, "no master"),
    "a disk is full": (lambda w: w.lab.fill_disk(1, 90), {}, "watermark"),
}


@pytest.mark.parametrize(("spoil", "options", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_nothing_is_touched_while(world, spoil, options, words):
    world.table("doc.metrics")
    spoil(world)

    run = world.reset(**options)

    refuses_to_start(run, world)
    (refused,) = world.said("preflight_refused")
    for text in (run.failure, refused["reason"]):
        assert re.search(words, text)


def test_a_weak_user_is_refused_where_everything_looks_green(world):
    """sys.shards and sys.health are empty for them, sys.cluster_health is not."""
    world.table("doc.metrics")
    world.lab.create_user("weak", None, "DQL ON SCHEMA sys")
    world.user = "weak"

    run = world.reset()

    refuses_to_start(run, world)
    assert "weak sees no table" in run.failure
    assert "GRANT" in run.failure


def test_a_user_who_sees_only_the_healthy_tables_is_refused(world):
    world.table("doc.metrics")
    a_yellow_table(world)
    world.lab.create_user("weak", None, "DQL ON SCHEMA sys", "DDL ON TABLE doc.metrics")
    world.user = "weak"

    run = world.reset()

    refuses_to_start(run, world)
    assert "YELLOW, because of tables that weak cannot see" in run.failure


def test_a_setting_that_cannot_work_is_named_before_anything_is_asked(world):
    world.table("doc.metrics")

    run = world.reset(concurrent=9)

    assert "concurrent: found 9, expected a number from 1 to 8" in run.failure
    assert len(world.lab.journal) == 0


def test_a_cluster_that_turns_sick_leaves_the_rest_undone(world):
    """Two were done by then: they are done, and the others say why not."""
    for number in range(4):
        world.table(f"doc.t{number}", sick_mb=1400 - number)
    world.on_zero(after_matches=3, after=lambda _: world.lab.start_snapshot())

    run = world.reset()

    assert not run.success
    assert run.exit_code == 3
    assert run.outcomes == {
        "doc.t0": COMPLETED,
        "doc.t1": COMPLETED,
        "doc.t2": SKIPPED,
        "doc.t3": SKIPPED,
    }
    assert [result.left_undone for result in run.results] == [False, False, True, True]
    assert all("snapshot" in result.reason for result in run.results[2:])
    assert {table for table, _ in world.altered} == {'"doc"."t0"', '"doc"."t1"'}
    assert (len(world.recorded), world.open_tickets) == (2, [])


@pytest.mark.parametrize("text", ["0-1", "0-all", "2"])
def test_the_ticket_is_on_disk_before_the_first_alter(world, text):
    """As another process sees it at the moment when CrateDB receives the statement."""
    world.table("doc.metrics", replicas=text)
    seen = []
    world.on_zero(
        before=lambda _: seen.append(
            world.look_into_store(
                "SELECT schema_name, table_name, original_replicas, zero_sent, state, closed_at,"
                " owner_run_id FROM caretaker_tickets"
            )
        )
    )

    run = world.reset()

    assert seen == [[("doc", "metrics", text, 1, "SETTING_REPLICAS_ZERO", None, run.run_id)]]


def test_the_statement_is_on_record_before_it_is_sent(world):
    world.table("doc.metrics")
    seen = []
    query = "SELECT sql_text, ended_at FROM caretaker_statements"
    world.on_zero(before=lambda _: seen.extend(world.look_into_store(query)))

    world.reset()

    assert seen == [('ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = \'0\')', None)]


@pytest.mark.parametrize(
    ("broken", "what"), [("tickets", "INSERT"), ("tickets", "UPDATE"), ("statements", "INSERT")]
)
def test_a_store_that_cannot_write_lets_nothing_be_sent(world, broken, what):
    table = world.table("doc.metrics")
    world.break_store(broken, what)

    run = world.reset(restore_timeout_s=1)

    assert not run.success
    assert world.changes == []
    assert table.number_of_replicas == "0-1"


def test_a_second_run_is_refused_while_the_first_is_at_work(world):
    """The refusal names the holder; the first goes on undisturbed."""
    table = world.table("doc.metrics")
    other = Owner("run-of-another", "host-b", 4711, "boot/1")
    cluster_id = world.lab.world.cluster_id
    world.store.acquire_lock(cluster_id, other, purpose="restart", is_dead=lambda *_: False)

    run = world.reset()

    refuses_to_start(run, world)
    assert "locked by run run-of-another on host host-b (pid 4711) for restart" in run.failure
    assert world.store.lock(cluster_id).owner == other
    world.store.release_lock(cluster_id, other.run_id)
    assert world.reset().outcome is COMPLETED
    assert table.number_of_replicas == "0-1"


def test_of_two_runs_at_once_the_second_is_refused(world):
    """Started as a process of its own while the first has its table at 0."""
    table = world.table("doc.metrics", leases_stuck=True)
    second = []

    def meanwhile(_):
        second.append((ended(world.start(percentage=100)), world.lab.at_zero()))
        table.leases_stuck = False

    # It takes its time on a busy machine, and the first must not give up meanwhile.
    world.statement_timeout_s = 600
    world.fault(NUDGE, times=1, before=meanwhile)

    first = world.reset(nudge=True)

    assert second == [({"success": False}, ["doc.metrics"])]
    assert first.outcome is COMPLETED
    assert [replicas for _, replicas in world.altered] == ["0", "0-1"]


def test_a_rehearsal_says_what_would_be_sent_and_writes_nothing(world):
    world.table("doc.metrics", sick_mb=1400, replicas="0-all")
    world.table("doc.next", replicas="2")

    run = world.reset(dry_run=True)

    assert (run.success, run.exit_code) == (True, 0)
    assert run.outcomes == {"doc.metrics": None, "doc.next": None}
    told = [note["sql"] for note in world.said("note") if "sql" in note]
    assert told == [
        'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = \'0\')',
        'OPTIMIZE TABLE "doc"."metrics" WITH (max_num_segments = 100000, flush = true)',
        'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = \'0-all\')',
        'ALTER TABLE "doc"."next" SET ("number_of_replicas" = \'0\')',
        'OPTIMIZE TABLE "doc"."next" WITH (max_num_segments = 100000, flush = true)',
        'ALTER TABLE "doc"."next" SET ("number_of_replicas" = \'2\')',
    ]
    assert world.changes == []
    for kept in ("tickets", "outcomes", "locks", "statements", "samples"):
        assert world.look_into_store(f"SELECT * FROM caretaker_{kept}") == []  # noqa: S608


def test_what_is_run_is_what_was_rehearsed(world):
    world.table("doc.metrics")
    rehearsed = world.reset(dry_run=True).result.statements
    assert world.reset().result.statements == rehearsed


def test_a_rehearsal_is_refused_where_a_run_would_be(world):
    world.table("doc.metrics")
    world.lab.start_snapshot()
    refuses_to_start(world.reset(dry_run=True), world)


def test_no_table_is_reset_again_within_its_cool_off(world):
    table = world.table("doc.metrics")
    assert world.reset().outcome is COMPLETED
    table.make_sick(1300)
    sent = len(world.changes)

    run = world.reset()

    assert (run.success, run.outcome) == (True, SKIPPED)
    assert "it was reset recently; again in 215" in run.result.reason
    assert len(world.changes) == sent
    assert world.reset(retry_after_s=0).outcome is COMPLETED


def test_a_table_that_resets_do_not_cure_is_set_aside_until_an_operator_clears_it(world):
    table = world.table("doc.metrics", shards=1, leases_stuck=True)
    options = {"retry_after_s": 0, "set_aside_after": 2, "max_wait_s": 0}
    for _ in range(2):
        assert world.reset(**options).outcome is ResetOutcome.LEASES_TIMED_OUT
        table.make_sick(1300)

    run = world.reset(**options)

    assert run.outcome is SKIPPED
    assert "set aside: 2 resets did not cure it" in run.result.reason
    assert run.result.cause == "safe_commit_lag"
    world.store.clear_set_aside(world.lab.world.cluster_id, run.result.target)
    assert world.reset(**options).outcome is ResetOutcome.LEASES_TIMED_OUT


def test_a_lagging_table_is_cured_by_a_flush_without_giving_up_a_replica(world):
    table = world.table("doc.metrics")

    run = world.reset(remedy="flush_first")

    assert (run.outcome, run.result.reason) == (COMPLETED, "a flush was enough")
    assert [change.stmt[:8] for change in world.changes] == ["OPTIMIZE"]
    assert table.worst_mb < 1
    assert world.lab.most_at_zero == 0
    assert run.result.seconds_at_zero == 0


def test_a_gap_in_the_sequence_numbers_is_reset_after_the_flush(world, monkeypatch):
    monkeypatch.setattr("ops.reset.FLUSH_SHOWS_S", 0.2)
    table = world.table("doc.metrics", cause="seq_no_gap")

    run = world.reset(remedy="flush_first")

    assert (run.outcome, run.result.cause) == (COMPLETED, "seq_no_gap")
    assert [change.stmt[:8] for change in world.changes] == [
        "OPTIMIZE",
        "ALTER TA",
        "OPTIMIZE",
        "ALTER TA",
    ]
    assert (table.worst_mb < 1, table.number_of_replicas) == (True, "0-1")
