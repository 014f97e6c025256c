"""The three strategy tables, in Materialize or in PostgreSQL, by the same statements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from caretaker.errors import CaretakerError, RefusedError
from caretaker.strategies.model import Json
from resources.materialize.failures import is_undefined
from resources.materialize.session import Session
from resources.materialize.types import aware
from resources.sql import strategies as sql

_RECREATE = "caretaker strategies wipe-state --recreate"

#: Rows of one statement; a statement has room for 65,535 parameters.
_ROWS = 500


@dataclass(frozen=True, slots=True)
class OpenAction:
    """An action of whose end nothing is written down."""

    action_id: str
    cluster_id: str
    sql: str
    context: Json
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class ActionRow:
    """A row of the audit; `executed` None where the end is not known."""

    action_id: str
    cluster_id: str
    sql: str
    context: Json
    executed: bool | None
    error: str
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class StateRow:
    """What a strategy of a cluster remembers."""

    cluster_id: str
    strategy: str
    entry: Json


@dataclass(slots=True)
class Stored:
    """What the tables hold.

    Attributes:
        strategies: By cluster id, rows as in a case.
        state: By cluster id and strategy, as in a case.
        written_at: When that state was written, by the same two.
        open_actions: Oldest first.
        warnings: Tables that are not there yet.
    """

    strategies: dict[str, list[Json]] = field(default_factory=dict)
    state: dict[str, dict[str, Json]] = field(default_factory=dict)
    written_at: dict[tuple[str, str], datetime] = field(default_factory=dict)
    open_actions: list[OpenAction] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class StrategyStore:
    """One writer at a time; whoever reads sees the newest of several rows."""

    def __init__(self, session: Session, *, in_materialize: bool) -> None:
        """Take the session: Materialize's own, or one to PostgreSQL."""
        self.session = session
        self.in_materialize = in_materialize

    @property
    def shown(self) -> str:
        """As messages name it."""
        return self.session.settings.shown

    # --- the tables themselves --------------------------------------------------------------

    def missing(self) -> list[str]:
        """Return the tables that are not there; RefusedError for one of another shape."""
        found = {table: self._columns(table) for table in sql.COLUMNS}
        for table, columns in found.items():
            if columns is not None and not sql.COLUMNS[table] <= columns:
                raise self._of_another_shape(table, columns)
        return [table for table, columns in found.items() if columns is None]

    def create(self) -> list[str]:
        """Make the tables that are not there, and return which."""
        missing = self.missing()
        for table in missing:
            self.session.change(sql.CREATE[table])
        return missing

    def recreate(self) -> list[str]:
        """Drop and make again what the controller itself keeps; return which tables.

        The state always, the audit where it has another shape; never what operators wrote.
        """
        made = []
        for table in (sql.STATE, sql.ACTIONS):
            columns = self._columns(table)
            if table == sql.ACTIONS and columns is not None and columns >= sql.COLUMNS[table]:
                # Or the next cycle would bring back what was about to be remembered.
                self.session.change(sql.FORGET_OPEN)
                continue
            if columns is not None:
                self.session.change(sql.DROP[table])
            self.session.change(sql.CREATE[table])
            made.append(table)
        return made

    def _columns(self, table: str) -> set[str] | None:
        try:
            return set(self.session.columns(sql.SHAPE[table]))
        except RefusedError as error:
            if is_undefined(error):
                return None
            raise

    def _of_another_shape(self, table: str, columns: set[str]) -> RefusedError:
        lacks = ", ".join(sorted(sql.COLUMNS[table] - columns))
        hint = f"drop and make it again: {_RECREATE}"
        if table == sql.STRATEGIES:
            hint = "it holds what people wrote, and is theirs to change"
        return RefusedError(
            f"{self.shown}: the table {table} has another shape: no column {lacks}",
            target=table,
            hint=hint,
        )

    # --- reading ----------------------------------------------------------------------------

    def read(self) -> Stored:
        """Return everything a cycle needs, in six statements; nothing is written."""
        stored = Stored()
        missing = self.missing()
        for table in missing:
            stored.warnings.append(f"there is no table {table} yet: the first apply makes it")
        if sql.STRATEGIES not in missing:
            for cluster_id, strategy, config, updated_at in self.session.rows(sql.READ_STRATEGIES):
                # NULL, in a table that somebody else has made, or ''; it is a problem of this row.
                stored.strategies.setdefault(cluster_id or "", []).append(
                    {
                        "type": strategy or "(none)",
                        "config": _loaded(config),
                        "updated_at": _iso(updated_at),
                    }
                )
        if sql.STATE not in missing:
            self._read_state(stored)
        if sql.ACTIONS not in missing:
            stored.open_actions = self._open_actions(self.session.rows(sql.OPEN_ACTIONS))
        return stored

    def _read_state(self, stored: Stored) -> None:
        rows = self.session.rows(sql.READ_STATE)
        # Of several rows the newest holds; without a time it is the oldest.
        rows.sort(key=lambda row: (_at(row[4]), json.dumps(row[:4], default=str)))
        for cluster_id, strategy, version, payload, updated_at in rows:
            entry = {"version": version, "payload": _loaded(payload)}
            stored.state.setdefault(cluster_id, {})[strategy] = entry
            stored.written_at[cluster_id, strategy] = _at(updated_at)

    def written_at(self) -> dict[tuple[str, str], datetime]:
        """Return when what strategies remember was written, by cluster id and strategy."""
        rows = self.session.rows(sql.STATE_WRITTEN_AT)
        return {(cluster_id, strategy): _at(at) for cluster_id, strategy, at in rows}

    def open_actions_of(self, cluster_id: str) -> list[OpenAction]:
        """Return the actions of a cluster of whose end nothing is written down."""
        return self._open_actions(self.session.rows(sql.OPEN_ACTIONS_OF, (cluster_id,)))

    def recent(self, since: datetime, limit: int = 1000) -> list[ActionRow]:
        """Return the audit since a time, newest first."""
        try:
            rows = self.session.rows(sql.RECENT_ACTIONS, (since, limit))
        except RefusedError as error:
            if is_undefined(error):
                return []
            raise
        return [
            ActionRow(one, cluster, text, _context(context), executed, error or "", aware(at))
            for one, cluster, text, context, executed, error, at in rows
        ]

    @staticmethod
    def _open_actions(rows: Iterable[tuple[Any, ...]]) -> list[OpenAction]:
        found = [
            OpenAction(action_id, cluster_id or "", text or "", _context(context), aware(at))
            for action_id, cluster_id, text, context, at in rows
        ]
        return sorted(found, key=lambda one: (_at(one.created_at), one.action_id))

    # --- the audit --------------------------------------------------------------------------

    def begin_action(
        self, action_id: str, cluster_id: str, text: str, context: Json, at: datetime
    ) -> None:
        """Write down what is about to be done, before it is."""
        self._insert_actions([(action_id, cluster_id, text, _dumped(context), None, None, at)])

    def note_actions(
        self, rows: Sequence[tuple[str, str, str, Json]], why: str, at: datetime
    ) -> None:
        """Write down what is not done, and why: (id, cluster id, statement, context)."""
        for begin in range(0, len(rows), _ROWS):
            self._insert_actions(
                [
                    (one, cluster, text, _dumped(context), False, _plain(why), at)
                    for one, cluster, text, context in rows[begin : begin + _ROWS]
                ]
            )

    def _insert_actions(self, rows: Sequence[tuple[Any, ...]]) -> None:
        places = ", ".join([sql.ACTION_ROW] * len(rows))
        self._repeatable(
            sql.INSERT_ACTION + places, [value for row in rows for value in row], again=False
        )

    def end_action(self, action_id: str, executed: bool | None, error: str = "") -> None:
        """Write down what became of an action; None: nobody knows yet."""
        self._repeatable(sql.END_ACTION, (executed, _plain(error) or None, action_id), again=True)

    # --- the state --------------------------------------------------------------------------

    def write_state(self, rows: Sequence[StateRow], at: datetime) -> None:
        """Have strategies remember this from now on.

        The new rows are written before the old ones go: whoever is killed in between leaves both,
        and the newer holds.
        """
        for begin in range(0, len(rows), _ROWS):
            some = rows[begin : begin + _ROWS]
            values: list[Any] = []
            for row in some:
                version, payload = row.entry["version"], row.entry["payload"]
                values += [row.cluster_id, row.strategy, version, _dumped(payload), at]
            places = ", ".join([sql.STATE_ROW] * len(some))
            self._repeatable(sql.INSERT_STATE + places, values, again=True)
            pairs = " OR ".join([sql.STATE_PAIR] * len(some))
            ids = [value for row in some for value in (row.cluster_id, row.strategy)]
            self._repeatable(sql.DELETE_OLDER_STATE.format(pairs=pairs), [at, *ids], again=True)

    def wipe(self, cluster_ids: Sequence[str] | None = None) -> int:
        """Forget what strategies remember, of some clusters or of all; return how many rows went.

        What an interrupted action was about to have remembered is forgotten, too.
        """
        if cluster_ids is None:
            self.session.change(sql.FORGET_OPEN)
            return self.session.change(sql.WIPE_STATE)
        gone = 0
        for begin in range(0, len(cluster_ids), _ROWS):
            some = cluster_ids[begin : begin + _ROWS]
            ids = ", ".join(["%s"] * len(some))
            self.session.change(sql.FORGET_OPEN_OF.format(ids=ids), some)
            gone += self.session.change(sql.WIPE_STATE_OF.format(ids=ids), some)
        return gone

    def _repeatable(self, text: str, args: Sequence[Any], *, again: bool) -> None:
        """Send a change; once more where nothing is spoiled by its happening twice."""
        try:
            self.session.change(text, args)
        except CaretakerError as error:
            if not again or isinstance(error, RefusedError):
                raise
            self.session.change(text, args)

    def close(self) -> None:
        """Close the connection, unless it is Materialize's own."""
        if not self.in_materialize:
            self.session.close()


def _loaded(text: str | None) -> object:
    """Return a JSON value; what Python cannot read stays the text it is, and is judged as such."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _context(text: str | None) -> Json:
    found = _loaded(text)
    return found if isinstance(found, dict) else {}


def _dumped(value: object) -> str:
    """Return JSON that both databases hold: no NUL, no half of a surrogate pair."""
    return json.dumps(_storable(value), ensure_ascii=False)


def _storable(value: object) -> object:
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, dict):
        return {_plain(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


_OLDEST = datetime.min.replace(tzinfo=UTC)


def _at(value: object) -> datetime:
    return aware(value) or _OLDEST


def _iso(value: object) -> str | None:
    at = aware(value)
    return None if at is None else at.astimezone(UTC).isoformat()
