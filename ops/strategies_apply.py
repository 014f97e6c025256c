"""One action at a time: written down, looked at, sent once, read back, written down."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from caretaker.errors import (
    CaretakerError,
    FencedError,
    RefusedError,
    UnknownResultError,
)
from caretaker.strategies.coordinate import PRIORITY, given_up
from caretaker.strategies.cycle import ClusterPlan, Observed, Plan
from caretaker.strategies.model import Json
from caretaker.strategies.moments import moment
from caretaker.strategies.outcome import ActionOutcome, ClusterOutcome, Outcome
from caretaker.strategies.statements import seconds_to_wait
from caretaker.strategies.truth import (
    ClusterNow,
    as_judged,
    change_between,
    context_of,
    has_happened,
)
from ops.strategies_settling import at_work, is_under_way
from resources.clock import Clock
from resources.materialize.client import Materialize
from resources.materialize.failures import is_no_use
from resources.materialize.store import StateRow, StrategyStore

#: Pauses between looks at an action that got no answer: it may be there in a moment.
LOOKS_S = (0.0, 0.5, 1.5)

#: What was decided so long ago is decided anew: a cluster that was idle may be in use by now, and
#: while this run goes on, nobody wakes another one.
FRESH_FOR_S = 300.0

#: (event name, fields): what is told while it works.
Say = Callable[[str, dict[str, Any]], None]


def _nothing(_name: str, _fields: dict[str, Any]) -> None:
    """Tell nobody."""


def _unfenced() -> None:
    """Nobody else can have the lock: for tests and for those without one."""


@dataclass
class Hands:
    """What a cycle works with.

    Attributes:
        controller: Who we are beside other controllers: the name of the store with our lock.
        fence: Raises FencedError where the lock is not ours any more.
    """

    source: Materialize
    store: StrategyStore
    run_id: str = ""
    controller: str = ""
    clock: Clock = field(default_factory=Clock)
    fence: Callable[[], None] = _unfenced
    say: Say = _nothing


class Watch:
    """The server's time, going on from when it was asked; later than all that was written."""

    def __init__(self, clock: Clock, now: datetime, written_at: datetime | None) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._now = now
        self._last = written_at

    def __call__(self) -> datetime:
        """Return a time that is later than any it has returned before."""
        at = self._now + timedelta(seconds=self._clock.monotonic() - self._began)
        if self._last is not None and at <= self._last:
            at = self._last + timedelta(microseconds=1)
        self._last = at
        return at


def apply(planned: Plan, observed: Observed, hands: Hands) -> Outcome:
    """Do what was planned, cluster by cluster; a failure in one says nothing of another.

    Raises FencedError where somebody else has the lock: then nothing more is sent.
    """
    now = hands.source.identity().now if any(planned.actions()) else moment(planned.now)
    watch = _watch(hands, planned, observed, now)
    outcome = Outcome()
    began = hands.clock.monotonic()
    for cluster in planned.clusters:
        if not cluster.actions:
            continue
        applying = _Applying(hands, cluster, watch)
        old_s = hands.clock.monotonic() - began
        outcome.clusters.append(applying.run() if old_s < FRESH_FOR_S else applying.leave(old_s))
    return outcome


def record(outcome: Outcome, planned: Plan, observed: Observed, hands: Hands) -> Outcome:
    """Write what strategies remember where all that was planned was done, and it changed."""
    ended = {one.id: one for one in outcome.clusters}
    rows = []
    for cluster in planned.clusters:
        end = ended.get(cluster.id)
        if end is not None and not end.complete:
            continue
        done = set(end.remembered) if end else set()
        rows += [
            StateRow(cluster.id, strategy, entry)
            for strategy, entry in cluster.result["state"].items()
            if strategy not in done and entry != cluster.case["state"].get(strategy)
        ]
    if rows:
        rows = _without_news(rows, observed, hands)
    if rows:
        hands.fence()
        watch = _watch(hands, planned, observed, hands.source.identity().now)
        hands.store.write_state(rows, watch())
    outcome.remembered = len(rows)
    return outcome


def _without_news(rows: list[StateRow], observed: Observed, hands: Hands) -> list[StateRow]:
    """Return the rows but those of which another controller has written a newer one meanwhile."""
    seen, written = moment(observed.written_at), hands.store.written_at()
    kept = []
    for row in rows:
        at = written.get((row.cluster_id, row.strategy))
        if at is None or (seen is not None and at <= seen):
            kept.append(row)
            continue
        why = f"stands back: what {row.strategy} of {row.cluster_id} remembers is newer by now"
        hands.say("note", {"reason": why})
    return kept


