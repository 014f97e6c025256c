"""One holder a cluster, and a person can read who it is."""

from __future__ import annotations

import pytest

from caretaker.errors import FencedError, UnsafeError
from caretaker.translog.model import Owner


def alive(*_):
    return False


def dead(*_):
    return True


def test_a_held_lock_names_its_holder(store, owner):
    store.acquire_lock("c1", owner("run-1"), purpose="translog reset", is_dead=alive)
    with pytest.raises(UnsafeError) as refused:
        store.acquire_lock("c1", owner("run-2"), purpose="restart", is_dead=alive)
    for word in ("c1", "run-1", "host-a", "4711", "translog reset", "2026-01-15T02:00:00"):
        assert word in str(refused.value)
    assert store.lock("c1").owner.run_id == "run-1"


def test_clusters_do_not_wait_for_each_other(store, owner):
    store.acquire_lock("c1", owner("run-1"), purpose="reset", is_dead=alive)
    assert store.acquire_lock("c2", owner("run-2"), purpose="reset", is_dead=alive).epoch == 1


def test_the_same_run_has_it_again_from_another_process(store, clock, owner):
    first = store.acquire_lock("c1", owner("run-1"), purpose="reset", is_dead=alive)
    at = clock.pass_(5)
    again = Owner("run-1", "host-a", 4712, "boot-1")
    second = store.acquire_lock("c1", again, purpose="reset", is_dead=alive)
    assert (second.epoch, second.acquired_at) == (first.epoch, first.acquired_at)
    assert (second.owner.pid, second.heartbeat_at) == (4712, at)
    store.check_lock(first)


def test_a_dead_holders_lock_is_taken_over_and_it_is_fenced(store, clock, owner):
    old = store.acquire_lock("c1", owner("run-1"), purpose="reset", is_dead=alive)
    beat_at = clock()
    asked = []
    clock.pass_(60)

    def judge(*seen):
        asked.append(seen)
        return True

    new = store.acquire_lock("c1", owner("run-2"), purpose="reset", is_dead=judge)
    assert asked == [(old.owner, beat_at)]
    assert (new.epoch, new.owner.run_id, new.acquired_at) == (2, "run-2", clock())
    store.check_lock(new)
    with pytest.raises(FencedError, match="taken over by run run-2"):
        store.check_lock(old)
    store.release_lock("c1", "run-1")
    assert store.lock("c1") == new


def test_a_holder_that_moved_while_we_judged_it_is_judged_again(store, owner):
    """It was released and taken by a living run: the old verdict says nothing about that one."""
    store.acquire_lock("c1", owner("run-1"), purpose="reset", is_dead=alive)

    def judge(seen, _beat):
        if seen.run_id == "run-1":
            store.release_lock("c1", "run-1")
            store.acquire_lock("c1", owner("run-3"), purpose="restart", is_dead=alive)
            return True
        return False

    with pytest.raises(UnsafeError, match="run-3"):
        store.acquire_lock("c1", owner("run-2"), purpose="reset", is_dead=judge)


def test_a_released_lock_is_free_and_its_epoch_goes_on(store, owner):
    old = store.acquire_lock("c1", owner("run-1"), purpose="reset", is_dead=alive)
    store.release_lock("c1", "run-1")
    store.release_lock("c1", "run-1")
    assert store.lock("c1") is None
    with pytest.raises(FencedError, match="released"):
        store.check_lock(old)
    assert store.acquire_lock("c1", owner("run-1"), purpose="reset", is_dead=alive).epoch == 2


def test_nobody_holds_a_cluster_that_was_never_locked(store):
    assert store.lock("c9") is None
