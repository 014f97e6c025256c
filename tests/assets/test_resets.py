"""What became of the resets, and who still waits for replicas."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from assets.translog import RESET_COLUMNS
from caretaker.translog.model import Owner, PartitionRef, ResetState, ResetTicket, TableRef
from caretaker.translog.outcome import ResetOutcome, ResetResult
from ops.shown import fenced
from ops.translog_history import RESETS, ResetHistory
from tests.assets.conftest import metadata_of

METRICS = TableRef("doc", "metrics")


@pytest.fixture
def ended(store):
    """Record a reset that ended so many days ago."""

    def record(outcome, days_ago=1.0, seconds_at_zero=1.5, target=METRICS):
        ended_at = datetime.now(UTC) - timedelta(days=days_ago)
        result = ResetResult(
            target,
            ResetState.COMPLETED,
            outcome,
            original_replicas="0-1",
            final_replicas="0-1",
            seconds_at_zero=seconds_at_zero,
            ended_at=ended_at,
        )
        store.record_outcome("c1", "run-0", result)

    return record


@pytest.fixture
def ticket(store):
    """Leave a ticket open, in a state, its table at 0."""

    def leave(state, target=METRICS):
        now = datetime.now(UTC)
        made = store.open_ticket(
            ResetTicket(
                cluster_id="c1",
                target=target,
                original_replicas="0-1",
                owner=Owner("run-0", socket.gethostname(), 2**22 + 1, "boot/1"),
                created_at=now,
                threshold_bytes=590558003,
            )
        )
        # One that was given up says when to try again.
        again = now + timedelta(minutes=1) if state is ResetState.FAILED else None
        return store.advance(made, state=state, zero_sent=True, zeroed_at=now, next_try_at=again)

    return leave


def records(table):
    return [dict(record.data) for record in table.records]


def the_check(result):
    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == "replicas_are_back"
    assert check.severity is dg.AssetCheckSeverity.ERROR
    return check


def test_a_row_a_reset_newest_first_and_none_older_than_a_month(resets, ended):
    ended(ResetOutcome.COMPLETED, days_ago=31)
    ended(ResetOutcome.LEASES_TIMED_OUT, days_ago=2, seconds_at_zero=722.0)
    ended(ResetOutcome.COMPLETED, days_ago=1)

    result = resets()

    frame = result.output_for_node("translog_resets")
    assert list(frame["outcome"]) == ["COMPLETED", "LEASES_TIMED_OUT"]
    assert list(frame["table"]) == ["doc.metrics", "doc.metrics"]
    assert str(frame["ended_at"].dtype) == "datetime64[us, UTC]"
    metadata = metadata_of(result, "translog_resets")
    assert metadata["30 d: resets"] == 2
    assert metadata["30 d: leases timed out"] == 1
    assert metadata["longest s at 0"] == 722.0
    assert [row["outcome"] for row in records(metadata["resets"])] == [
        "completed",
        "leases timed out",
    ]


def test_an_empty_history_has_the_same_columns(resets):
    result = resets()
    frame = result.output_for_node("translog_resets")
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == RESET_COLUMNS
    assert metadata_of(result, "translog_resets")["picture"].startswith("![Seconds at 0 replicas")
    assert the_check(result).passed


def test_the_page_holds_a_dozen_rows_and_the_asset_all(resets, ended):
    for number in range(60):
        ended(ResetOutcome.COMPLETED, target=TableRef("doc", f"t{number}"))
    result = resets()
    assert len(result.output_for_node("translog_resets")) == 60
    *shown, more = records(metadata_of(result, "translog_resets")["resets"])
    assert (len(shown), more["table"]) == (12, "... and 48 more")


def test_a_table_left_without_replicas_fails_the_check_with_the_statement(resets, ticket):
    ticket(ResetState.FAILED, PartitionRef(METRICS, "04732", (("day", "mo'nday"),)))

    result = resets()

    check = the_check(result)
    assert not check.passed
    wanted = (
        """ALTER TABLE "doc"."metrics" PARTITION ("day" = 'mo''nday') """
        """SET ("number_of_replicas" = '0-1')"""
    )
    assert check.metadata["statements to paste"].value == f"```sql\n{wanted};\n```"
    assert '`doc.metrics (day="mo\'nday")` has had no replicas since ' in check.description
    assert wanted in check.description
    metadata = metadata_of(result, "translog_resets")
    assert f"`{wanted};`" in metadata["not restored"]
    (row,) = records(metadata["resets"])
    assert row["outcome"] == "not restored"


def test_a_reset_under_way_is_no_alarm_and_nothing_to_paste(resets, ticket):
    """Whoever pasted it now would work against the run."""
    ticket(ResetState.MONITORING_LEASES)
    result = resets()
    assert the_check(result).passed
    metadata = metadata_of(result, "translog_resets")
    assert "ALTER" not in metadata["not restored"]
    (row,) = records(metadata["resets"])
    assert row["outcome"] == "under way: MONITORING_LEASES"


def test_a_ticket_that_was_restored_in_the_end_is_no_alarm(resets, ticket, store):
    from resources.state_store import OutcomeRow  # noqa: PLC0415

    left = ticket(ResetState.FAILED)
    row = OutcomeRow.of_ticket(
        left, outcome="NOT_RESTORED", ended_at=datetime.now(UTC), final_replicas="0-1"
    )
    store.close_ticket(left, row)
    assert the_check(resets()).passed


def test_a_table_still_at_zero_is_in_the_picture(store, ticket):
    ticket(ResetState.FAILED)
    now = datetime.now(UTC)
    before = ResetHistory(store.outcomes(), [], now).metadata()["picture"]
    after = ResetHistory.read(store, now + timedelta(hours=1)).metadata()["picture"]
    assert len(after.value) > len(before.value)


def test_a_value_cannot_break_out_of_its_block_of_code():
    text = fenced(["x", "```", "<img>"])
    assert text.splitlines()[0] == "````sql"
    assert text.splitlines()[-1] == "````"


def test_a_reset_run_publishes_the_same_and_judges_the_check(lab, state_url, store, instance):
    """The asset is as fresh as the last run, and so is its alert."""
    from definitions.jobs import translog_reset  # noqa: PLC0415
    from resources.cratedb.resource import CrateDBResource  # noqa: PLC0415
    from resources.state_store.resource import StateStoreResource  # noqa: PLC0415

    lab.table("doc.metrics", sick_mb=2300)
    job = dg.Definitions(
        jobs=[translog_reset],
        resources={
            "cratedb": CrateDBResource(hosts=lab.connection_string),
            "state": StateStoreResource(url=state_url),
        },
    ).resolve_job_def("translog_reset")

    assert job.execute_in_process({}, instance=instance).success

    event = instance.get_latest_materialization_event(RESETS)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["30 d: resets"].value == 1
    assert str(metadata["picture"].value).startswith("![Seconds at 0 replicas")
    # Never less than the truth, which is the cluster's own; and no longer than the reset took.
    (truth,) = lab.seconds_at_zero()["doc.metrics"]
    (outcome,) = store.outcomes()
    assert truth <= metadata["longest s at 0"].value + 0.001 <= outcome.duration_s + 0.002
    key = dg.AssetCheckKey(RESETS, "replicas_are_back")
    (judged,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert judged.status.value == "SUCCEEDED"
