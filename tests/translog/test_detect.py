"""Which tables are found, why, and which of them a run takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.translog.detect import (
    Cause,
    Finding,
    History,
    examine,
    find_oversized,
    select,
    threshold_bytes,
)
from caretaker.translog.model import (
    MIB,
    PartitionRef,
    Remedy,
    ShardCopy,
    TableRef,
    target_key,
)
from caretaker.translog.policy import ResetPolicy
from tests.translog.observed import METRICS, NOW, mib, primary, replica, sick, table

#: 512 MiB x 1.1, whole bytes: the default threshold, and twice of it rounded up.
THRESHOLD = 590_558_003
TWICE = 2 * THRESHOLD

sizes = st.integers(0, 4 * TWICE)


def chosen(*tables, history=None, held=(), **policy):
    """What a run takes, as names, worst first."""
    selection = select(
        find_oversized(tables),
        ResetPolicy.checked(**policy),
        now=NOW,
        history=history or {},
        held=held,
    )
    return [str(finding.target) for finding in selection.chosen]


def reason_to_skip(observed, *, history=None, held=(), **policy):
    """Why a run leaves the one table alone."""
    selection = select(
        find_oversized([observed]),
        ResetPolicy.checked(**policy),
        now=NOW,
        history=history or {},
        held=held,
    )
    assert not selection.chosen
    ((_, reason),) = selection.skipped
    return reason


def found(observed) -> Finding:
    """What is wrong with a table that must not pass for healthy."""
    finding = examine(observed)
    assert finding is not None
    return finding


# ---------------------------------------------------------------------------- thresholds


def test_a_replica_at_its_threshold_is_no_problem_and_one_byte_more_is():
    assert threshold_bytes(sick("doc.m", 0)) == THRESHOLD == int(512 * MIB * 1.1)
    assert examine(sick("doc.m", THRESHOLD)) is None
    assert found(sick("doc.m", THRESHOLD + 1)).worst_bytes == THRESHOLD + 1


def test_a_table_is_acted_on_from_exactly_200_percent():
    assert chosen(sick("doc.m", TWICE - 1)) == []
    assert chosen(sick("doc.m", TWICE)) == ["doc.m"]
    assert chosen(sick("doc.m", mib(1126.4))) == ["doc.m"]
    assert chosen(sick("doc.m", mib(1126.3))) == []


@pytest.mark.parametrize(
    ("flush_threshold", "edge"),
    [(mib(5), mib(5.5)), (mib(2048), mib(2252.8)), (55, 60), (None, THRESHOLD)],
)
def test_the_setting_of_the_table_decides_and_512_mib_where_there_is_none(flush_threshold, edge):
    healthy = sick("doc.m", edge, flush_threshold_bytes=flush_threshold)
    assert examine(healthy) is None
    assert examine(replace(healthy, copies=(primary(), replica(size=edge + 1)))) is not None


@given(size=sizes, percentage=st.integers(1, 1000))
def test_the_percentage_asked_for_is_the_percentage_acted_on(size, percentage):
    """In whole numbers: no float may decide whether a table loses its replicas."""
    found = chosen(sick("doc.m", size), percentage=percentage)
    above = size > THRESHOLD and size * 100 >= percentage * THRESHOLD
    assert found == (["doc.m"] if above else [])


def test_a_size_floor_counts_mebibytes():
    huge = sick("doc.m", mib(1200))
    assert chosen(huge, size_mb=1200) == ["doc.m"]
    assert chosen(huge, size_mb=1200.01) == []


# ---------------------------------------------------------------------------- which copies


@pytest.mark.parametrize("state", ["INITIALIZING", "RELOCATING", "UNASSIGNED"])
def test_only_started_replicas_count(state):
    observed = table(primary(), replica(size=TWICE, routing_state=state))
    assert examine(observed) is None


def test_a_large_primary_alone_is_not_found():
    assert examine(table(primary(uncommitted_bytes=TWICE), replica())) is None


def test_an_unknown_size_is_not_taken_for_a_large_one():
    assert examine(table(primary(), replica(uncommitted_bytes=None))) is None


def test_the_worst_replica_speaks_for_its_table():
    observed = table(
        primary(0),
        replica(0, THRESHOLD + 1),
        primary(1),
        replica(1, TWICE),
        primary(2),
        replica(2),
    )
    finding = found(observed)
    assert (finding.worst.shard_id, finding.worst_bytes, finding.oversized) == (1, TWICE, 2)
    assert finding.percentage == 200.0


@given(st.lists(st.tuples(sizes, st.sampled_from([None, mib(5), mib(600)])), max_size=8))
def test_worst_comes_first_measured_by_its_own_threshold(drawn):
    tables = [
        sick(f"doc.t{number}", size, flush_threshold_bytes=threshold)
        for number, (size, threshold) in enumerate(drawn)
    ]
    findings = find_oversized(tables)
    percentages = [finding.percentage for finding in findings]
    assert percentages == sorted(percentages, reverse=True)
    assert {f.target for f in findings} == {t.target for t in tables if examine(t)}


def test_a_small_table_is_not_hidden_behind_a_large_one():
    small = sick("doc.small", mib(50), flush_threshold_bytes=mib(5))
    assert chosen(sick("doc.large", mib(1500)), small) == ["doc.small", "doc.large"]


def test_equally_sick_tables_come_in_the_order_of_their_names():
    assert chosen(*(sick(f"doc.{n}", TWICE) for n in "cab")) == ["doc.a", "doc.b", "doc.c"]


# ---------------------------------------------------------------------------- causes


@pytest.mark.parametrize(
    ("copies", "cause", "remedy"),
    [
        (
            [primary(), replica(size=TWICE, max_seq_no=99, local_checkpoint=99)],
            Cause.SAFE_COMMIT_LAG,
            Remedy.FLUSH_FIRST,
        ),
        (
            [primary(), replica(size=TWICE, max_seq_no=99, local_checkpoint=98)],
            Cause.SEQ_NO_GAP,
            Remedy.REPLICAS,
        ),
        (
            [primary(uncommitted_bytes=THRESHOLD + 1), replica(size=TWICE, local_checkpoint=98)],
            Cause.PRIMARY_TOO,
            Remedy.FLUSH_FIRST,
        ),
        (
            [primary(uncommitted_bytes=THRESHOLD), replica(size=TWICE)],
            Cause.SAFE_COMMIT_LAG,
            Remedy.FLUSH_FIRST,
        ),
        (
            [primary(), replica(size=TWICE, max_seq_no=None)],
            Cause.UNKNOWN,
            Remedy.FLUSH_FIRST,
        ),
        (
            [primary(), replica(size=TWICE, local_checkpoint=None)],
            Cause.UNKNOWN,
            Remedy.FLUSH_FIRST,
        ),
        (
            [primary(1, uncommitted_bytes=TWICE), primary(0), replica(0, TWICE)],
            Cause.SAFE_COMMIT_LAG,
            Remedy.FLUSH_FIRST,
        ),
    ],
    ids=[
        "lag",
        "gap",
        "primary too",
        "primary at its threshold",
        "no seq no",
        "no checkpoint",
        "another shard's primary",
    ],
)
def test_the_cause_is_told_with_the_gentlest_remedy_for_it(copies, cause, remedy):
    finding = found(table(*copies))
    assert (finding.cause, finding.recommended) == (cause, remedy)


# ---------------------------------------------------------------------------- left alone


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"number_of_replicas": None}, "number_of_replicas cannot be read"),
        ({"number_of_replicas": "0"}, "no replicas"),
        ({"number_of_replicas": "0-0"}, "no replicas"),
        ({"closed": True}, "closed"),
        ({"blocked": ("read_only",)}, "blocks.read_only"),
        ({"blocked": ("metadata",)}, "blocks.metadata"),
        ({"blocked": ("write", "read_only_allow_delete")}, "blocks.read_only_allow_delete"),
        ({"allocation_enable": "primaries"}, "routing.allocation.enable is 'primaries'"),
        ({"allocation_enable": None}, "routing.allocation.enable is None"),
    ],
)
def test_what_cannot_be_reset_is_left_alone_and_the_reason_given(changes, word):
    assert word in reason_to_skip(sick("doc.m", TWICE, **changes))


def test_a_block_on_writes_does_not_stand_in_the_way():
    assert chosen(sick("doc.m", TWICE, blocked=("write",))) == ["doc.m"]


@pytest.mark.parametrize("schema", ["sys", "information_schema", "pg_catalog", "blob"])
def test_system_schemas_are_not_even_mentioned(schema):
    assert find_oversized([sick(f"{schema}.m", TWICE)]) == []


def test_a_table_with_an_open_ticket_belongs_to_another_run():
    held = {target_key(METRICS)}
    assert "open ticket" in reason_to_skip(sick("doc.metrics", TWICE), held=held)


def test_a_ticket_on_one_partition_does_not_hold_the_next():
    first, second = (
        PartitionRef(METRICS, ident, (("ts", number),)) for number, ident in enumerate("ab")
    )
    tables = [table(primary(), replica(size=TWICE), target=target) for target in (first, second)]
    assert chosen(*tables, held={target_key(first)}) == [str(second)]


# ---------------------------------------------------------------------------- again, and how many


@pytest.mark.parametrize(
    ("hours_ago", "again"), [(0, False), (5.99, False), (6, True), (100, True)]
)
def test_no_table_is_reset_twice_within_six_hours(hours_ago, again):
    history = {target_key(METRICS): History(NOW - timedelta(hours=hours_ago), uncured=1)}
    assert bool(chosen(sick("doc.metrics", TWICE), history=history)) is again


def test_the_rest_of_the_cool_off_is_told_in_seconds():
    history = {target_key(METRICS): History(NOW - timedelta(hours=5), uncured=1)}
    assert "again in 3600 s" in reason_to_skip(sick("doc.metrics", TWICE), history=history)


@pytest.mark.parametrize(("uncured", "set_aside"), [(0, False), (2, False), (3, True), (9, True)])
def test_a_table_that_three_resets_did_not_cure_waits_for_an_operator(uncured, set_aside):
    history = {target_key(METRICS): History(NOW - timedelta(days=9), uncured=uncured)}
    if set_aside:
        assert "set aside" in reason_to_skip(sick("doc.metrics", TWICE), history=history)
    else:
        assert chosen(sick("doc.metrics", TWICE), history=history) == ["doc.metrics"]


def test_the_past_of_one_table_is_not_held_against_another():
    history = {("doc", "other", ""): History(NOW, uncured=9)}
    assert chosen(sick("doc.metrics", TWICE), history=history) == ["doc.metrics"]


def test_at_most_max_tables_are_taken_and_the_worst_of_them():
    tables = [sick(f"doc.t{n}", TWICE + n) for n in range(5)]
    assert chosen(*tables, max_tables=2) == ["doc.t4", "doc.t3"]


def test_a_table_that_is_left_alone_takes_nobodys_place():
    worst = sick("doc.worst", 3 * TWICE, closed=True)
    assert chosen(worst, sick("doc.next", TWICE), max_tables=1) == ["doc.next"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (r"doc\.metrics", ["doc.metrics"]),
        (r"doc\..*", ["doc.metrics", "doc.metrics2"]),
        ("metrics", []),
        (r".*\.metrics\d?", ["doc.metrics", "doc.metrics2", "Über.metrics"]),
        ("", ["doc.metrics", "doc.metrics2", "Über.metrics"]),
        (r"(?i)über\..*", ["Über.metrics"]),
    ],
)
def test_a_table_pattern_must_match_the_whole_name(pattern, names):
    tables = [sick(name, TWICE) for name in ("doc.metrics", "doc.metrics2", "Über.metrics")]
    assert sorted(chosen(*tables, table=pattern)) == sorted(names)


def test_what_the_operator_did_not_ask_for_is_not_reported_as_skipped():
    selection = select(
        find_oversized([sick("doc.m", TWICE, closed=True)]),
        ResetPolicy.checked(table="other.*"),
        now=NOW,
        history={},
    )
    assert (selection.chosen, selection.skipped) == ((), ())


copies = st.builds(
    ShardCopy,
    shard_id=st.integers(0, 3),
    primary=st.booleans(),
    routing_state=st.sampled_from(["STARTED", "INITIALIZING", "RELOCATING", "UNASSIGNED"]),
    node_id=st.sampled_from([None, "n1", "n2"]),
    uncommitted_bytes=st.none() | sizes,
    max_seq_no=st.none() | st.integers(-1, 9),
    local_checkpoint=st.none() | st.integers(-1, 9),
)


@given(st.lists(copies, max_size=8), st.none() | st.integers(55, TWICE))
def test_whatever_sys_shards_shows_nothing_healthy_is_touched(rows, flush_threshold):
    observed = table(*rows, flush_threshold_bytes=flush_threshold, target=TableRef("doc", "m"))
    limit = threshold_bytes(observed)
    replicas = [row for row in rows if row.routing_state == "STARTED" and not row.primary]
    large = [row for row in replicas if (row.uncommitted_bytes or 0) > limit]
    finding = examine(observed)
    assert (finding is not None) == bool(large)
    if finding is not None:
        assert finding.worst_bytes == max(row.uncommitted_bytes for row in large)
        assert finding.oversized == len(large)
