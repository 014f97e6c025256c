"""What an operator reads on an asset's page without opening anything, however much there is."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from cratedb_sqlparse import sqlparse
from hypothesis import given
from hypothesis import strategies as st

from assets.translog_backlog import backlog_metadata, backlog_rows, far_above
from assets.translog_outlook import SAMPLES_KEPT, forecasts_of, trails_of, worth_a_sample
from caretaker.translog.model import (
    MIB,
    Owner,
    PartitionRef,
    ResetState,
    ResetTicket,
    ShardCopy,
    TableObservation,
    TableRef,
)
from caretaker.translog.outcome import ResetOutcome, ResetResult
from caretaker.translog.policy import ResetPolicy
from ops.restoring import remedy_for
from ops.shown import INLINE_BELOW, code, to_paste, units
from ops.translog_history import ResetHistory
from ops.translog_look import judge
from ops.translog_metadata import outcomes_metadata, why_it_failed
from resources.state_store import OutcomeRow, TicketRow

NOW = datetime(2026, 1, 15, 3, tzinfo=UTC)
OWNER = Owner("run-0", socket.gethostname(), 2**22 + 1, "boot/1")

METRICS = TableRef("doc", "metrics")

#: An event is kept for ever, and there is one an hour.
MOST_BYTES = 160_000

SPAN = re.compile(r"(?s)```sql\n(.*?)\n```|`(ALTER[^`]*)`")


def pasted(markdown):
    """The statements that a browser shows in a Markdown, letter by letter."""
    found = [fence or span for fence, span in SPAN.findall(markdown)]
    return [line for one in found for line in one.split(";\n")]


def stored(metadata):
    """The bytes that Dagster would keep of it."""
    return len(dg.serialize_value(dg.AssetMaterialization("x", metadata=metadata)))


def given_up(target, number=1, **fields):
    ticket = ResetTicket(
        cluster_id="c1",
        target=target,
        original_replicas="0-1",
        owner=OWNER,
        created_at=NOW - timedelta(hours=1),
        threshold_bytes=563 * MIB,
        id=number,
        state=ResetState.FAILED,
        zero_sent=True,
        zeroed_at=NOW - timedelta(minutes=50),
        heartbeat_at=NOW - timedelta(minutes=49),
        next_try_at=NOW + timedelta(minutes=5),
    )
    return TicketRow(replace(ticket, **fields), "prod", "Failed to rollback: no privilege", None)


def history(*tickets, outcomes=()):
    return ResetHistory(outcomes, tickets[::-1], NOW)


def ended(outcome, seconds_at_zero=1.5, target=METRICS, **fields):
    return OutcomeRow(
        cluster_id="c1",
        target=target,
        run_id="run-0",
        outcome=outcome,
        started_at=NOW - timedelta(hours=3),
        ended_at=NOW - timedelta(hours=2),
        seconds_at_zero=seconds_at_zero,
        **fields,
    )


printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(schema=printable, name=printable, value=values | st.sampled_from(["`", "```\nx", "a  b"]))
def test_the_statement_to_paste_is_the_very_text_wherever_it_is_shown(schema, name, value):
    target = PartitionRef(TableRef(schema, name), "04732", (("region", value),))
    row = given_up(target)
    wanted = f"{remedy_for(row.ticket).rendered};"

    shown = history(row)._owed()["not restored"].value  # metadata() would draw each time
    told = history(row).check()["description"]

    for text in (shown, told):
        fence = re.search(r"(?s)(`{3,})sql\n(.*?)\n\1", text)
        assert f"`{wanted}`" in text or (fence is not None and fence[2] == wanted)
    assert units(shown) < INLINE_BELOW


@pytest.mark.parametrize("value", ["a  b", "a\nb", "a`b", "a\N{NO-BREAK SPACE}b", " a"])
def test_what_a_browser_would_show_otherwise_is_a_block_of_code(value):
    """In a line of text it shows one blank for two: not what is to be pasted."""
    row = given_up(PartitionRef(METRICS, "04732", (("region", value),)))
    shown = history(row)._owed()["not restored"].value
    fenced = f"```sql\n{remedy_for(row.ticket).rendered};\n```"
    assert (fenced in shown) is (value != " a")


@pytest.mark.parametrize("name", ["metrics", 'quo"ted', "UPPER", "with blank", "x" * 200])
@pytest.mark.parametrize("value", ["eu", "it's; -- 'x'", "a,b=c", ""])
def test_crate_db_takes_what_is_to_be_pasted(name, value):
    target = PartitionRef(TableRef("doc", name), "04732", (("region", value),))
    row = given_up(target)
    (statement,) = pasted(history(row).check()["description"])
    assert statement == f"{remedy_for(row.ticket).rendered};"
    (parsed,) = sqlparse(statement, raise_exception=True)
    assert parsed.type == "ALTER"


def test_a_page_says_who_has_no_replicas_since_when_and_why():
    said = history(given_up(TableRef("doc", "metrics"))).metadata()["not restored"].value
    assert "`doc.metrics` has had no replicas since 15 Jan 02:10 UTC" in said
    assert "no privilege" in said
    assert history().metadata()["not restored"] == "Nothing: every table has the replicas it had."


def test_a_thousand_tables_without_replicas_still_fit_and_no_statement_is_cut():
    rows = [given_up(TableRef("doc", f"table_{n:04}" + "y" * 200), n) for n in range(1000)]
    whole = {f"{remedy_for(row.ticket).rendered};" for row in rows}
    past = history(*rows)

    metadata, check = past.metadata(), past.check()

    assert units(metadata["not restored"].value) < INLINE_BELOW
    assert stored(metadata) < MOST_BYTES
    assert len(check["description"]) < 4000
    for text in (
        metadata["not restored"].value,
        metadata["all to paste"].value,
        check["description"],
        check["metadata"]["statements to paste"].value,
    ):
        shown = [one if one.endswith(";") else f"{one};" for one in pasted(text)]
        assert shown
        assert set(shown) <= whole
        assert f"{1000 - len(shown):,} more did not fit here" in text


def test_a_run_that_died_at_0_replicas_and_that_nobody_took_over_is_an_alarm():
    """The sensor may be off; then only this page says so."""
    left = given_up(
        TableRef("doc", "metrics"), state=ResetState.MONITORING_LEASES, next_try_at=None
    )
    verdict = history(left).check()
    assert not verdict["passed"]
    assert "translog_open_tickets" in verdict["description"]
    assert pasted(verdict["description"])
    alive = replace(left, ticket=replace(left.ticket, heartbeat_at=NOW - timedelta(seconds=4)))
    assert history(alive).check()["passed"]


def test_what_was_reset_is_counted_with_those_that_have_not_ended():
    metadata = history(
        given_up(TableRef("doc", "ledger")),
        outcomes=[
            ended("COMPLETED"),
            ended("COMPLETED", degraded=True),
            ended("LEASES_TIMED_OUT", 721.0, TableRef("doc", "slow")),
            ended("SKIPPED", 0.0),
        ],
    ).metadata()
    assert metadata["last 24 h"] == (
        "4 resets: 1 not restored, 1 leases timed out, 2 completed (1 degraded)"
    )
    assert metadata["at 0 replicas"].startswith("now: doc.ledger since 15 Jan 02:10 UTC; ")
    assert "doc.slow 12 min" in metadata["at 0 replicas"]
    first, *_, last = (dict(row.data) for row in metadata["resets"].records)
    assert (first["table"], first["outcome"], first["at 0 for"]) == (
        "doc.ledger",
        "not restored",
        "50 min",
    )
    assert (last["outcome"], last["at 0 for"]) == ("skipped", "never")
    assert metadata["longest s at 0"] == 3000.0
    assert (metadata["30 d: resets"], metadata["30 d: not restored"]) == (4, 1)


def test_every_outcome_is_a_number_that_plots_even_where_there_is_none():
    numbers = {
        name
        for name, value in history().metadata().items()
        if isinstance(value, int | float) and name.startswith("30 d: ")
    }
    assert len(numbers) == len(ResetOutcome) - 1 + 2  # without SKIPPED; all, and degraded


def observed(name, mb, partition=None):
    table = TableRef("doc", name)
    copies = (
        ShardCopy(0, primary=True, routing_state="STARTED", node_id="n1", uncommitted_bytes=0),
        ShardCopy(
            0, primary=False, routing_state="STARTED", node_id="n2", uncommitted_bytes=mb * MIB
        ),
    )
    target = PartitionRef(table, partition, (("day", partition),)) if partition else table
    return TableObservation(target, "0-1", 1, copies=copies)


def looked(store, tables, hours, policy=None):
    """Look every hour at `tables(hour)`, and return the last look's (metadata, check)."""
    policy = policy or ResetPolicy()
    for hour in range(hours + 1):
        at = NOW - timedelta(hours=hours - hour)
        look = judge("c1", "prod", tables(hour), store, policy, at)
        trails = trails_of(store.samples("c1", at - SAMPLES_KEPT))
        store.add_samples("c1", at, worth_a_sample(look, trails))
    forecasts = forecasts_of(look, trails)
    rows = backlog_rows(look, policy, forecasts)
    return backlog_metadata(look, policy, rows, forecasts), far_above(rows, policy, forecasts)


