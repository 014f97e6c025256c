"""The report: which tables, why, what to paste, and how fast it gets worse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from assets.translog_backlog import BACKLOG_COLUMNS
from caretaker.translog.model import ResetState, TableRef
from caretaker.translog.outcome import ResetOutcome, ResetResult
from tests.assets.conftest import metadata_of

MIB = 2**20


@pytest.fixture
def backlog(report):
    """Run the report; return (DataFrame, metadata)."""

    def run(**options):
        result = report(**options)
        assert result.success
        return result.output_for_node("translog_backlog"), metadata_of(result, "translog_backlog")

    return run


def records(table):
    return [dict(record.data) for record in table.records]


def test_a_row_says_all_that_a_person_needs(lab, backlog):
    lab.table("doc.metrics", sick_mb=2300, cause="seq_no_gap")

    frame, _ = backlog()

    (row,) = frame.to_dict("records")
    assert row.pop("node").startswith("data-hot-")
    assert pd.isna(row.pop("growth_mb_per_h"))
    assert row.pop("above_since") > datetime.now(UTC) - timedelta(minutes=2)
    assert row.pop("statements") == [
        """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0')""",
        'OPTIMIZE TABLE "doc"."metrics" WITH (max_num_segments = 100000, flush = true)',
        """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0-1')""",
    ]
    assert row == {
        "schema": "doc",
        "table": "metrics",
        "partition": "",
        "partition_values": None,
        "shard": 0,
        "uncommitted_mb": 2300.0,
        "threshold_mb": 563.2,
        "percentage": 408.4,
        "cause": "seq_no_gap",
        "replicas": "0-1",
        "remedy": "replicas",
        "acted_on": True,
        "reason": "",
        "hours_to_threshold": 0.0,
    }


def test_columns_have_one_name_and_type_with_and_without_rows(lab, backlog):
    empty, _ = backlog()
    lab.table("doc.metrics", sick_mb=2300)
    full, _ = backlog()
    for frame in (empty, full):
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == BACKLOG_COLUMNS
    assert (len(empty), len(full)) == (0, 1)


def test_worst_first_and_the_percentage_decides_who_is_acted_on(lab, backlog):
    lab.table("doc.some", sick_mb=700)
    lab.table("doc.more", sick_mb=2300)

    frame, metadata = backlog()
    low, _ = backlog(percentage=110)

    assert list(frame["table"]) == ["more", "some"]
    assert list(frame["acted_on"]) == [True, False]
    assert list(frame["reason"]) == ["", "below 200 % of its threshold"]
    assert list(low["acted_on"]) == [True, True]
    assert metadata["tables above"] == 2
    assert metadata["tables to reset"] == 1
    assert metadata["worst %"] == pytest.approx(408.4)


def test_a_name_narrows_the_rows_and_a_size_only_the_acts(lab, backlog):
    lab.table("doc.some", sick_mb=1300)
    lab.table("doc.more", sick_mb=2300)
    assert list(backlog(table=r"doc\.s.*")[0]["table"]) == ["some"]
    sized, _ = backlog(size_mb=2000.0)
    assert list(sized["reason"]) == ["", "smaller than 2000 MiB"]


def test_a_table_that_cools_off_says_so(lab, backlog, store):
    lab.table("doc.metrics", sick_mb=2300)
    now = datetime.now(UTC)
    result = ResetResult(
        TableRef("doc", "metrics"), ResetState.COMPLETED, ResetOutcome.COMPLETED, ended_at=now
    )
    store.record_outcome(lab.world.cluster_id, "run-0", result)

    frame, _ = backlog()

    assert not frame["acted_on"][0]
    assert "it was reset recently" in frame["reason"][0]


def test_a_partition_is_named_by_its_values(lab, backlog):
    lab.table(
        "doc.events",
        partitioned_by=[("day", "text")],
        partitions=[{"day": "mo'nday"}, {"day": "tuesday"}],
        sick_partitions=[0],
        sick_mb=2300,
    )
    frame, _ = backlog()
    assert list(frame["partition_values"]) == [{"day": "mo'nday"}]
    assert list(frame["partition"]) == ['''day="mo'nday"''']
    assert "PARTITION (\"day\" = 'mo''nday')" in frame["statements"][0][0]


