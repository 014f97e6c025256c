"""Restarts: what must be put back on a cluster, by whom, and how far its pods have got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, insert, literal, select, update

from caretaker.decommission.ticket import RestartTicket
from caretaker.errors import CaretakerError, FencedError, RefusedError, TransientError, UnsafeError
from caretaker.translog.model import Owner
from resources.state_store.database import Part
from resources.state_store.restart_rows import (
    DecommissionRow,
    EffectRow,
    LookRow,
    RestartRow,
    decommission_columns,
    decommission_of,
    restart_of,
    text_of,
)
from resources.state_store.rows import owner_columns, owner_of, whose
from resources.state_store.tables import decommissions, effects, looks, restarts

_IS_OPEN = restarts.c.closed_at.is_(None)


class Restarts(Part):
    """Every method that changes one is fenced: another epoch, or closed, is a FencedError."""

    def open_restart(
        self, ticket: RestartTicket, owner: Owner, *, purpose: str, way: Mapping[str, Any]
    ) -> RestartRow:
        """Return the restart once its ticket is on disk.

        Raises UnsafeError naming the holder where the cluster has an open one already.
        """
        columns = {
            "cluster_id": ticket.cluster.id,
            "namespace": ticket.cluster.namespace,
            "cluster_name": ticket.cluster.name,
            "purpose": purpose,
            "document": text_of(ticket.as_document()),
            "way": text_of(dict(way)),
            "epoch": 1,
            "heartbeat_at": self._now(),
            "attempts": 0,
            "last_error": "",
            "reason": "",
            "created_at": ticket.created_at,
            **owner_columns(owner),
        }
        for _ in range(3):
            with self._database.write(repeatable=False) as connection:
                made = connection.execute(
                    self._database.insert_if_absent(restarts).values(columns).returning(*restarts.c)
                )
                row = made.mappings().one_or_none()
                if row is not None:
                    return restart_of(row)
                holder = _holder(connection, ticket.cluster.id)
            if holder is not None:
                raise already_open(restart_of(holder))
        raise TransientError(f"restarts of {ticket.cluster} come and go", target=ticket.cluster)

    def save_restart(self, held: RestartRow, ticket: RestartTicket) -> RestartRow:
        """Make a ticket durable, refresh the heartbeat, and return what is stored now."""
        return self._fenced_restart(held, document=text_of(ticket.as_document()))

    def check_restart(self, held: RestartRow) -> None:
        """Raise FencedError where somebody took it over, or it was closed."""
        with self._database.read() as connection:
            query = select(restarts.c.id).where(_mine(held))
            if connection.execute(query).scalar_one_or_none() is None:
                raise _fenced_by(connection, held)

    def take_over_restart(
        self, held: RestartRow, owner: Owner, ticket: RestartTicket
    ) -> RestartRow:
        """Make it the new owner's, one epoch on; of several who try, one succeeds.

        Only as it was read: an owner that was seen dead and writes all the same (a machine that
        slept) keeps it, with what it wrote, and UnsafeError says so.
        """
        taking = {
            "next_try_at": None,
            "epoch": held.epoch + 1,
            "document": text_of(ticket.as_document()),
            **owner_columns(owner),
        }
        with self._database.write(repeatable=False) as connection:
            row = self._update_restart(connection, held, taking, *_unchanged(held))
            return restart_of(row)

    def restart_failed(
        self, held: RestartRow, ticket: RestartTicket, reason: str, next_try_at: datetime
    ) -> RestartRow:
        """Keep open what could not be put back, and say when to try again."""
        return self._fenced_restart(
            held,
            repeatable=False,
            document=text_of(ticket.as_document()),
            attempts=restarts.c.attempts + 1,
            reason=reason,
            last_error=reason,
            next_try_at=next_try_at,
        )

    def close_restart(
        self,
        held: RestartRow,
        ticket: RestartTicket,
        *,
        outcome: str,
        reason: str,
        ended: Iterable[DecommissionRow] = (),
        as_read: bool = False,
    ) -> None:
        """Close it and record how each pod ended, all of it or nothing.

        Somebody else's is closed only `as_read`: UnsafeError where its owner, seen dead, has
        written since.
        """
        unchanged = _unchanged(held) if as_read else ()
        closing = {
            "document": text_of(ticket.as_document()),
            "closed_at": self._now(),
            "next_try_at": None,
            "outcome": outcome,
            "reason": reason,
        }
        with self._database.write(repeatable=False) as connection:
            self._update_restart(connection, held, closing, *unchanged)
            _record(connection, ended, held.id)

    def record_decommissions(self, ended: Iterable[DecommissionRow]) -> None:
        """Record pods for which nothing was begun."""
        with self._database.write(repeatable=False) as connection:
            _record(connection, ended, None)

    # --- looking ----------------------------------------------------------------------------------

    def open_restarts(self, cluster_id: str | None = None) -> list[RestartRow]:
        """Return open ones, oldest first."""
        query = select(restarts).where(_IS_OPEN).order_by(restarts.c.id)
        if cluster_id is not None:
            query = query.where(restarts.c.cluster_id == cluster_id)
        with self._database.read() as connection:
            return [restart_of(row) for row in connection.execute(query).mappings()]

    def restarts(self, limit: int = 100, *, include_closed: bool = False) -> list[RestartRow]:
        """Return restarts, newest first."""
        query = select(restarts).order_by(restarts.c.id.desc()).limit(limit)
        if not include_closed:
            query = query.where(_IS_OPEN)
        with self._database.read() as connection:
            return [restart_of(row) for row in connection.execute(query).mappings()]

    def restart(self, restart_id: int) -> RestartRow:
        """Return one, open or closed; RefusedError where there is none."""
        with self._database.read() as connection:
            row = _row(connection, restart_id)
        if row is None:
            raise RefusedError(f"there is no ticket r{restart_id}", target=restart_id)
        return restart_of(row)

    def decommissions(self, limit: int, since: datetime | None = None) -> list[DecommissionRow]:
        """Return how decommissions ended, newest first."""
        # Those of one restart are written at once, in the order of their names.
        newest = (decommissions.c.ended_at.desc(), decommissions.c.id.desc())
        query = select(decommissions).order_by(*newest).limit(limit)
        if since is not None:
            query = query.where(decommissions.c.ended_at >= since)
        with self._database.read() as connection:
            return [decommission_of(row) for row in connection.execute(query).mappings()]

    # --- what was sent, and what was seen ---------------------------------------------------------

    def begin_effect(self, held: RestartRow, effect: str) -> int:
        """Record what is about to be sent and return its id; FencedError: do not send it."""
        asked = select(
            restarts.c.id,
            literal(held.owner.run_id),
            restarts.c.epoch,
            literal(effect, effects.c.effect.type),
            literal(self._now(), effects.c.began_at.type),
        ).where(_mine(held))
        columns = ["restart_id", "run_id", "epoch", "effect", "began_at"]
        # Repeatable: nothing is sent before it is here, and one entry too many has no end.
        with self._database.write() as connection:
            made: int | None = connection.execute(
                insert(effects).from_select(columns, asked).returning(effects.c.id)
            ).scalar_one_or_none()
            if made is None:
                raise _fenced_by(connection, held)
        return made

    def end_effect(self, effect_id: int, result: str, reason: str = "") -> None:
        """Record its answer. Not fenced: what was sent was sent, whoever has the ticket now."""
        with self._database.write() as connection:
            connection.execute(
                update(effects)
                .where(effects.c.id == effect_id)
                .values(ended_at=self._now(), result=result, reason=reason)
            )

    def effects(self, restart_id: int) -> list[EffectRow]:
        """Return what was sent for a restart, in order."""
        query = select(effects).where(effects.c.restart_id == restart_id).order_by(effects.c.id)
        with self._database.read() as connection:
            return [
                EffectRow(**{name: row[name] for name in EffectRow._fields})
                for row in connection.execute(query).mappings()
            ]

    def add_look(self, restart_id: int, look: LookRow) -> None:
        """Record what is seen from now on."""
        with self._database.write() as connection:
            connection.execute(insert(looks).values(restart_id=restart_id, **look._asdict()))

    def looks(self, restart_id: int) -> list[LookRow]:
        """Return what was seen during a restart, in order."""
        query = select(looks).where(looks.c.restart_id == restart_id).order_by(looks.c.id)
        with self._database.read() as connection:
            return [
                LookRow(**{name: row[name] for name in LookRow._fields})
                for row in connection.execute(query).mappings()
            ]

    # --- parts ------------------------------------------------------------------------------------

    def _fenced_restart(
        self, held: RestartRow, *, repeatable: bool = True, **columns: object
    ) -> RestartRow:
        with self._database.write(repeatable=repeatable) as connection:
            return restart_of(self._update_restart(connection, held, columns))

    def _update_restart(
        self,
        connection: Connection,
        held: RestartRow,
        columns: dict[str, Any],
        *conditions: ColumnElement[bool],
    ) -> RowMapping:
        """The one UPDATE for all: it finds its row only while the restart is ours."""
        changed = connection.execute(
            update(restarts)
            .where(_mine(held), *conditions)
            .values(heartbeat_at=self._now(), **columns)
            .returning(*restarts.c)
        )
        row = changed.mappings().one_or_none()
        if row is None:
            raise _fenced_by(connection, held)
        return row


def already_open(holder: RestartRow) -> UnsafeError:
    """Say who has the cluster."""
    return UnsafeError(
        f"{holder.cluster} has an open restart already: ticket r{holder.id} of "
        f"{whose(holder.owner)}, since {holder.created_at.isoformat(timespec='seconds')}",
        target=holder.cluster,
        hint=f"let it end, or: caretaker tickets restore r{holder.id}",
    )


def _record(
    connection: Connection, ended: Iterable[DecommissionRow], restart_id: int | None
) -> None:
    rows: Sequence[dict[str, Any]] = [decommission_columns(each, restart_id) for each in ended]
    if rows:
        connection.execute(insert(decommissions), rows)


def _unchanged(held: RestartRow) -> tuple[ColumnElement[bool], ...]:
    return (restarts.c.document == held.document, restarts.c.heartbeat_at == held.heartbeat_at)


def _mine(held: RestartRow) -> ColumnElement[bool]:
    return and_(restarts.c.id == held.id, restarts.c.epoch == held.epoch, _IS_OPEN)


def _row(connection: Connection, restart_id: int) -> RowMapping | None:
    query = select(restarts).where(restarts.c.id == restart_id)
    return connection.execute(query).mappings().one_or_none()


def _holder(connection: Connection, cluster_id: str) -> RowMapping | None:
    query = select(restarts).where(restarts.c.cluster_id == cluster_id, _IS_OPEN)
    return connection.execute(query).mappings().one_or_none()


def _fenced_by(connection: Connection, held: RestartRow) -> CaretakerError:
    row = _row(connection, held.id)
    if row is None:
        return RefusedError(f"there is no ticket r{held.id}", target=held.cluster)
    if row["closed_at"] is not None:
        why = f"was closed at {row['closed_at'].isoformat(timespec='seconds')}"
    elif row["epoch"] == held.epoch:
        return UnsafeError(
            f"ticket r{held.id} of {held.cluster} was taken for abandoned, and "
            f"{whose(owner_of(row))} has written to it meanwhile: it lives",
            target=held.cluster,
        )
    else:
        why = f"was taken over by {whose(owner_of(row))} (epoch {row['epoch']}, ours {held.epoch})"
    return FencedError(f"ticket r{held.id} of {held.cluster} {why}", target=held.cluster)
