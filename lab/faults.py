"""Faults on demand: rules that make the lab misbehave for the statements they match."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Protocol


class Journaled(Protocol):
    """What a rule looks at: a statement as the journal has it."""

    node: str
    user: str
    stmt: str


class Action(StrEnum):
    """What happens to a statement that a rule matches."""

    #: Nothing: for rules that only call back.
    WATCH = "watch"
    #: Answer `seconds` later.
    LATENCY = "latency"
    #: Close the connection with a reset; nothing is applied.
    RESET_BEFORE = "reset_before"
    #: Apply, begin to answer, and reset the connection in the middle.
    RESET_AFTER = "reset_after"
    #: Apply, and hold the connection without a word until the client gives up.
    HANG = "hang"
    #: Say nothing, and apply `seconds` (of the lab's time) after it came.
    LATE = "late"
    #: Answer `status` with `code` and `message`; nothing is applied.
    ERROR = "error"
    #: Answer 500 in plain text as a draining node does; nothing is applied.
    DISCONNECTED = "disconnected"
    #: Answer `rows` instead of the right ones.
    WRONG_ROWS = "wrong_rows"
    #: Apply, and answer half of the JSON with a Content-Length for all of it.
    HALF_BODY = "half_body"
    #: Answer with `megabytes` of rows, as fast as the client reads.
    HUGE = "huge"
    #: Answer 200 with a page of HTML: something else listens on that port.
    HTML = "html"
    #: The node refuses connections while the rule stands; `match` plays no part.
    REFUSE = "refuse"


@dataclass(slots=True)
class Fault:
    """A rule. Unset conditions match everything; the first rule that matches is the one."""

    match: str = ""
    action: str = Action.WATCH
    node: str | int | None = None
    user: str | None = None
    #: Let this many matches pass before the rule works.
    after_matches: int = 0
    #: Work this often, then never again.
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    seconds: float = 1.0
    status: int = 503
    code: int = 5031
    #: What ERROR answers where the protocol is PostgreSQL's.
    sqlstate: str = "XX000"
    message: str = "MasterNotDiscoveredException[blocked by: [SERVICE_UNAVAILABLE/2/no master];]"
    rows: list[list[Any]] | None = None
    megabytes: int = 200
    before: Callable[[Any], None] | None = None
    after: Callable[[Any], None] | None = None
    matched: int = 0
    fired: int = 0
    id: int = 0
    _random: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        """Compile nothing but seed: a rule with a seed fires alike in every run."""
        self._random.seed(self.seed)
        self.action = Action(self.action)
        re.compile(self.match)

    def concerns(self, entry: Journaled, number: int) -> bool:
        """Return whether statement, node and user match, whatever the counts say."""
        if self.node is not None and self.node not in {entry.node, number}:
            return False
        if self.user is not None and self.user != entry.user:
            return False
        return re.search(self.match, entry.stmt) is not None

    def fires(self) -> bool:
        """Count one match, and return whether the rule works this time."""
        self.matched += 1
        if self.matched <= self.after_matches:
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        if self.probability < 1.0 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def shown(self) -> dict[str, Any]:
        """Return it for the control API, without what JSON cannot carry."""
        hidden = {"before", "after", "_random"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}


class Faults:
    """The rules in force; safe to change while statements run."""

    def __init__(self, on_change: Callable[[], None] | None = None) -> None:
        """Start without rules; `on_change` is called after each change of them."""
        self._lock = threading.Lock()
        self._rules: list[Fault] = []
        self._on_change = on_change or (lambda: None)
        self._next = 1

    def add(self, fault: Fault) -> Fault:
        """Put a rule in force and return it."""
        with self._lock:
            fault.id, self._next = self._next, self._next + 1
            self._rules.append(fault)
        self._on_change()
        return fault

    def remove(self, fault_id: int) -> bool:
        """Lift one rule; False where there is none of that id."""
        with self._lock:
            before = len(self._rules)
            self._rules = [rule for rule in self._rules if rule.id != fault_id]
            found = len(self._rules) < before
        self._on_change()
        return found

    def clear(self) -> None:
        """Lift all rules."""
        with self._lock:
            self._rules.clear()
        self._on_change()

    def pick(self, entry: Journaled, number: int) -> Fault | None:
        """Return the first rule that works for this statement."""
        with self._lock:
            for rule in self._rules:
                if rule.action == Action.REFUSE or not rule.concerns(entry, number):
                    continue
                if rule.fires():
                    return rule
        return None

    def refuses(self, name: str, number: int) -> bool:
        """Return whether a rule makes this node refuse connections."""
        with self._lock:
            return any(
                rule.action == Action.REFUSE and (rule.node is None or rule.node in {name, number})
                for rule in self._rules
            )

    def shown(self) -> list[dict[str, Any]]:
        """Return all rules for the control API."""
        with self._lock:
            return [rule.shown() for rule in self._rules]


def from_json(given: dict[str, Any]) -> Fault:
    """Return the rule a JSON object describes; unknown keys are an error."""
    allowed = {f.name for f in fields(Fault)} - {"before", "after", "_random", "matched",
                                                "fired", "id"}  # fmt: skip
    unknown = sorted(given.keys() - allowed)
    if unknown:
        message = f"unknown keys {', '.join(unknown)}; known are {', '.join(sorted(allowed))}"
        raise ValueError(message)
    return Fault(**given)