def test_commands_wait_for_the_leases_before_the_last_statement(lab, report):
    lab.table("doc.metrics", sick_mb=2300)
    (check,) = report().get_asset_check_evaluations()
    lines = check.metadata["commands by hand"].value.splitlines()
    assert lines[0] == "```sql"
    waits = next(n for n, line in enumerate(lines) if line.startswith("-- wait until"))
    assert "'0')" in lines[waits - 2]
    assert "'0-1')" in lines[waits + 1]


def test_an_empty_backlog_says_so(lab, report):
    lab.table("doc.calm", sick_mb=100)
    result = report()
    metadata = metadata_of(result, "translog_backlog")
    (check,) = result.get_asset_check_evaluations()
    assert check.metadata["commands by hand"].value.startswith("Nothing to paste")
    assert metadata["above"] == "none of 1"
    assert records(metadata["backlog"]) == []
    assert metadata["picture of sizes"].startswith("![Translogs of the worst replicas")


def test_what_fills_up_is_sampled_and_the_rest_is_not(lab, backlog, store):
    lab.table("doc.filling", sick_mb=60)
    lab.table("doc.calm", sick_mb=50)
    old = datetime.now(UTC) - timedelta(days=15)
    store.add_samples(lab.world.cluster_id, old, [(TableRef("doc", "gone"), 1, 2)])

    backlog()

    kept = store.samples(lab.world.cluster_id, old)
    assert [(str(row.target), row.worst_bytes) for row in kept] == [("doc.filling", 60 * MIB)]


def test_a_table_below_its_threshold_that_grows_is_listed_with_its_hours(lab, backlog, store):
    lab.table("doc.filling", sick_mb=400)
    lab.table("doc.still", sick_mb=400)
    now = datetime.now(UTC)
    for hours, size in ((3, 100), (2, 200), (1, 300)):
        rows = [
            (TableRef("doc", "filling"), size * MIB, 1),
            (TableRef("doc", "still"), 400 * MIB, 1),
        ]
        store.add_samples(lab.world.cluster_id, now - timedelta(hours=hours), rows)

    metadata = backlog()[1]

    growing, still = records(metadata["growth"])
    assert (growing["table"], growing["crosses"]) == ("doc.filling", "in about 1.5 h")
    assert growing["MiB/h"] == pytest.approx(100, abs=0.2)
    assert (still["table"], still["crosses"]) == ("doc.still", "not growing")
    assert metadata["tables crossing in 7 days"] == 1
    assert metadata["picture of growth"].startswith("![Translogs that are too large or will be")


def test_a_table_above_its_threshold_shows_its_growth_and_since_when_in_its_row(
    lab, backlog, store
):
    lab.table("doc.metrics", sick_mb=2300)
    now = datetime.now(UTC)
    for hours, size in ((4, 300), (3, 800), (2, 1300), (1, 1800)):
        store.add_samples(
            lab.world.cluster_id,
            now - timedelta(hours=hours),
            [(TableRef("doc", "metrics"), size * MIB, 1)],
        )
    frame, metadata = backlog()
    assert frame["growth_mb_per_h"][0] == pytest.approx(500, abs=0.5)
    assert frame["above_since"][0].to_pydatetime() == now - timedelta(hours=3)
    assert metadata["above"] == "1 of 1: doc.metrics 408 % (for 3.0 h)"


@pytest.mark.parametrize(("percentage", "passed"), [(200, False), (500, True)])
def test_the_alert_is_about_what_a_reset_would_act_on(lab, report, percentage, passed):
    lab.table("doc.metrics", sick_mb=2300)
    result = report(percentage=percentage)
    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == "nothing_far_above_threshold"
    assert check.passed is passed
    assert check.severity.value == "WARN"
    assert result.success


def test_a_wrong_option_fails_at_once_and_is_named(report):
    result = report(percentage=0)
    assert not result.success
    (failed,) = result.get_step_failure_events()
    assert "percentage: found 0" in failed.step_failure_data.user_failure_data.description
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_a_report_changes_nothing(lab, report):
    lab.table("doc.metrics", sick_mb=2300)
    report()
    statements = [entry.stmt for entry in lab.journal]
    assert statements
    assert all(statement.strip().upper().startswith("SELECT") for statement in statements)
