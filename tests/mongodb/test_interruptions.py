"""Exactly once, wherever a run is cut off: at each command, before it and after it."""

from __future__ import annotations

import zlib

import pytest

from caretaker.errors import RefusedError, TransientError
from lab.faults import Action, Fault
from resources.mongodb.settings import Protocol
from tests.mongodb.batches import batch, batches, checkpoint
from tests.mongodb.place import OTHER, RUN, SOURCE, Place

ROWS = 24
#: More than any protocol sends for three batches.
MORE_THAN_ENOUGH = 80


def cut_off(lab, *, at, when):
    """Let `at` commands pass; what comes then is cut off, and everything after it."""
    first = lab.faults.add(Fault(action=when, after_matches=at, times=1))
    lab.faults.add(Fault(action=Action.RESET_BEFORE, after_matches=at))
    return first


def begin(place, protocol):
    """Write three batches, until the run dies."""
    place.cancel.set()  # a dead run does not try again
    try:
        with place.trail(protocol) as trail:
            held = trail.acquire(SOURCE, RUN)
            trail.recover(held)
            for each in batches(3, rows=8):
                trail.commit(held, each)
            trail.clean_up(held)
    except TransientError:
        return False
    finally:
        place.cancel.clear()
    return True


def go_on(place, protocol):
    """Write the rest from where the trail is, cut otherwise than the dead run did."""
    with place.trail(protocol) as trail:
        held = trail.acquire(SOURCE, OTHER)
        trail.recover(held)
        while held.seq < ROWS:
            trail.commit(held, batch(held.seq + 1, min(held.seq + 5, ROWS)))
        trail.clean_up(held)


@pytest.mark.parametrize("when", [Action.RESET_BEFORE, Action.RESET_AFTER])
@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.DIRECT, Protocol.IDEMPOTENT])
def test_every_row_is_there_once_wherever_it_was_cut_off(lab, protocol, when):
    cuts = 0
    for at in range(MORE_THAN_ENOUGH):
        place = Place(lab.url, f"audit_{at}")
        rule = cut_off(lab, at=at, when=when)
        finished = begin(place, protocol)
        lab.faults.clear()
        go_on(place, protocol)
        where = f"cut off at command {at}"
        assert place.seqs() == list(range(1, ROWS + 1)), where
        assert place.offset()["seq"] == ROWS, where
        archived = place.staged()
        assert all(status == "archived" for _, status in archived), where
        assert len(place.staged_documents()) == len(archived), where
        place.close()
        if rule.fired == 0 and finished:
            break
        cuts += 1
    assert cuts > 10, "the run was cut off at none of its commits"


@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.DIRECT])
@pytest.mark.parametrize("when", [Action.RESET_BEFORE, Action.RESET_AFTER])
def test_a_commit_of_unknown_result_is_looked_up(lab, place, protocol, when):
    """Whether it landed or not; the driver's own second try fails, too."""
    with place.trail(protocol) as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.commit(held, batch(1, 5))
        lab.faults.add(Fault("^commitTransaction", action=when, times=2))
        trail.commit(held, batch(6, 10))
        trail.commit(held, batch(11, 15))
    assert place.told("unknown_result")
    assert place.seqs() == list(range(1, 16))
    assert place.offset()["n"] == 3


def test_an_unknown_result_is_nobodys_when_another_took_over(lab, place):
    with place.trail(Protocol.DIRECT) as trail, place.trail(Protocol.DIRECT) as second:
        held = trail.acquire(SOURCE, RUN)
        lab.faults.add(
            Fault(
                "^commitTransaction",
                action=Action.RESET_BEFORE,
                times=2,
                before=lambda _: second.acquire(SOURCE, OTHER),
            )
        )
        with pytest.raises(Exception, match="acquired by run-2") as stopped:
            trail.commit(held, batch(1, 5))
    assert type(stopped.value).__name__ == "FencedError"
    assert place.seqs() == []


def test_a_step_down_in_mid_transaction_costs_a_try(lab, place):
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.commit(held, batch(1, 5))
        told = trail.retries.on_event

        def elected(name, fields):
            told(name, fields)
            if name == "mongodb_retry":
                lab.elect()

        trail.retries.on_event = elected
        lab.faults.add(Fault("^insert .*row_changes in", times=1, before=lambda _: lab.step_down()))
        trail.commit(held, batch(6, 10))
    assert place.told("mongodb_retry")
    assert place.seqs() == list(range(1, 11))


@pytest.mark.parametrize("code", [64, 91, 189, 10107, 11600, 11602, 13435, 13436, 112])
def test_what_passes_by_itself_is_tried_again(lab, place, code):
    with place.trail(Protocol.DIRECT) as trail:
        held = trail.acquire(SOURCE, RUN)
        lab.faults.add(
            Fault("^insert .*row_changes", action=Action.ERROR, code=code, message="x", times=1)
        )
        trail.commit(held, batch(1, 5))
        assert trail.counts.failed == 1
    assert place.seqs() == [1, 2, 3, 4, 5]


