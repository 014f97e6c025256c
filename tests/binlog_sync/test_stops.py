"""A stop arrives at the sync although a library takes it for an error of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import dagster as dg
import pytest

from ops.binlog_observing import Observer
from ops.stops import heard_stops
from tests.binlog_sync.bench import PATIENCE_S

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals need the main thread"
)


@pytest.fixture
def stops_raise():
    """As Dagster has it while a step runs."""

    def stop(*_):
        raise dg.DagsterExecutionInterruptedError

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def swallowed(number):
    """Get a signal where somebody has an `except:`."""
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), number)
        time.sleep(1)


@pytest.mark.usefixtures("stops_raise")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_was_swallowed_is_raised_again(number):
    with heard_stops() as stop_again:
        stop_again()
        swallowed(number)
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            stop_again()


@pytest.mark.usefixtures("stops_raise")
def test_one_that_a_shell_had_ignored_stays_ignored():
    """`caretaker ... &` in a script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heard_stops() as stop_again:
        os.kill(os.getpid(), signal.SIGINT)
        stop_again()


def test_a_sync_that_is_told_to_stop_while_its_picture_is_drawn_ends_and_wrote_all(
    caretaker, bench, monkeypatch
):
    bench.setup()
    bench.sql(f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY)")
    bench.sql(f"INSERT INTO {bench.name}.t VALUES (1), (2)")
    drawn: list[int] = []
    draw = Observer.look_around

    def told_to_stop(self):
        draw(self)
        if not drawn and len(bench.rows("t")) == 2:
            drawn.append(1)
            swallowed(signal.SIGINT)

    monkeypatch.setattr(Observer, "look_around", told_to_stop)
    late = threading.Timer(PATIENCE_S, os.kill, (os.getpid(), signal.SIGINT))
    late.start()
    try:
        ran = caretaker("run", "--source", bench.name, "--config", str(caretaker.config))
        assert late.is_alive(), "it went on"
    finally:
        late.cancel()

    assert drawn
    assert ran.code == 0, ran.err
    assert [each["meta"]["pk"] for each in bench.rows("t")] == [1, 2]
