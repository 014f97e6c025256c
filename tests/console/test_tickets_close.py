"""`caretaker tickets close`: an operator's word, where the table does not contradict it."""

from __future__ import annotations

import pytest

from lab.faults import Fault
from tests.console.conftest import wait_for_line

SICK = 1840
CLOSE = ("tickets", "close", "1", "--reason", "said the test")


@pytest.fixture
def owed(caretaker, lab):
    """A table at 0 whose restore CrateDB refused, and its ticket 1."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    rule = lab.faults.add(
        Fault(match="^ALTER", after_matches=1, action="error", status=404, code=4041)
    )
    assert caretaker("translogs", "--autoexec", "--config", caretaker.config()).code == 4
    lab.faults.remove(rule.id)
    return table


def outcomes(caretaker):
    with caretaker.store as store:
        return [(row.outcome, row.reason, row.final_replicas) for row in store.outcomes()]


def drop(table):
    table.drop()
    return "CHANGED_UNDERNEATH", "dropped meanwhile; closed by an operator: said the test", None


def put_back(table):
    table.set_replicas("0-1")
    return "FAILED_RESTORED", "closed by an operator: said the test", "0-1"


@pytest.mark.parametrize("settle", [drop, put_back])
def test_a_ticket_with_nothing_left_to_do_is_closed_with_the_reason(caretaker, owed, settle):
    ended_as = settle(owed)

    ended = caretaker(*CLOSE)

    assert ended.code == 0
    assert "doc.metrics: ticket 1 is closed" in ended.out
    assert outcomes(caretaker) == [ended_as]
    shown = caretaker("tickets", "show", "1", "--output", "json").json
    assert shown["closed_at"]
    assert shown["statements"][-1]["sql"] == f"-- {ended_as[1]}"
    assert shown["statements"][-1]["result"] == "ok"
    assert caretaker("tickets").out.startswith("No open ticket")


@pytest.mark.parametrize("replicas", ["0", "2"])
def test_a_ticket_is_not_closed_over_a_table_with_other_replicas(caretaker, owed, replicas):
    owed.set_replicas(replicas)

    caretaker(*CLOSE).refused(f"has number_of_replicas '{replicas}'", "tickets restore 1", code=3)

    assert (outcomes(caretaker), owed.number_of_replicas) == ([], replicas)
    assert len(caretaker("tickets", "--output", "json").json["tickets"]) == 1


def test_a_dry_run_says_how_it_would_end_and_writes_nothing(caretaker, owed):
    owed.drop()

    ended = caretaker(*CLOSE, "--dry-run")
    document = caretaker(*CLOSE, "--dry-run", "--output", "json").json

    assert "would be closed: CHANGED_UNDERNEATH dropped meanwhile" in ended.out
    assert (document["id"], document["outcome"], document["dry_run"]) == (
        1,
        "CHANGED_UNDERNEATH",
        True,
    )
    assert outcomes(caretaker) == []
    shown = caretaker("tickets", "show", "1", "--output", "json").json
    assert shown["closed_at"] is None
    assert not any(sent["sql"].startswith("--") for sent in shown["statements"])


def test_a_ticket_whose_zero_may_still_land_is_not_closed(caretaker, owed):
    owed.set_replicas("0-1")
    with caretaker.store as store:
        (ticket,) = store.open_tickets()
        store.advance(ticket, zero_acknowledged=False)

    caretaker(*CLOSE).refused("may still land", "tickets restore 1", code=3)


def test_a_ticket_of_a_run_that_lives_is_not_closed(caretaker, lab):
    lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)
    process = caretaker.start("translogs", "--autoexec")
    wait_for_line(process, "MONITORING_LEASES (attempt 1")

    caretaker(*CLOSE).refused("which is alive", code=3)

    assert outcomes(caretaker) == []


@pytest.mark.usefixtures("owed")
def test_a_ticket_of_another_cluster_is_not_closed(caretaker, lab):
    lab.world.cluster_id = "another-cluster-altogether"

    caretaker(*CLOSE).refused("leads to another-cluster-altogether")

    assert outcomes(caretaker) == []


def test_what_is_not_open_cannot_be_closed(caretaker, owed):
    owed.drop()
    assert caretaker(*CLOSE).code == 0

    caretaker(*CLOSE).refused("ticket 1 is closed")
    caretaker("tickets", "close", "77", "--reason", "x").refused("there is no ticket 77")
    caretaker("tickets", "close", "77", "--reason", " ").refused("--reason")


def test_a_table_that_was_dropped_does_not_keep_the_next_one_from_its_reset(caretaker, lab, owed):
    lab.table("doc.next", sick_mb=SICK)
    owed.drop()
    caretaker("translogs", "--autoexec").refused("was not restored")

    assert caretaker(*CLOSE).code == 0

    assert caretaker("translogs", "--autoexec").code == 0
