"""MongoDB goes away and comes back: nothing is lost, doubled or out of order, spooled or not."""

from __future__ import annotations

import sqlite3
import threading
import time

import pytest

from caretaker.errors import FencedError, RefusedError, TransientError
from lab.faults import Action, Fault
from resources.clock import Clock
from resources.mongodb.breaker import Breaker, BreakerState
from resources.mongodb.offsets import Marks
from resources.mongodb.retries import CancelledError
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.sink import Sink
from resources.mongodb.spool import Spool
from tests.mongodb.batches import batch, batches, checkpoint
from tests.mongodb.place import OTHER, RUN, SOURCE

MB = 1_000_000
MARKS = Marks("uuid-1", "config-1")


@pytest.fixture(autouse=True)
def _patience(place, monkeypatch):
    """Who looks for a server that is away gives up soon."""
    place.settings = MongoDBSettings(
        place.url, "audit", server_selection_timeout_s=0.2, socket_timeout_s=5.0
    )
    monkeypatch.setattr("resources.mongodb.retries.FIRST_PAUSE_S", 0.001)
    opened = place.trail

    def found_at_last(*given, **named):
        """On a busy machine one that is there may not be found so soon, either."""
        deadline = time.monotonic() + 60.0
        while True:
            try:
                return opened(*given, **named)
            except TransientError:
                assert time.monotonic() < deadline, "it is not found"

    monkeypatch.setattr(place, "trail", found_at_last)


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "orders.spool", SOURCE, max_bytes=MB) as found:
        yield found


def in_order(place):
    """Return the seqs in the order in which their commits were made."""
    return [each["seq"] for each in place.db.row_changes.find({}, {"seq": 1})]


def write(sink, given):
    for each in given:
        sink.write(each)


def drain(sink):
    """Do what an idle run does until nothing is spooled."""
    deadline = time.monotonic() + 60.0
    while sink.spooled_batches:
        assert time.monotonic() < deadline, f"{sink.spooled_batches} are still spooled"
        sink.tend()
        time.sleep(0.01)
    sink.flush()


# --- without a spool ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.DIRECT])
def test_what_was_accepted_and_not_committed_is_waiting(lab, place, protocol):
    """A write returns while its commit is under way: nobody may call the trail whole by then."""
    with place.trail(protocol) as trail, Sink(trail, trail.acquire(SOURCE, RUN)) as sink:
        slow = Fault("^commitTransaction", action=Action.LATENCY, seconds=0.5, times=1)
        lab.faults.add(slow)
        given = batch(1, 5)
        sink.write(given)
        assert sink.waiting == (5, given.bytes)
        sink.flush()
        assert sink.waiting == (0, 0)
    assert in_order(place) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.DIRECT])
def test_reading_stops_while_mongodb_is_away_and_goes_on_after(lab, place, protocol):
    with place.trail(protocol) as trail:
        held = trail.acquire(SOURCE, RUN)
        told = trail.retries.on_event

        def back(name, fields):
            told(name, fields)
            if name == "waiting":
                lab.start()

        trail.retries.on_event = back
        with Sink(trail, held) as sink:
            sink._tell = back
            first, *others = batches(5)
            sink.write(first)
            sink.flush()
            lab.stop()
            for each in others:
                sink.write(each)
            sink.flush()
            assert sink.breaker.state is BreakerState.CLOSED
            assert sink.checkpoint == checkpoint(50)
    assert place.told("breaker_open")
    assert place.told("breaker_closed")
    assert in_order(place) == list(range(1, 51))


def test_one_that_is_told_to_stop_does_not_wait_for_mongodb(lab, place):
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        with Sink(trail, held) as sink:
            sink.write(batch(1, 10))
            sink.flush()
            lab.stop()
            threading.Timer(0.5, place.cancel.set).start()
            with pytest.raises(CancelledError):
                write(sink, batches(3, after=10))
    lab.start()
    assert place.seqs() == list(range(1, 11))


def test_a_fenced_run_stops_at_its_next_batch(place):
    with place.trail() as trail, place.trail() as second:
        held = trail.acquire(SOURCE, RUN)
        with Sink(trail, held) as sink:
            sink.write(batch(1, 10))
            sink.flush()
            second.acquire(SOURCE, OTHER)
            with pytest.raises(FencedError):
                write(sink, batches(3, after=10))
    assert place.seqs() == list(range(1, 11))


# --- with one -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.DIRECT, Protocol.IDEMPOTENT])
def test_what_was_spooled_is_replayed_in_order(lab, place, spool, protocol):
    with place.trail(protocol) as trail:
        held = trail.acquire(SOURCE, RUN)
        with Sink(trail, held, spool) as sink:
            first, *others = batches(30)
            sink.write(first)
            lab.stop()
            for each in others[:15]:
                sink.write(each)
            sink.flush()
            assert sink.spooled_batches >= 14
            assert sink.resume_from == checkpoint(160)
            lab.start()
            for each in others[15:]:
                sink.write(each)
            drain(sink)
        assert held.checkpoint == checkpoint(300)
    assert in_order(place) == list(range(1, 301))
    assert place.staged() == []


def test_the_spool_of_a_dead_run_is_replayed_by_the_next(lab, place, tmp_path):
    path = tmp_path / "orders.spool"
    with Spool(path, SOURCE, max_bytes=MB) as spool, place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        with Sink(trail, held, spool) as sink:
            sink.write(batch(1, 10))
            sink.flush()
            lab.stop()
            for each in batches(5, after=10):
                sink.write(each)
            sink.flush()
    lab.start()
    with Spool(path, SOURCE, max_bytes=MB) as spool, place.trail() as trail:
        held = trail.acquire(SOURCE, OTHER)
        trail.recover(held)
        with Sink(trail, held, spool) as sink:
            assert sink.resume_from == checkpoint(60)
            sink.write(batch(61, 70))
            drain(sink)
    assert in_order(place) == list(range(1, 71))