def growth(metadata):
    return {row.data["table"]: dict(row.data) for row in metadata["growth"].records}


def test_a_page_says_which_tables_cross_when_and_which_do_not(store):
    metadata, check = looked(
        store,
        lambda hour: [
            observed("fast", 60 + 50 * hour),
            observed("slow", 60 + 10 * hour),
            observed("flat", 400),
            observed("above", 400 + 40 * hour),
        ],
        hours=8,
    )
    assert metadata["above"] == "1 of 4: doc.above 128 % (for 3.0 h)"
    assert metadata["will cross"] == (
        "2 within 7 days: doc.fast in about 2 h, doc.slow in about 42 h; the others: 1 not growing"
    )
    assert list(growth(metadata)) == ["doc.above", "doc.fast", "doc.slow", "doc.flat"]
    assert growth(metadata)["doc.flat"]["crosses"] == "not growing"
    assert check["passed"]
    assert "`doc.fast` in about 2 h" in check["description"]


def test_each_partition_has_its_own_outlook(store):
    metadata, _ = looked(
        store,
        lambda hour: [
            observed("events", 100 + 40 * hour, partition="mon"),
            observed("events", 300, partition="tue"),
        ],
        hours=6,
    )
    assert {name: row["crosses"] for name, row in growth(metadata).items()} == {
        "doc.events (day='mon')": "in about 5.5 h",
        "doc.events (day='tue')": "not growing",
    }


