"""A terminal that is closed, or a session that breaks off, asks for a stop, as SIGTERM does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hangup_is_a_stop() -> Iterator[None]:
    """Let SIGHUP be SIGTERM for this process; under nohup, which has it ignored, it stays so.

    A terminal sends it to every process of the group. Blocked, and waited for by a thread, because
    the mask is what processes inherit: a run's fork server and its steps live on, and are told of
    the stop by us.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield
        return
    over = threading.Event()

    def listen() -> None:
        while True:
            signal.sigwait({signal.SIGHUP})
            if over.is_set():
                return
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    listener = threading.Thread(target=listen, name="caretaker-hangup", daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        signal.pthread_kill(listener.ident or 0, signal.SIGHUP)
        listener.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
