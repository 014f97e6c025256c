"""Each exit code of `translogs`, from a situation that deserves it."""

from __future__ import annotations

import pytest

from caretaker.errors import TransientError
from lab.cratedb import LabCrateDB
from lab.faults import Fault
from tests.console.conftest import changes_of, on_first, wait_for_line

SICK = 1840


def test_0_when_everything_was_reset(caretaker, lab):
    lab.table("doc.metrics", sick_mb=SICK)

    ended = caretaker.process("translogs", "--autoexec")

    assert ended.code == 0, ended.err


def test_0_when_there_is_nothing_to_do(caretaker, lab, changes):
    lab.table("doc.calm")

    assert caretaker("translogs", "--autoexec").code == 0
    assert not changes()


def test_0_when_all_that_is_left_is_skipped(caretaker, lab):
    """Reset a moment ago, so left alone, and that is no failure."""
    table = lab.table("doc.metrics", sick_mb=SICK)
    caretaker("translogs", "--autoexec")
    table.make_sick(SICK)

    run = caretaker("translogs", "--autoexec", "--output", "json")

    assert run.code == 0
    assert "reset recently" in run.json["tables"][0]["reason"]


def test_0_when_replicas_are_slow_to_come_back(caretaker, lab):
    """Degraded is said, and is done."""
    lab.table("doc.metrics", sick_mb=SICK)
    lab.world.recovery_s = 3600

    config = caretaker.config(verify_timeout_s=0.1)
    run = caretaker("translogs", "--autoexec", "--config", config, "--output", "json")

    assert run.code == 0
    assert run.json["tables"][0]["degraded"] is True


@pytest.mark.parametrize("face", ["--autoexec", "--dry-run"])
def test_1_when_preflight_refuses(caretaker, lab, changes, face):
    lab.table("doc.metrics", sick_mb=SICK)
    lab.start_snapshot()

    caretaker("translogs", face).refused("snapshot", code=1)

    assert not changes()


def test_1_when_another_run_has_the_cluster(caretaker, lab, changes):
    """The lock of a run that lives, seen from a second one."""
    lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)
    first = caretaker.start("translogs", "--autoexec")

    wait_for_line(first, "MONITORING_LEASES (attempt 1")
    sent = len(changes())

    caretaker("translogs", "--autoexec").refused("waits to be restored", code=1)

    assert len(changes()) == sent


def test_2_when_a_lone_table_times_out(caretaker, lab):
    """The original is back all the same, and the message carries what an operator needs."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)

    config = caretaker.config()
    run = caretaker("translogs", "--autoexec", "--config", config, "--output", "json")

    assert run.code == run.json["exit_code"] == 2
    found = run.json["tables"][0]
    assert found["outcome"] == "LEASES_TIMED_OUT"
    assert found["final_replicas"] == table.number_of_replicas == "0-1"
    for word in ("8 now", "4 wanted", "'0-1'", "max_wait"):
        assert word in found["reason"]


def test_2_when_every_table_is_refused(caretaker, lab):
    """No DDL on the tables: nothing was changed, and nothing was reset."""
    lab.table("doc.a", sick_mb=SICK)
    lab.table("doc.b", sick_mb=SICK)
    lab.create_user("reader", "word", "DQL ON SCHEMA sys", "DQL ON SCHEMA doc")
    caretaker.environment |= {"CRATE_USERNAME": "reader", "CRATE_PASSWORD": "word"}

    run = caretaker("translogs", "--autoexec", "--output", "json")

    assert run.code == 2
    assert {table["outcome"] for table in run.json["tables"]} == {"REFUSED"}
    assert lab.most_at_zero == 0


def test_3_when_one_failed_and_one_was_done(caretaker, lab):
    lab.table("doc.stuck", sick_mb=2 * SICK, leases_stuck=True)
    done = lab.table("doc.done", sick_mb=SICK)

    config = caretaker.config()
    run = caretaker("translogs", "--autoexec", "--config", config, "--output", "json")

    assert run.code == run.json["exit_code"] == 3
    assert run.json["summary"]["completed"] == run.json["summary"]["failed"] == 1
    assert done.worst_mb < 1
    assert lab.at_zero() == []


def test_3_when_preflight_refuses_a_later_table(caretaker, lab):
    """The first is done, the second is left as it was, and said to be."""
    lab.table("doc.first", sick_mb=2 * SICK)
    second = lab.table("doc.second", sick_mb=SICK)
    restoring = """(?s)^ALTER TABLE "doc"."first" .*"""
    lab.faults.add(
        Fault(match=restoring, after_matches=1, times=1, after=lambda _: lab.start_snapshot())
    )

    ended = caretaker("translogs", "--autoexec")

    assert ended.code == 3, ended
    assert "LEFT UNDONE" in ended.out
    assert "snapshot" in ended.out
    assert second.worst_mb == SICK
    assert not [stmt for stmt in changes_of(lab) if "second" in stmt]


def test_4_when_a_restore_is_forbidden(caretaker, lab):
    """The privilege is revoked while the table is at 0: loud, with the statement to paste."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    rights = [f"{right} ON SCHEMA doc" for right in ("DQL", "DML", "DDL")]
    lab.create_user("ops", "word", "DQL ON SCHEMA sys", "AL", *rights)
    caretaker.environment |= {"CRATE_USERNAME": "ops", "CRATE_PASSWORD": "word"}
    on_first(lab, "^OPTIMIZE", lambda: lab.revoke("ops", "DDL ON SCHEMA doc"))

    config = caretaker.config()
    ended = caretaker("translogs", "--autoexec", "--config", config, "--log-format", "json")

    assert ended.code == 4
    remedy = """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0-1')"""
    assert "NOT_RESTORED" in ended.out
    assert remedy in ended.out
    critical = next(line for line in ended.log if line["event"] == "critical")
    assert critical["level"] == "CRITICAL"
    assert "MANUAL INTERVENTION REQUIRED: Failed to rollback doc.metrics" in critical["reason"]
    assert critical["sql"] == remedy
    assert lab.at_zero() == ["doc.metrics"]
    with caretaker.store as store:
        assert len(store.open_tickets()) == 1

    # And what it printed does what it says.
    lab.sql(remedy)
    assert table.number_of_replicas == "0-1"


