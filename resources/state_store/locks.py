"""Cluster locks: one holder a cluster, whatever it means to do there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import RowMapping, select, update

from caretaker.errors import FencedError, TransientError, UnsafeError
from caretaker.translog.model import Owner
from resources.state_store.database import Part
from resources.state_store.rows import Lock, owner_columns, owner_of, whose
from resources.state_store.tables import locks

#: Whether an owner is gone for good, told by who it is and when its heart last beat.
IsDead = Callable[[Owner, datetime], bool]


class Locks(Part):
    """Shared by resets, restarts and decommissions; keyed by `sys.cluster.id`."""

    def acquire_lock(self, cluster_id: str, owner: Owner, *, purpose: str, is_dead: IsDead) -> Lock:
        """Return the lock, ours; UnsafeError naming the holder where it lives.

        A dead holder's is taken over, one epoch on. The same run has it again with the same
        epoch, from whichever of its processes asks; that one is then the process to look for.
        """
        # Others may move between our look and our claim; somebody wins every round.
        for _ in range(5):
            holder = self._claim(cluster_id, owner, purpose)
            if isinstance(holder, Lock):
                return holder
            # Outside any transaction: the question may go to Dagster, and take its time.
            if not is_dead(holder_owner := owner_of(holder), holder["heartbeat_at"]):
                raise _held(cluster_id, holder)
            taken = self._replace(cluster_id, owner, purpose, holder["epoch"], holder_owner)
            if taken is not None:
                return taken
        raise TransientError(f"the lock of cluster {cluster_id} comes and goes", target=cluster_id)

    def release_lock(self, cluster_id: str, owner_run_id: str) -> None:
        """Let go of it; nothing happens where the run does not have it any more."""
        with self._database.write() as connection:
            connection.execute(
                update(locks)
                .where(
                    locks.c.cluster_id == cluster_id,
                    locks.c.owner_run_id == owner_run_id,
                    locks.c.released_at.is_(None),
                )
                .values(released_at=self._now())
            )

    def lock(self, cluster_id: str) -> Lock | None:
        """Return who holds a cluster, or None."""
        query = select(locks).where(locks.c.cluster_id == cluster_id, locks.c.released_at.is_(None))
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _lock_of(row)

    def held_locks(self) -> list[Lock]:
        """Return every lock that somebody holds, whether its holder lives or not."""
        query = select(locks).where(locks.c.released_at.is_(None)).order_by(locks.c.cluster_id)
        with self._database.read() as connection:
            return [_lock_of(row) for row in connection.execute(query).mappings()]

    def check_lock(self, held: Lock) -> None:
        """Raise FencedError where the lock was taken over or released."""
        now = self.lock(held.cluster_id)
        if now is not None and now.epoch == held.epoch:
            return
        why = "was released" if now is None else f"was taken over by {whose(now.owner)}"
        raise FencedError(f"the lock of cluster {held.cluster_id} {why}", target=held.cluster_id)

    def _claim(self, cluster_id: str, owner: Owner, purpose: str) -> Lock | RowMapping:
        """Take a lock that is free or our run's; else return whose it is."""
        now = self._now()
        ours = owner_columns(owner) | {"purpose": purpose, "heartbeat_at": now}
        first = (
            self._database.insert_if_absent(locks)
            .values(cluster_id=cluster_id, epoch=1, acquired_at=now, **ours)
            .returning(*locks.c)
        )
        here = locks.c.cluster_id == cluster_id
        with self._database.write() as connection:
            row = connection.execute(first).mappings().one_or_none()
            if row is not None:
                return _lock_of(row)
            held = connection.execute(select(locks).where(here).with_for_update()).mappings().one()
            if held["released_at"] is not None:
                ours |= {"epoch": held["epoch"] + 1, "acquired_at": now, "released_at": None}
            elif held["owner_run_id"] != owner.run_id:
                return held
            taken = connection.execute(update(locks).where(here).values(ours).returning(*locks.c))
            return _lock_of(taken.mappings().one())

    def _replace(
        self, cluster_id: str, owner: Owner, purpose: str, epoch: int, dead: Owner
    ) -> Lock | None:
        """Take over from the dead; None where it is no longer as it was seen."""
        now = self._now()
        takeover = (
            update(locks)
            .where(
                locks.c.cluster_id == cluster_id,
                locks.c.epoch == epoch,
                # The same run keeps the epoch, with another process: not the one found dead.
                *(locks.c[name] == value for name, value in owner_columns(dead).items()),
                locks.c.released_at.is_(None),
            )
            .values(
                epoch=epoch + 1,
                purpose=purpose,
                acquired_at=now,
                heartbeat_at=now,
                **owner_columns(owner),
            )
            .returning(*locks.c)
        )
        with self._database.write() as connection:
            row = connection.execute(takeover).mappings().one_or_none()
        return None if row is None else _lock_of(row)


def _lock_of(row: RowMapping) -> Lock:
    return Lock(
        row["cluster_id"],
        owner_of(row),
        row["purpose"],
        row["epoch"],
        row["acquired_at"],
        row["heartbeat_at"],
    )


def _held(cluster_id: str, holder: RowMapping) -> UnsafeError:
    since = holder["acquired_at"].isoformat(timespec="seconds")
    return UnsafeError(
        f"cluster {cluster_id} is locked by {whose(owner_of(holder))}"
        f" for {holder['purpose']}, since {since}",
        target=cluster_id,
        hint="wait until that run has ended",
    )
