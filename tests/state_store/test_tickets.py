"""Tickets: what was promised is there after a crash, and only its owner can change it."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from caretaker.errors import FencedError, RefusedError, UnsafeError
from caretaker.translog.model import PartitionRef, ResetState, ResetTicket, TableRef
from resources.state_store import OutcomeRow, StateStore


def outcome_of(ticket, clock):
    return OutcomeRow.of_ticket(
        ticket, outcome="COMPLETED", ended_at=clock(), final_replicas=ticket.original_replicas
    )


def test_every_field_of_a_ticket_comes_back_from_another_connection(store, url, clock, new_ticket):
    """A field that the model gains must gain a column: nothing may be at its default here."""
    filled = replace(
        new_ticket(PartitionRef(TableRef("doc", "metrics"), "04732", (("ts", 1), ("k", None)))),
        epoch=3,
        state=ResetState.MONITORING_LEASES,
        cause="seq_no_gap",
        worst_bytes=2**40,
        zero_sent=True,
        zero_acknowledged=True,
        zero_confirmed=True,
        leases_verdict="clear",
        reason="why",
        zeroed_at=clock.pass_(1),
        restored_at=clock.pass_(1),
        attempts=2,
        next_try_at=clock.pass_(1),
        lease_wait_s=0.1,
        heartbeat_at=clock.now,
    )
    for field in fields(ResetTicket):
        if field.name != "id":
            assert getattr(filled, field.name) != field.default, f"fill in {field.name}"

    stored = store.open_ticket(filled)

    assert stored == replace(filled, id=stored.id)
    with StateStore.open(url) as other:
        assert other.ticket(stored.id) == stored


def test_a_table_with_an_open_ticket_is_refused_and_its_holder_named(store, new_ticket):
    first = store.open_ticket(new_ticket(run_id="run-1"))
    with pytest.raises(UnsafeError) as refused:
        store.open_ticket(new_ticket(run_id="run-2"))
    for word in ("doc.metrics", f"ticket {first.id}", "run-1", "host-a", "4711", "DETECTED"):
        assert word in str(refused.value)
    assert [ticket.owner.run_id for ticket in store.open_tickets()] == ["run-1"]


def test_another_partition_cluster_or_table_has_a_ticket_of_its_own(store, new_ticket):
    table = TableRef("doc", "metrics")
    store.open_ticket(new_ticket(table))
    store.open_ticket(new_ticket(PartitionRef(table, "p1", (("ts", 1),))))
    store.open_ticket(new_ticket(PartitionRef(table, "p2", (("ts", 2),))))
    store.open_ticket(new_ticket(table, cluster_id="c2"))
    store.open_ticket(new_ticket("other"))
    assert len(store.open_tickets("c1")) == 4
    assert len(store.open_tickets()) == 5


def test_a_closed_ticket_lets_the_next_one_in(store, clock, new_ticket):
    first = store.open_ticket(new_ticket())
    store.close_ticket(first, outcome_of(first, clock))
    assert store.open_ticket(new_ticket(run_id="run-2")).id != first.id


def test_an_advance_is_kept_and_beats(store, clock, new_ticket):
    ticket = store.open_ticket(new_ticket())
    at = clock.pass_(5)
    changed = store.advance(ticket, state=ResetState.VERIFYING, zero_sent=True, restored_at=at)
    assert changed == replace(
        ticket, state=ResetState.VERIFYING, zero_sent=True, restored_at=at, heartbeat_at=at
    )
    assert store.ticket(ticket.id) == changed


def test_what_was_promised_cannot_be_changed(store, new_ticket):
    ticket = store.open_ticket(new_ticket())
    with pytest.raises(TypeError, match="original_replicas"):
        store.advance(ticket, original_replicas="0")
    assert store.ticket(ticket.id).original_replicas == "0-1"


@pytest.mark.parametrize("how", ["taken over", "closed"])
def test_a_fenced_owner_cannot_write(store, clock, new_ticket, owner, how):
    ours = store.open_ticket(new_ticket())
    if how == "closed":
        store.close_ticket(ours, outcome_of(ours, clock))
    else:
        theirs = store.take_over(ours, owner("run-2"))
        assert (theirs.epoch, theirs.owner.run_id) == (2, "run-2")
    before = store.ticket_row(ours.id), store.outcomes()
    clock.pass_(5)

    for attempt in (
        lambda: store.check_epoch(ours),
        lambda: store.advance(ours, zero_sent=True),
        lambda: store.take_over(ours, owner("run-3")),
        lambda: store.record_failure(ours, "no", None),
        lambda: store.close_ticket(ours, outcome_of(ours, clock)),
        lambda: store.begin_statement(ours, "ALTER TABLE ..."),
    ):
        with pytest.raises(FencedError, match=r"ticket \d+ of doc.metrics"):
            attempt()
    store.beat("run-1")

    assert (store.ticket_row(ours.id), store.outcomes()) == before
    assert store.statements(ours.id) == []


def test_a_fenced_owner_reads_who_has_it_now(store, new_ticket, owner):
    ours = store.open_ticket(new_ticket())
    store.take_over(ours, owner("run-2"))
    with pytest.raises(FencedError, match=r"taken over by run run-2 on host host-a .*epoch 2"):
        store.check_epoch(ours)


def test_the_owner_passes_its_own_check(store, new_ticket, owner):
    ticket = store.open_ticket(new_ticket())
    store.check_epoch(ticket)
    store.check_epoch(store.take_over(ticket, owner("run-2")))


def test_a_beat_reaches_all_that_a_run_holds_and_nothing_else(store, clock, new_ticket, owner):
    mine = [store.open_ticket(new_ticket(name)) for name in ("a", "b")]
    given_back = store.open_ticket(new_ticket("d"))
    other = store.open_ticket(new_ticket("c", run_id="run-2"))
    store.acquire_lock("c1", owner("run-1"), purpose="reset", is_dead=lambda *_: False)
    at = clock.pass_(5)
    held = [ticket.id for ticket in (*mine, other)]
    assert store.beat("run-1", held) == 3
    assert [store.ticket(ticket.id).heartbeat_at for ticket in mine] == [at, at]
    assert store.lock("c1").heartbeat_at == at
    for silent in (other, given_back):
        assert store.ticket(silent.id).heartbeat_at == silent.heartbeat_at


def test_a_failed_restore_keeps_the_ticket_and_backs_off(store, clock, new_ticket):
    ticket = store.open_ticket(new_ticket())
    later = clock() + timedelta(seconds=60)
    failed = store.record_failure(ticket, "refused\x00\udc80", later)
    failed = store.record_failure(failed, "refused again", later)
    row = store.ticket_row(ticket.id)
    assert (failed.attempts, failed.next_try_at) == (2, later)
    assert (row.last_error, row.closed_at) == ("refused again", None)
    assert store.open_tickets() == [failed]
    assert store.open_tickets(due_at=clock()) == []
    assert store.open_tickets(due_at=later) == [failed]


def test_closing_records_the_outcome_with_it(store, clock, new_ticket):
    ticket = store.open_ticket(new_ticket(), cluster_name="prod")
    at = clock.pass_(30)
    stored = store.close_ticket(ticket, outcome_of(ticket, clock))
    row = store.ticket_row(ticket.id)
    assert (row.closed_at, row.cluster_name) == (at, "prod")
    assert store.outcomes() == [stored]
    assert (stored.ticket_id, stored.duration_s) == (ticket.id, 30.0)
    assert store.open_tickets() == []


def test_an_outcome_that_cannot_be_kept_leaves_the_ticket_open(store, clock, new_ticket):
    """Both or neither: a closed ticket without its outcome would be a reset nobody sees."""
    ticket = store.open_ticket(new_ticket())
    with pytest.raises(RefusedError):
        store.close_ticket(ticket, replace(outcome_of(ticket, clock), final_replicas="\x00"))
    assert store.open_tickets() == [ticket]


def test_the_list_shows_the_newest_first_and_closed_ones_on_request(store, clock, new_ticket):
    old, new = (store.open_ticket(new_ticket(name)) for name in ("a", "b"))
    store.close_ticket(old, outcome_of(old, clock))
    assert [row.ticket.id for row in store.tickets()] == [new.id]
    assert [row.ticket.id for row in store.tickets(include_closed=True)] == [new.id, old.id]
    assert [row.ticket.id for row in store.tickets(1, include_closed=True)] == [new.id]


def test_a_number_that_is_no_ticket_is_refused(store):
    with pytest.raises(RefusedError, match="there is no ticket 99"):
        store.ticket(99)