def test_4_wins_over_what_was_done_and_stops_what_comes_after(caretaker, lab):
    """A cluster that refuses one restore will refuse the next."""
    lab.table("doc.a", replicas="0-1", sick_mb=3 * SICK)
    lab.table("doc.b", replicas="0-1", sick_mb=2 * SICK)
    third = lab.table("doc.c", replicas="0-1", sick_mb=SICK)
    lab.faults.add(
        Fault(
            match='^ALTER TABLE "doc"."b"', after_matches=1, action="error", status=404, code=4041
        )
    )

    run = caretaker("translogs", "--autoexec", "--config", caretaker.config(), "--output", "json")

    assert run.code == run.json["exit_code"] == 4
    summary = run.json["summary"]
    assert (summary["completed"], summary["not_restored"]) == (1, 1)
    assert third.worst_mb == SICK


def test_an_unanswered_alter_is_put_back_and_watched(caretaker, lab):
    """Sent, no answer, landed: the original is sent again, whatever the read-back shows."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    lab.faults.add(Fault(match="^ALTER", action="reset_after", times=1))

    run = caretaker("translogs", "--autoexec", "--config", caretaker.config(), "--output", "json")

    assert run.code in {0, 2}
    assert table.number_of_replicas == "0-1"
    with caretaker.store as store:
        assert store.open_tickets() == []


def test_a_table_that_somebody_else_changed_is_left_to_them(caretaker, lab):
    """Neither 0 nor the original: not ours to overwrite."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    on_first(lab, "^OPTIMIZE", lambda: table.set_replicas("3"))

    run = caretaker("translogs", "--autoexec", "--output", "json")

    assert run.code == 2
    assert run.json["tables"][0]["outcome"] == "CHANGED_UNDERNEATH"
    assert table.number_of_replicas == "3"


def test_a_full_disk_for_the_result_does_not_change_the_exit_code(caretaker, lab):
    """The code is about the tables; what could not be written is said on stderr."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)
    arguments = ("translogs", "--autoexec", "--config", caretaker.config())
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = caretaker.start(*arguments, stdout=full)
    ended = caretaker.wait(process)

    assert ended.code == 2
    assert "could not be written" in ended.err
    assert "Traceback" not in ended.err
    assert table.number_of_replicas == "0-1"


def test_a_store_that_fails_at_the_end_is_not_taken_for_nothing_touched(
    caretaker, lab, monkeypatch
):
    """The table is done, the run is not: 3. And where nobody can tell any more: 4."""

    def away(*_, **__):
        raise TransientError("the store is away")

    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    monkeypatch.setattr("resources.state_store.StateStore.release_lock", away)

    run = caretaker("translogs", "--autoexec", "--output", "json")
    assert run.code == run.json["exit_code"] == 3
    assert run.json["tables"][0]["outcome"] == "COMPLETED"

    table.make_sick(SICK)
    config = caretaker.config(retry_after_s=0)
    monkeypatch.setattr("console.translog.open_store", away)
    ended = caretaker("translogs", "--autoexec", "--config", config)
    assert ended.code == 4
    assert "cannot be read: the store is away" in ended.err


def test_two_labs_do_not_share_a_lock():
    """What the tests above rely on: each lab is a cluster of its own."""
    with LabCrateDB(nodes=1, seed=1) as one, LabCrateDB(nodes=1, seed=2) as other:
        query = "SELECT id FROM sys.cluster"
        assert one.sql(query)["rows"] != other.sql(query)["rows"]