def test_the_fall_after_a_reset_is_remembered_however_small_what_is_left(store):
    """Otherwise it would be above since before its reset."""
    metadata, _ = looked(
        store, lambda hour: [observed("m", [900, 1300, 3, 4, 200, 700][hour])], hours=5
    )
    assert metadata["above"] == "1 of 1: doc.m 124 % (since now)"
    assert len(store.samples("c1", NOW - timedelta(hours=9))) == 5  # 4 MiB is not worth a row


def test_one_that_is_set_aside_says_so_and_what_to_do(store):
    for _ in range(3):
        result = ResetResult(
            TableRef("doc", "m"), ResetState.FAILED, ResetOutcome.LEASES_TIMED_OUT, ended_at=NOW
        )
        store.record_outcome("c1", "run-0", result)
    metadata, check = looked(store, lambda _: [observed("m", 1300)], hours=0)
    for text in (metadata["left alone"], check["description"]):
        assert "set aside: 3 resets did not cure it" in text
        assert "caretaker tickets clear" in text


def test_a_thousand_tables_are_a_page_of_bounded_size(store):
    names = [f"table_{n:04}_" + "z" * 200 for n in range(1000)]
    metadata, check = looked(
        store, lambda hour: [observed(name, 500 + 200 * hour) for name in names], hours=4
    )
    assert stored(metadata) < MOST_BYTES
    assert stored(check["metadata"]) < MOST_BYTES
    assert len(check["description"]) < 2000
    assert metadata["tables above"] == 1000
    assert metadata["above"].endswith("and 997 more")
    assert metadata["growth"].records[-1].data["table"] == "... and 988 more"
    assert "more are in the asset's column `statements`" in (
        check["metadata"]["commands by hand"].value
    )


def test_a_run_of_a_thousand_tables_shows_the_worst_and_names_them_in_its_failure():
    results = [
        ResetResult(TableRef("doc", f"t{n}"), ResetState.COMPLETED, ResetOutcome.COMPLETED)
        for n in range(998)
    ]
    statement = """ALTER TABLE "doc"."lost" SET ("number_of_replicas" = '0-1')"""
    results += [
        ResetResult(TableRef("doc", "slow"), ResetState.FAILED, ResetOutcome.LEASES_TIMED_OUT),
        ResetResult(
            TableRef("doc", "lost"),
            ResetState.FAILED,
            ResetOutcome.NOT_RESTORED,
            reason=f"Failed to rollback doc.lost: no. Run: {statement}",
        ),
    ]
    metadata = outcomes_metadata([replace(one, cause="x" * 9000) for one in results])
    assert stored(metadata) < MOST_BYTES
    assert [row.data["table"] for row in metadata["tables"].records[:2]] == ["doc.lost", "doc.slow"]
    assert metadata["tables"].records[-1].data["table"] == "... and 950 more"
    told = why_it_failed(results).splitlines()
    assert told[1].endswith(statement)
    assert told[2].startswith("doc.slow: LEASES_TIMED_OUT")
    assert why_it_failed(results[:998]) == ""


@given(st.text(max_size=300))
def test_a_name_is_one_piece_of_code_whatever_is_in_it(name):
    text = code(name)
    ticks = re.match("`+", text)
    assert ticks is not None
    assert text.endswith(ticks[0])
    assert ticks[0] not in text[len(ticks[0]) : -len(ticks[0])]
    assert "\n" not in text


@given(st.lists(st.text(min_size=1, max_size=60), max_size=30), st.integers(0, 600), st.booleans())
def test_what_is_pasted_never_takes_more_room_than_there_is(statements, room, narrow):
    block, left = to_paste(statements, room, narrow=narrow)
    assert units(block) <= room
    assert left == len(statements) or block
