"""Whether whoever holds a ticket or a lock is still there to keep the promise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from caretaker.translog.model import Owner

#: A heartbeat is written every 5 s; six missed ones and a finished run are a death.
HEARTBEAT_EVERY_S = 5.0
HEARTBEAT_STALE_AFTER_S = 30.0

#: Sixty missed beats are a death whatever Dagster says: a run whose code server or machine is gone
#: stays STARTED for ever (dagster.md, trap 3). Whoever wakes up after that is stopped by the epoch.
ABANDONED_AFTER_S = 300.0


@dataclass(frozen=True, slots=True)
class Signs:
    """What can be seen of an owner from here; None is "cannot tell".

    Attributes:
        run_finished: Its Dagster run has a terminal status, or the instance knows no such run.
        same_host: We run where it runs, so its pid means something here.
        process_alive: The process of that pid, boot and start time exists.
    """

    run_finished: bool | None
    same_host: bool
    process_alive: bool | None


def is_dead(heartbeat_at: datetime | None, now: datetime, signs: Signs) -> bool:
    """Whether an owner's promise may be taken over.

    A finished run alone is no proof: Dagster marks runs failed or canceled while their process
    still works (dagster.md, trap 5). A silent heartbeat alone is none either: a process may be
    suspended. Either the process is seen to be gone, or both agree. A heartbeat that is further
    ahead than it may be behind says nothing: whoever wrote it has another clock.
    """
    if signs.same_host and signs.process_alive is False:
        return True
    if heartbeat_at is not None and now - heartbeat_at > timedelta(seconds=ABANDONED_AFTER_S):
        return True
    allowed = timedelta(seconds=HEARTBEAT_STALE_AFTER_S)
    stale = heartbeat_at is None or not -allowed <= now - heartbeat_at <= allowed
    return stale and signs.run_finished is True


def describe(owner: Owner) -> str:
    """Name an owner to a person."""
    return f"run {owner.run_id} (pid {owner.pid} on {owner.host})"
