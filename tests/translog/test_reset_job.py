"""A whole reset against a cluster: the tables are cured, and have what they had."""

from __future__ import annotations

import pytest

from caretaker.translog.outcome import ResetOutcome

COMPLETED = ResetOutcome.COMPLETED


def test_a_sick_table_is_cured_and_has_what_it_had(world):
    table = world.table("doc.metrics", shards=4)

    run = world.reset()

    assert run.success
    assert (run.outcome, run.exit_code) == (COMPLETED, 0)
    assert table.number_of_replicas == "0-1"
    assert table.worst_mb < 1
    assert [change.stmt.split(" WITH")[0] for change in world.changes] == [
        'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = ?)',
        'OPTIMIZE TABLE "doc"."metrics"',
        'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = ?)',
    ]
    assert world.altered == [('"doc"."metrics"', "0"), ('"doc"."metrics"', "0-1")]
    assert world.open_tickets == []
    assert world.store.lock(world.lab.world.cluster_id) is None


def test_what_was_done_is_on_record(world):
    world.table("doc.metrics")

    run = world.reset()

    (recorded,) = world.recorded
    assert (recorded.outcome, recorded.run_id) == ("COMPLETED", run.run_id)
    assert (recorded.original_replicas, recorded.final_replicas) == ("0-1", "0-1")
    assert recorded.cause == "safe_commit_lag"
    assert recorded.worst_bytes == 1200 * 1024 * 1024
    assert 0 < recorded.seconds_at_zero <= recorded.duration_s
    assert recorded.statements == (
        'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = \'0\')',
        'OPTIMIZE TABLE "doc"."metrics" WITH (max_num_segments = 100000, flush = true)',
        'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = \'0-1\')',
    )


def test_every_state_is_told_in_its_order(world):
    world.table("doc.metrics")

    run = world.reset()

    told = world.said("state_transition")
    assert [event["to_state"] for event in told] == [
        "SETTING_REPLICAS_ZERO",
        "MONITORING_LEASES",
        "RESTORING_REPLICAS",
        "VERIFYING",
        "COMPLETED",
    ]
    assert [event["from_state"] for event in told[1:]] == [e["to_state"] for e in told[:-1]]
    assert {event["table"] for event in told} == {"doc.metrics"}
    assert {event["run_id"] for event in told} == {run.run_id}
    assert {event["original_replicas"] for event in told} == {"0-1"}


def test_without_the_nudge_the_leases_are_waited_for(world):
    table = world.table("doc.metrics", leases_stuck=True)
    looked: list[str] = []

    def clear_after_two(_):
        looked.append(table.number_of_replicas)
        if looked.count("0") == 2:
            table.leases_stuck = False

    world.fault("retention_leases", after=clear_after_two)

    run = world.reset(nudge=False)

    assert run.outcome is COMPLETED
    assert [change.stmt[:5] for change in world.changes] == ["ALTER", "ALTER"]
    looks = world.said("leases")
    assert len(looks) > 1
    assert [look["attempt"] for look in looks] == list(range(1, len(looks) + 1))
    assert (looks[0]["leases"], looks[-1]["leases"], looks[-1]["wanted"]) == (4, 2, 2)
    assert table.number_of_replicas == "0-1"


def test_a_server_that_refuses_the_nudge_is_waited_for(world):
    world.table("doc.metrics")
    world.fault("^OPTIMIZE", "error", status=400, code=4000, message="Invalid property")

    run = world.reset()

    assert run.outcome is COMPLETED
    assert any("no flush: Invalid property" in note["reason"] for note in world.said("note"))


@pytest.mark.parametrize("text", ["0-1", "1", "2", "0-all", "1-2", "0-2"])
def test_replicas_come_back_as_the_same_text(world, text):
    table = world.table("doc.metrics", replicas=text)

    run = world.reset()

    assert run.outcome is COMPLETED
    assert table.number_of_replicas == text
    assert [replicas for _, replicas in world.altered] == ["0", text]
    assert run.result.final_replicas == text


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (("MySchema", "select"), '"MySchema"."select"'),
        (("doc", "Täb-x$"), '"doc"."Täb-x$"'),
        (("doc", "日本"), '"doc"."日本"'),
        (("order", "table"), '"order"."table"'),
        (("doc", "it's"), '"doc"."it\'s"'),
    ],
)
def test_any_name_that_cratedb_takes_is_reset(world, name, quoted):
    table = world.table(name)

    run = world.reset()

    assert run.outcome is COMPLETED
    assert world.altered == [(quoted, "0"), (quoted, "0-1")]
    assert (table.number_of_replicas, table.worst_mb < 1) == ("0-1", True)


def test_a_healthy_cluster_is_left_alone(world):
    world.table("doc.metrics", sick_mb=1)

    run = world.reset()

    assert (run.success, run.exit_code, run.results) == (True, 0, ())
    assert world.changes == []


def test_what_is_not_asked_for_is_not_touched(world):
    for name in ("doc.a", "doc.b", "other.a"):
        world.table(name)

    run = world.reset(table=r"doc\.a")

    assert run.outcomes == {"doc.a": COMPLETED}
    assert {table for table, _ in world.altered} == {'"doc"."a"'}


def test_the_worst_come_first_and_no_more_than_asked_for(world):
    for number, size in enumerate((1200, 1400, 1300)):
        world.table(f"doc.t{number}", sick_mb=size)

    run = world.reset(max_tables=2)

    assert [table for table, _ in world.altered] == ['"doc"."t1"'] * 2 + ['"doc"."t2"'] * 2
    assert run.outcomes["doc.t0"] is ResetOutcome.SKIPPED
    assert (run.success, run.exit_code) == (True, 0)


def test_a_table_is_carried_through_before_the_next_one_starts(world):
    """Breadth first, all would be at 0 before the first came back."""
    for number in range(3):
        world.table(f"doc.t{number}", sick_mb=1300 - number)

    run = world.reset()

    assert set(run.outcomes.values()) == {COMPLETED}
    assert world.altered == [
        (f'"doc"."t{number}"', replicas) for number in range(3) for replicas in ("0", "0-1")
    ]
    assert world.lab.most_at_zero == 1


def test_a_subscription_does_not_hold_a_reset_up(world):
    world.table("doc.metrics", logical_lease=True)
    assert world.reset().outcome is COMPLETED


def test_replicas_that_do_not_come_back_in_time_are_told_as_degraded(world):
    """The text is back, so it is no failure; and it is no cure either."""
    table = world.table("doc.metrics", shards=1)
    world.on_restore(before=lambda _: setattr(world.lab.world, "recovery_s", 3600.0))

    run = world.reset(verify_timeout_s=0.3)

    assert (run.success, run.outcome, run.result.degraded) == (True, COMPLETED, True)
    assert table.number_of_replicas == "0-1"
    (recorded,) = world.recorded
    assert recorded.degraded
    (told,) = world.said("outcome")
    assert told["degraded"] is True
    ((attempts),) = world.store.last_attempts(world.lab.world.cluster_id).values()
    assert attempts.uncured == 1


def test_a_primary_as_large_as_its_replica_is_named_as_the_cause(world):
    world.table("doc.metrics", cause="primary_too")
    run = world.reset()
    assert (run.outcome, run.result.cause) == (COMPLETED, "primary_too")