def test_a_full_spool_stops_the_reading_and_drops_nothing(lab, place, tmp_path):
    full = []
    with Spool(tmp_path / "s", SOURCE, max_bytes=2_500) as spool, place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        told = trail.retries.on_event

        def back(name, fields):
            told(name, fields)
            if name == "spool_full":
                full.append((spool.batches, spool.bytes))
                lab.start()

        with Sink(trail, held, spool) as sink:
            sink._tell = back
            lab.stop()
            for each in batches(8):
                sink.write(each)
            drain(sink)
    assert full
    assert full[0][0] < 8
    assert in_order(place) == list(range(1, 81))


def test_a_full_disk_is_told_and_loses_nothing(lab, place, spool):
    """The trail and what was spooled before stay; the binlog has the rest."""
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        with Sink(trail, held, spool) as sink:
            lab.stop()
            sink.write(batch(1, 10))
            sink.flush()
            pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
            spool._db.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(RefusedError, match="the disk is full") as refused:
                write(sink, batches(50, after=10, rows=50))
            assert "nothing is lost" in refused.value.hint
            spooled = spool.last()[0].seq
    lab.start()
    spool._db.execute("PRAGMA max_page_count = 1000000")
    with place.trail() as trail:
        held = trail.acquire(SOURCE, OTHER)
        trail.recover(held)
        with Sink(trail, held, spool) as sink:
            assert sink.resume_from == checkpoint(spooled)
            sink.write(batch(spooled + 1, spooled + 10))
            drain(sink)
    assert place.seqs() == list(range(1, spooled + 11))


def test_a_spool_that_another_run_has_passed_is_not_replayed_into_the_trail(place, spool):
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        spool.append(batch(1, 10), MARKS, 0)
        spool.append(batch(11, 20), MARKS, batch(1, 10).crc)
        trail.commit(held, batch(1, 15))
        with pytest.raises(RefusedError, match="does not follow the trail") as refused:
            Sink(trail, held, spool)
        assert "move the file away" in refused.value.hint
        trail.commit(held, batch(16, 20))
        with Sink(trail, held, spool) as sink:
            assert sink.spooled_batches == 0
            assert sink.resume_from == checkpoint(20)


def test_a_spool_is_one_sources_and_one_processs(tmp_path):
    path = tmp_path / "orders.spool"
    with (
        Spool(path, SOURCE, max_bytes=MB),
        pytest.raises(RefusedError, match="another process"),
    ):
        Spool(path, SOURCE, max_bytes=MB)
    with pytest.raises(RefusedError, match="belongs to orders"):
        Spool(path, "invoices", max_bytes=MB)


def test_a_damaged_spool_is_told(tmp_path):
    path = tmp_path / "orders.spool"
    with Spool(path, SOURCE, max_bytes=MB) as spool:
        spool.append(batch(1, 10), MARKS, 0)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE spool SET crc = crc + 1")
    db.close()
    with (
        Spool(path, SOURCE, max_bytes=MB) as spool,
        pytest.raises(Exception, match="its crc is wrong"),
    ):
        spool.first()


def test_what_is_spooled_is_marked_by_what_it_was_read_with(lab, place, spool):
    """A configuration that changes meanwhile is not the spooled batches'."""
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        held.config_hash = "config-1"
        with Sink(trail, held, spool) as sink:
            lab.stop()
            sink.write(batch(1, 10))
            held.config_hash = "config-2"
            sink.write(batch(11, 20))
            sink.flush()
            assert spool.first().marks.config_hash == "config-1"
            lab.start()
            drain(sink)
    assert place.offset()["config_hash"] == "config-2"


# --- the breaker ----------------------------------------------------------------------------------


def test_probes_come_ever_later_up_to_ten_seconds():
    now = [0.0]
    breaker = Breaker(Clock(monotonic=lambda: now[0]), jitter=lambda: 1.0)
    waits = []
    for _ in range(10):
        breaker.failed()
        assert not breaker.probe()
        waits.append(breaker.wait_s())
        now[0] += waits[-1]
        assert breaker.probe()
        assert breaker.state is BreakerState.HALF_OPEN
    assert waits[0] == pytest.approx(0.1)
    assert waits[-1] == pytest.approx(10.0)
    assert breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_a_slow_mongodb_is_not_one_that_is_away(lab, place):
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        lab.faults.add(Fault("^insert .*row_changes", action=Action.LATENCY, seconds=0.3))
        with Sink(trail, held) as sink:
            for each in batches(3):
                sink.write(each)
            sink.flush()
    assert not place.told("breaker_open")
    assert place.seqs() == list(range(1, 31))


def test_a_paused_mongodb_is_one_that_is_away(lab, place, spool):
    """It takes connections and says nothing."""
    place.settings = MongoDBSettings(
        place.url, "audit", server_selection_timeout_s=0.2, socket_timeout_s=0.5
    )
    with place.trail() as trail:
        held = trail.acquire(SOURCE, RUN)
        with Sink(trail, held, spool) as sink:
            sink.write(batch(1, 10))
            sink.flush()
            lab.pause()
            for each in batches(3, after=10):
                sink.write(each)
            sink.flush()
            assert place.told("breaker_open")
            lab.go_on()
            drain(sink)
    assert place.seqs() == list(range(1, 41))