def test_what_does_not_pass_fails_at_once(lab, place):
    with place.trail(Protocol.DIRECT) as trail:
        held = trail.acquire(SOURCE, RUN)
        lab.faults.add(
            Fault("^insert .*row_changes", action=Action.ERROR, code=14031, message="no space")
        )
        with pytest.raises(RefusedError, match="no space") as refused:
            trail.commit(held, batch(1, 5))
        assert trail.counts.attempts == 1
        assert "free space" in refused.value.hint
    assert place.seqs() == []


def test_five_tries_and_no_more(lab, place):
    with place.trail(Protocol.DIRECT) as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.retries.cancel.wait = lambda _: False  # nobody waits in a test
        rule = Fault("^insert .*row_changes", action=Action.ERROR, code=91, message="going down")
        lab.faults.add(rule)
        with pytest.raises(TransientError, match="tried 5 times"):
            trail.commit(held, batch(1, 5))
        pauses = [told["pause_s"] for told in place.told("mongodb_retry")]
        lab.faults.clear()
        trail.commit(held, batch(1, 5))
    assert rule.fired == 5
    assert [
        low <= pause <= 2 * low for low, pause in zip((0.05, 0.1, 0.2, 0.4), pauses, strict=True)
    ]
    assert place.seqs() == [1, 2, 3, 4, 5]


# --- what a dead run staged -----------------------------------------------------------------------


def leave_staged(place, lab, count, *, config_hash="config-1"):
    """Let a run die with `count` batches staged and not committed, behind one that is."""
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        held.config_hash = config_hash
        first, *others = batches(count + 1)
        trail.commit(held, first)
        trail.clean_up(held)
        follows = first.crc
        for n, each in enumerate(others, start=2):
            trail.stage(held, each, ahead(n, follows), held.marks)
            follows = each.crc
    lab.faults.clear()


def ahead(n, follows):
    from resources.mongodb.staging import Ahead  # noqa: PLC0415 - a name for two numbers

    return Ahead(n, follows)


def recovered(place, *, config_hash="config-1"):
    with place.trail() as trail:
        held = trail.acquire(SOURCE, OTHER)
        held.config_hash = config_hash
        found = trail.recover(held)
        return (found.promoted, found.archived), held.checkpoint


def test_staged_batches_of_a_dead_run_are_promoted_in_order(lab, place):
    leave_staged(place, lab, 3)
    assert recovered(place) == ((3, 0), checkpoint(40))
    assert place.seqs() == list(range(1, 41))
    assert place.staged() == []
    assert place.told("recovering") == [{"source": SOURCE, "count": 3}]


def test_a_damaged_batch_is_put_aside_with_what_follows_it(lab, place):
    leave_staged(place, lab, 3)
    (third,) = [key for key in place.staged_documents() if key.endswith(":3")]
    found = place.db.row_changes_staging.find_one({"batch": third})
    damaged = zlib.decompress(found["documents"]).replace(b"shop", b"shoq", 1)
    place.db.row_changes_staging.update_one(
        {"batch": third}, {"$set": {"documents": zlib.compress(damaged)}}
    )
    assert recovered(place) == ((1, 2), checkpoint(20))
    assert place.seqs() == list(range(1, 21))
    assert place.staged() == [(3, "archived"), (4, "archived")]
    assert [told["reason"].endswith("crc is wrong") for told in place.told("archived")] == [
        True,
        False,
    ]


def test_batches_of_another_configuration_are_put_aside(lab, place):
    leave_staged(place, lab, 2)
    assert recovered(place, config_hash="config-2") == ((0, 2), checkpoint(10))
    assert place.seqs() == list(range(1, 11))


def test_a_batch_that_follows_other_documents_is_put_aside(lab, place):
    """As after an operator's gap: its number fits and its seq, and yet a document is missing."""
    leave_staged(place, lab, 2)
    with place.trail() as trail:
        held = trail.acquire(SOURCE, OTHER)
        trail.commit(held, batch(11, 20, text="a gap's"))
    assert recovered(place) == ((0, 2), checkpoint(20))
    assert place.seqs() == list(range(1, 21))


def test_only_what_was_put_aside_goes_after_a_week(lab, place):
    import datetime as dt  # noqa: PLC0415

    leave_staged(place, lab, 2)
    place.db.row_changes_staging.update_one({"n": 2}, {"$set": {"config_hash": "config-0"}})
    assert recovered(place)[0] == (0, 2)
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        trail.stage(held, batch(11, 20), ahead(2, held.crc), held.marks)
    in_a_year = dt.datetime.now(dt.UTC) + dt.timedelta(days=365)
    assert lab.expire(at=in_a_year) == 4  # two heads and their documents
    assert place.staged() == [(2, "pending")]
    assert len(place.staged_documents()) == 1
