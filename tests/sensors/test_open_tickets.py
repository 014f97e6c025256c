"""A dead run's promise is kept by another run, asked for once and not once a tick."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

import sensors.translog
from caretaker.translog.model import ResetState
from definitions.jobs import translog_restore
from resources.cratedb.resource import CrateDBResource
from resources.state_store.resource import StateStoreResource
from sensors import live_runs
from sensors.translog import translog_open_tickets, turn


@pytest.fixture
def later(monkeypatch):
    """Let the sensor believe that it is so many seconds later."""

    def move(seconds):
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        monkeypatch.setattr(sensors.translog, "utc_now", lambda: moment)

    return move


def keys(result):
    return [request.run_key for request in result.run_requests]


def test_no_ticket_is_no_work(tick):
    assert tick(translog_open_tickets).skip_reason.skip_message == "no ticket is open"


def test_a_dead_runs_ticket_is_requested_at_once_and_alone(tick, open_ticket, dead, alive):
    ticket = open_ticket(dead("run-1"))
    open_ticket(alive("run-2"), "other")

    (request,) = tick(translog_open_tickets).run_requests

    assert request.run_config == {"ticket_ids": [ticket.id]}
    assert request.tags["caretaker/tables"] == "doc.metrics"


def test_ticks_in_one_turn_ask_with_one_key(tick, open_ticket, dead, later):
    open_ticket(dead("run-1"))
    first = keys(tick(translog_open_tickets))
    later(25)
    assert keys(tick(translog_open_tickets)) == first


def test_a_restore_run_that_died_before_taking_over_is_asked_for_again(
    tick, open_ticket, dead, later
):
    open_ticket(dead("run-1"))
    seen = set()
    for seconds in (0, 31, 61, 121, 1801, 3601):
        later(seconds)
        seen.update(keys(tick(translog_open_tickets)))
    assert len(seen) == 6


def test_a_takeover_opens_a_new_key(tick, open_ticket, dead, store):
    ticket = open_ticket(dead("run-1"))
    before = keys(tick(translog_open_tickets))
    store.take_over(ticket, dead("run-2"))
    after = keys(tick(translog_open_tickets))
    assert before != after


def test_a_living_owners_ticket_is_left_to_it(tick, open_ticket, alive):
    open_ticket(alive("run-1"))

    result = tick(translog_open_tickets)

    assert result.run_requests == []
    assert result.skip_reason.skip_message == "1 open, of runs that live"


def test_a_failed_restore_waits_for_its_next_try(tick, open_ticket, dead, store, later):
    """Also where the run that gave up is dead: its process ended because it gave up."""
    ticket = store.advance(open_ticket(dead("run-1")), state=ResetState.FAILED)
    store.record_failure(ticket, "refused", datetime.now(UTC) + timedelta(seconds=120))

    early = tick(translog_open_tickets)
    later(121)
    due = tick(translog_open_tickets)

    assert early.run_requests == []
    assert "could not be restored; the next try is in 1" in early.skip_reason.skip_message
    assert keys(due) == [f"ticket-{ticket.id}-1-1-0"]


def test_a_ticket_that_is_just_being_closed_is_not_taken_away(tick, open_ticket, alive, store):
    """A run that ends badly writes FAILED a moment before it closes the ticket."""
    store.advance(open_ticket(alive("run-1")), state=ResetState.FAILED)
    assert tick(translog_open_tickets).run_requests == []


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_one_restore_run_at_a_time(tick, open_ticket, dead, run_of, status):
    open_ticket(dead("run-1"))
    run_id = run_of("translog_restore", status)

    result = tick(translog_open_tickets)

    assert result.run_requests == []
    assert run_id in result.skip_reason.skip_message


def test_a_restore_run_that_only_looks_alive_does_not_block_for_ever(
    tick, open_ticket, dead, run_of, monkeypatch
):
    """A killed code server leaves its runs STARTED: nothing in Dagster notices."""
    monkeypatch.setattr(live_runs, "BELIEVED_FOR", timedelta(0))
    open_ticket(dead(run_of("translog_restore", dg.DagsterRunStatus.STARTED)))

    assert len(tick(translog_open_tickets).run_requests) == 1


def test_a_restore_run_that_died_with_its_ticket_is_not_waited_for(tick, open_ticket, dead, run_of):
    """However young: meanwhile its table has no replicas."""
    open_ticket(dead(run_of("translog_restore", dg.DagsterRunStatus.STARTED)))

    assert len(tick(translog_open_tickets).run_requests) == 1


def test_an_old_restore_run_with_a_living_owner_blocks(
    tick, open_ticket, dead, alive, run_of, monkeypatch
):
    monkeypatch.setattr(live_runs, "BELIEVED_FOR", timedelta(0))
    run_id = run_of("translog_restore", dg.DagsterRunStatus.STARTED)
    open_ticket(dead("run-1"))
    open_ticket(alive(run_id), "other")

    assert run_id in tick(translog_open_tickets).skip_reason.skip_message


def test_a_store_that_cannot_be_opened_is_a_sentence(tick):
    result = tick(translog_open_tickets, state="mysql://u:secret@h/d")
    reason = result.skip_reason.skip_message
    assert "CARETAKER_STATE_URL" in reason
    assert "secret" not in reason


STARTED = dg.DagsterRunStatus.STARTED


def shown(instance, run_id):
    """What Dagster calls a run."""
    return instance.get_run_by_id(run_id).status


def test_a_dead_run_that_dagster_shows_at_work_is_called_off(
    tick, open_ticket, dead, run_of, instance
):
    """Or the next run of its job would wait in the queue for ever; its table is asked for, too."""
    ghost = run_of("translog_reset", STARTED)
    open_ticket(dead(ghost))

    result = tick(translog_open_tickets)

    assert shown(instance, ghost) is dg.DagsterRunStatus.FAILURE
    assert len(result.run_requests) == 1
    events = instance.all_logs(ghost)
    assert any("nobody is at work on it any more" in event.message for event in events)


def test_a_dead_run_that_has_only_the_lock_is_called_off_and_the_tick_says_so(
    tick, store, dead, run_of, instance
):
    """It died before its first ticket."""
    ghost = run_of("translog_reset", STARTED)
    store.acquire_lock("c1", dead(ghost), purpose="translog_reset", is_dead=lambda *_: False)

    result = tick(translog_open_tickets)

    assert shown(instance, ghost) is dg.DagsterRunStatus.FAILURE
    said = result.skip_reason.skip_message
    assert f"called off, because nobody is at work on it any more: run {ghost}" in said
    assert tick(translog_open_tickets).skip_reason.skip_message == "no ticket is open"


def test_a_dead_run_that_an_operator_had_terminated_ends_as_canceled(
    tick, store, dead, run_of, instance
):
    """Nobody was there to obey; of its work only what must be is finished by others."""
    ghost = run_of("rolling_restart", dg.DagsterRunStatus.CANCELING)
    store.acquire_lock("c1", dead(ghost), purpose="rolling_restart", is_dead=lambda *_: False)

    tick(translog_open_tickets)

    assert shown(instance, ghost) is dg.DagsterRunStatus.CANCELED


def test_a_restore_does_not_wait_for_a_dead_run_of_its_own_job(tick, open_ticket, dead, run_of):
    open_ticket(dead(run_of("translog_restore", STARTED)))
    assert len(tick(translog_open_tickets).run_requests) == 1


def test_a_run_of_which_anything_lives_is_not_called_off(
    tick, store, open_ticket, dead, alive, run_of, instance
):
    """One of its steps was killed; the run works on other tables."""
    run_id = run_of("translog_reset", STARTED)
    open_ticket(dead(run_id))
    store.acquire_lock("c1", alive(run_id), purpose="translog_reset", is_dead=lambda *_: False)

    tick(translog_open_tickets)

    assert shown(instance, run_id) is STARTED


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED])
def test_a_run_that_has_ended_stays_what_it_is(tick, open_ticket, dead, run_of, instance, status):
    run_id = run_of("translog_reset", status)
    open_ticket(dead(run_id))

    tick(translog_open_tickets)

    assert shown(instance, run_id) is status


@pytest.fixture
def restore(lab, state_url):
    """Run the real job at the lab, with the request's own config, as who sees no other schema."""
    lab.create_user("caretaker", None, "DQL ON SCHEMA sys", "DDL ON SCHEMA doc")

    def run(request):
        job = dg.Definitions(
            jobs=[translog_restore],
            resources={
                "cratedb": CrateDBResource(hosts=lab.connection_string, username="caretaker"),
                "state": StateStoreResource(url=state_url),
            },
        ).resolve_job_def("translog_restore")
        return job.execute_in_process(run_config=request.run_config, raise_on_error=False)

    return run