def _watch(hands: Hands, planned: Plan, observed: Observed, now: datetime | None) -> Watch:
    began = moment(planned.now)
    assert began is not None  # noqa: S101 - a plan is made of an observation, which has one
    return Watch(hands.clock, now or began, moment(observed.written_at))


class _StoppedError(Exception):
    """The rest of a cluster's actions is not run."""

    def __init__(self, *, failed: str = "", stood_back: str = "") -> None:
        super().__init__(failed or stood_back)
        self.failed = failed
        self.stood_back = stood_back


class _Applying:
    """The actions of one cluster."""

    def __init__(self, hands: Hands, cluster: ClusterPlan, watch: Watch) -> None:
        self._hands = hands
        self._cluster = cluster
        self._watch = watch
        self._expected: ClusterNow = as_judged(cluster.case["cluster"])
        self._outcome = ClusterOutcome(cluster.id, cluster.name)

    def run(self) -> ClusterOutcome:
        """Run them in order, until one does not go as planned."""
        actions = self._cluster.actions
        for number, action in enumerate(actions):
            try:
                self._run_one(action)
            except FencedError:
                raise
            except (_StoppedError, CaretakerError) as stopped:
                if isinstance(stopped, _StoppedError):
                    self._outcome.failed = stopped.failed
                    self._outcome.stood_back = stopped.stood_back
                else:
                    self._outcome.failed = f"{action['sql']}: {stopped}"
                # Where it is the tables that are away, the run's own report must do.
                with contextlib.suppress(CaretakerError):
                    self._leave(actions[number + 1 :], stopped)
                break
        return self._outcome

    def leave(self, old_s: float) -> ClusterOutcome:
        """Run none of them: the plan has become old while other clusters were changed."""
        why = f"stands back: decided {old_s:.0f} s ago, the next cycle decides anew"
        self._outcome.stood_back = why
        with contextlib.suppress(CaretakerError):
            self._leave(self._cluster.actions, _StoppedError(stood_back=why))
        return self._outcome

    def _leave(self, actions: list[Json], stopped: Exception) -> None:
        """Write down what is not run because of what came before it."""
        if not actions:
            return
        why = f"not run: {stopped}"
        ends = [ActionOutcome(uuid.uuid4().hex, action, executed=False, error=why)
                for action in actions]  # fmt: skip
        rows = [
            (end.action_id, self._cluster.id, end.action["sql"], self._context(end.action))
            for end in ends
        ]
        self._outcome.actions.extend(ends)
        self._hands.store.note_actions(rows, why, self._watch())

    def _run_one(self, action: Json) -> None:
        """Send one action, unless something is not as it was."""
        action_id, context = uuid.uuid4().hex, self._context(action)
        store = self._hands.store
        try:
            store.begin_action(action_id, self._cluster.id, action["sql"], context, self._watch())
        except CaretakerError as error:
            self._note(action_id, action, executed=False, error=f"not sent: {error}")
            raise
        self._look_before(action_id, action)
        started = self._hands.clock.monotonic()
        try:
            self._hands.source.change(action["sql"])
        except UnknownResultError as error:
            self._no_answer(action_id, action, context, error)
        except CaretakerError as error:
            self._refused(action_id, action, context, error)
        else:
            self._acknowledged(action_id, action, context)
        finally:
            end = self._outcome.actions[-1] if self._outcome.actions else None
            elapsed_ms = round((self._hands.clock.monotonic() - started) * 1000)
            self._hands.say(
                "sql",
                {
                    "cluster": self._cluster.name,
                    "strategy": action["strategy"],
                    "sql": action["sql"],
                    "elapsed_ms": elapsed_ms,
                    "error": (end.error or None) if end and end.action is action else None,
                },
            )

    # --- before -----------------------------------------------------------------------------

    def _look_before(self, action_id: str, action: Json) -> None:
        """Stop, with nothing sent, where somebody else is at it or was there meanwhile."""
        try:
            why = self._why_not_now(action_id)
        except CaretakerError as error:
            self._end(action_id, action, executed=False, error=f"not sent: {error}")
            if isinstance(error, FencedError):
                raise
            raise _StoppedError(failed=str(error)) from error
        if why:
            self._end(action_id, action, executed=False, error=f"not sent: {why}")
            raise _StoppedError(stood_back=why)

    def _why_not_now(self, action_id: str) -> str:
        """Return why we stand back, or ''.

        Asked once our own intent is written down: of two controllers that do so in this order, at
        least one sees the other.
        """
        self._hands.fence()
        now = self._watch()
        for other in self._hands.store.open_actions_of(self._cluster.id):
            ours = other.action_id == action_id
            if not ours and is_under_way(other, now, self._hands.controller):
                return at_work(other)
        change = change_between(self._expected, self._now())
        return f"stands back, changed underneath: {change}" if change else ""

    def _now(self) -> ClusterNow | None:
        return self._hands.source.cluster_now(self._cluster.id)

    # --- after ------------------------------------------------------------------------------

    def _acknowledged(self, action_id: str, action: Json, context: Json) -> None:
        try:
            now = self._now()
        except CaretakerError as error:
            self._remember(action_id, action)
            why = f"acknowledged, and not read back: {error}"
            self._end(action_id, action, executed=True, error=why)
            raise _StoppedError(failed=why) from error
        self._remember(action_id, action)
        if not has_happened(context, now):
            why = "acknowledged, and somebody has undone it since, or it takes a while"
            self._end(action_id, action, executed=True, error=why)
            raise _StoppedError(stood_back=f"stands back: {action['sql']}: {why}")
        self._end(action_id, action, executed=True)
        self._go_on_from(now)

    def _no_answer(
        self, action_id: str, action: Json, context: Json, error: CaretakerError
    ) -> None:
        """Look what is true; where it is not there, the next cycle has the last word."""
        now, why = None, "it is not there yet"
        for pause in LOOKS_S:
            self._hands.clock.sleep(pause)
            try:
                now = self._now()
            except CaretakerError as away:
                why = f"nobody can be asked: {away}"
                continue
            if has_happened(context, now):
                self._remember(action_id, action)
                told = f"no answer came ({error}); it was done"
                self._end(action_id, action, executed=True, error=told)
                self._go_on_from(now)
                return
        told = f"no answer came ({error}), and {why}: the next cycle looks again"
        self._end(action_id, action, executed=None, error=told)
        raise _StoppedError(failed=f"{action['sql']}: {told}") from error

    def _refused(self, action_id: str, action: Json, context: Json, error: CaretakerError) -> None:
        """It was not done; where that is because somebody else was quicker, it is no failure."""
        del context
        hint = f" ({error.hint})" if error.hint else ""
        self._end(action_id, action, executed=False, error=f"{error}{hint}")
        if action["op"] == "alter" and action["size"] is not None and is_no_use(error):
            self._give_up(action)
        if isinstance(error, RefusedError):
            try:
                change = change_between(self._expected, self._now())
            except CaretakerError:
                change = ""
            if change:
                why = f"stands back, changed underneath: {change}"
                raise _StoppedError(stood_back=why) from error
        raise _StoppedError(failed=f"{action['sql']}: {error}{hint}") from error

    def _give_up(self, action: Json) -> None:
        """Have the next cycles leave this size alone: each try keeps all other clusters waiting."""
        strategy, at = action["strategy"], self._watch()
        entry = given_up(self._cluster.case["state"].get(strategy), action["size"], at)
        self._hands.store.write_state([StateRow(self._cluster.id, strategy, entry)], at)

    def _go_on_from(self, now: ClusterNow | None) -> None:
        if now is not None:
            self._expected = now

    def _remember(self, action_id: str, action: Json) -> None:
        """Write what the strategy remembers, before the action counts as executed.

        Killed in between, the next cycle finds an action without an end, and what to remember
        with it.
        """
        strategy = action["strategy"]
        entry = self._cluster.result["state"].get(strategy)
        if entry is None or strategy in self._outcome.remembered:
            return
        if entry != self._cluster.case["state"].get(strategy):
            row = StateRow(self._cluster.id, strategy, entry)
            try:
                self._hands.store.write_state([row], self._watch())
            except CaretakerError as error:
                why = f"executed, and not written down, which the next cycle does: {error}"
                self._note(action_id, action, executed=True, error=why)
                raise
        self._outcome.remembered.append(strategy)

    def _end(self, action_id: str, action: Json, *, executed: bool | None, error: str = "") -> None:
        self._note(action_id, action, executed=executed, error=error)
        self._hands.store.end_action(action_id, executed, error)

    def _note(self, action_id: str, action: Json, *, executed: bool | None, error: str) -> None:
        """Have the run's own report say it, whatever becomes of the tables."""
        self._outcome.actions.append(ActionOutcome(action_id, action, executed, error))

    def _context(self, action: Json) -> Json:
        strategy = action["strategy"]
        return {
            "strategy": strategy,
            "priority": PRIORITY.get(strategy),
            "reasons": [action["reason"]],
            "credits_delta": action["credits_per_hour_delta"],
            "case_hash": self._cluster.hash,
            "run_id": self._hands.run_id,
            "controller": self._hands.controller,
            "waits_s": seconds_to_wait(action["sql"]),
            "state": self._cluster.result["state"].get(strategy),
            **context_of(action, self._cluster.case["cluster"]),
        }
