"""One controller an environment: a lock in the state store, as for a cluster of CrateDB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from caretaker.errors import FencedError, TransientError
from ops.guard import heartbeat
from ops.owners import death_seen_from, owner_of
from resources.clock import Clock
from resources.state_store import Lock, StateStore

PURPOSE = "cluster_strategies"


def lock_of(environment: str) -> str:
    """Return what the lock on an environment is called."""
    return f"materialize {environment}"


def controller_of(store: StateStore) -> str:
    """Name all controllers that share this store, and so one lock."""
    return hashlib.sha256(store.place.encode()).hexdigest()[:12]


def take(store: StateStore, environment: str, context: dg.OpExecutionContext) -> Lock:
    """Return the lock, ours; UnsafeError, naming the holder, where another run has it."""
    return store.acquire_lock(
        lock_of(environment),
        owner_of(context.run_id, a_process_each=False),
        purpose=PURPOSE,
        is_dead=death_seen_from(context.instance),
    )


def held(store: StateStore, environment: str, run_id: str) -> Lock:
    """Return the lock that an earlier step of this run took; FencedError where it is gone."""
    lock = store.lock(lock_of(environment))
    if lock is None or lock.owner.run_id != run_id:
        whose = "nobody's" if lock is None else f"run {lock.owner.run_id}'s"
        raise FencedError(f"the lock of {environment} is {whose} now", target=environment)
    return lock


def let_go(store: StateStore, environment: str, run_id: str) -> None:
    """Let the next controller have it."""
    store.release_lock(lock_of(environment), run_id)


@contextmanager
def kept(store: StateStore, environment: str, run_id: str, *, last: bool = False) -> Iterator[None]:
    """Keep the lock's heart beating; let go of it where nothing of the run comes after this.

    That is at the end of the `last` step, and where a step failed for good.
    """
    try:
        with heartbeat(store, run_id, Clock()):
            yield
    except TransientError:
        # The step is tried again, with the lock. Given up, the run is dead and so is its lock.
        raise
    except BaseException:
        let_go(store, environment, run_id)
        raise
    if last:
        let_go(store, environment, run_id)