def test_the_request_restores_the_table(lab, tick, open_ticket, dead, store, restore):
    table = lab.table("doc.metrics", replicas="0-1")
    lab.sql('ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = 0)')
    ticket = open_ticket(dead("run-1"), cluster_id=lab.world.cluster_id)
    (request,) = tick(translog_open_tickets).run_requests

    assert restore(request).success

    assert table.number_of_replicas == "0-1"
    assert store.ticket_row(ticket.id).closed_at is not None
    assert tick(translog_open_tickets).skip_reason.skip_message == "no ticket is open"


def test_pauses_double_while_a_table_cannot_be_restored(
    lab, tick, open_ticket, dead, store, restore, later
):
    """The table is gone, or hidden by a lost privilege: only a person can tell."""
    ticket = open_ticket(dead("run-1"), "gone", cluster_id=lab.world.cluster_id)
    pauses = []
    for _ in range(3):
        (request,) = tick(translog_open_tickets).run_requests
        assert not restore(request).success
        left = store.ticket(ticket.id)
        pauses.append((left.next_try_at - datetime.now(UTC)).total_seconds())
        assert tick(translog_open_tickets).run_requests == []
        later(pauses[-1] + 1)

    assert pauses == pytest.approx([30, 60, 120], abs=5)


def test_turns_double_and_then_come_every_half_hour():
    seconds = (0, 29, 30, 60, 119, 1799, 1800, 3600)
    assert [turn(s) for s in seconds] == [0, 0, 1, 2, 2, 6, 7, 8]


def test_no_second_gives_an_earlier_turn():
    turns = [turn(s / 2) for s in range(20_000)]
    assert turns == sorted(turns)


def test_on_another_host_a_silent_heartbeat_decides(tick, open_ticket, dead, monkeypatch):
    """Its pid means nothing here; its run is over as far as this Dagster knows."""
    open_ticket(replace(dead("run-1"), host="elsewhere"))
    assert tick(translog_open_tickets).run_requests == []

    monkeypatch.setattr("ops.owners.utc_now", lambda: datetime.now(UTC) + timedelta(seconds=31))
    assert len(tick(translog_open_tickets).run_requests) == 1
