"""The clients of a run that belongs to a walker: each thing they do is a touch of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from caretaker.errors import TransientError, UnknownResultError
from lab.faults import Action
from resources.cratedb.client import CrateDBClient
from resources.cratedb.settings import CrateDBSettings
from resources.sql import cratedb as sql
from resources.sql.cratedb import Statement
from resources.state_store import StateStore
from tests.translog.rough_lab import SILENT, Key, RoughLab
from tests.translog.walkers import Walker
from tests.translog.witness import Sender, Witness

#: What writes, and of it what a lost COMMIT leaves unknown instead of to be asked for again.
WRITES = frozenset(
    {"acquire_lock", "advance", "begin_statement", "close_ticket", "end_statement", "open_ticket"}
    | {"record_failure", "release_lock", "take_over"}
)
_UNREPEATABLE = frozenset(
    {"begin_statement", "close_ticket", "open_ticket", "record_failure", "take_over"}
)


class TouchingClient(CrateDBClient):
    """The real client over real sockets; a touch before every statement and after every change."""

    def __init__(self, lab: RoughLab, witness: Witness, walker: Walker, sender: Sender) -> None:
        super().__init__(
            CrateDBSettings(tuple(lab.cratedb.urls), username="caretaker", statement_timeout_s=30.0)
        )
        self._lab = lab
        self._witness = witness
        self._walker = walker
        self._sender = sender

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        self._walker.touch("read")
        acts, lies = self._lab.acts, self._lies()
        rows = super().read(statement)
        lied = self._lies() > lies
        if statement.sql in {sql.TABLE, sql.PARTITION} and rows and not lied:
            self._sender.looked[_key(statement)] = acts
        if statement.sql == sql.SHARDS_WITH_LEASES:
            key = _key(statement)
            self._sender.saw[key] = None if lied else self._lab.looks(key)
        return rows

    def change(
        self,
        statement: Statement,
        *,
        timeout_s: float | None = None,
        just_before: Callable[[], None] | None = None,
    ) -> None:
        self._walker.touch("change")
        rule = self._lab.next_rule(statement.sql)
        arrived = len(self._witness)
        sent = False

        def leaving() -> None:
            nonlocal sent
            if just_before is not None:
                just_before()
            sent = True
            self._witness.sender, self._lab.sending, self._lab.raced = self._sender, True, False

        try:
            super().change(
                statement,
                timeout_s=timeout_s or self._lab.patience(statement.sql),
                just_before=leaving,
            )
        finally:
            # Whether it has arrived by now is no question: where nobody answers, it will.
            if sent and rule is not None and rule.action in SILENT:
                self._lab.wait_until_taken_in(arrived)
            self._witness.sender, self._lab.sending = None, False
            self._walker.touch("changed")

    def _lies(self) -> int:
        rules = self._lab.cratedb.faults.shown()
        return sum(rule["fired"] for rule in rules if rule["action"] == Action.WRONG_ROWS)


def touching_store(lab: RoughLab, witness: Witness, walker: Walker, sender: Sender) -> StateStore:
    """Return the real store, with a touch before every call and after every write."""
    return cast("StateStore", _TouchingStore(lab, witness, walker, sender))


class _TouchingStore:
    def __init__(self, lab: RoughLab, witness: Witness, walker: Walker, sender: Sender) -> None:
        self._lab = lab
        self._witness = witness
        self._walker = walker
        self._sender = sender

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._lab.store, name)

        def touching(*args: Any, **given: Any) -> Any:
            self._walker.touch(f"store: {name}")
            self._witness.before_write(self._sender, name, args, given)
            if name == "begin_statement":
                self._sender.audited = False
            made = method(*args, **given)
            self._witness.after_write(self._sender, name, args)
            if name in WRITES:
                self._lose_the_answer(name)
                self._walker.touch(f"stored: {name}")
            return made

        return touching

    def _lose_the_answer(self, name: str) -> None:
        """As PostgreSQL does when it is restarted while it says that a COMMIT is done."""
        if self._lab.answers_lost == 0:
            return
        self._lab.answers_lost -= 1
        if name in _UNREPEATABLE:
            raise UnknownResultError("the state store was lost while it wrote, says the test")
        raise TransientError("the state store is not available, says the test")


def _key(statement: Statement) -> Key:
    schema, name, *ident = map(str, statement.args)
    return (schema, name, *ident) if ident else (schema, name, "")  # type: ignore[return-value]
