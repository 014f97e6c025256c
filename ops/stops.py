"""Stops that arrive, whatever they interrupt on their way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import dagster as dg

_STOPS = (signal.SIGINT, signal.SIGTERM)

#: How many of a run's newest engine events are looked at for a stop: after one, no step is begun,
#: and of those that were on their way each writes one or two more.
_NEWEST = 100


def stopped_before(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run had been told to stop before the process of this step was there to hear it.

    Dagster's multiprocess executor tells the steps that run, and starts those that it has scheduled
    all the same, without a word; that it was told is in the run's log before it does.
    """
    newest = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=_NEWEST, ascending=False
    )
    events = (record.event_log_entry.get_dagster_event() for record in newest.records)
    return any("steps_interrupted" in event.engine_event_data.metadata for event in events)


@contextmanager
def heard_stops() -> Iterator[Callable[[], None]]:
    """Give a function that raises a stop again which never arrived.

    A stop is an exception in the middle of whatever the main thread is doing, and a library that
    has an `except:` of its own takes it for one of its own: a sync that was told to stop while its
    first picture was drawn went on for ever (seen live).
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in _STOPS}

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    def again() -> None:
        if heard:
            raise dg.DagsterExecutionInterruptedError

    # One that is ignored stays ignored.
    replaced = [number for number, handler in before.items() if callable(handler)]
    for number in replaced:
        signal.signal(number, hear)
    try:
        yield again
    finally:
        for number in replaced:
            signal.signal(number, before[number])
