"""Which strategies have a word on a cluster, in which order, and what each of them remembers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from caretaker.strategies import burst, idle_suspend, shrink_to_fit, target_size
from caretaker.strategies.draft import Draft
from caretaker.strategies.fields import Field, UnreadableError, read_config
from caretaker.strategies.late import GivenUp
from caretaker.strategies.model import Case, ConfigRow, Json, problem
from caretaker.strategies.moments import seconds
from caretaker.strategies.shown import echo, name_of, shown

#: Of the state that is written. Another one is not read: the strategy starts afresh.
STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy, as all four are called.

    Attributes:
        config: Made of the checked values of its config.
        memory: What it remembers, `read` from a payload and written by `payload`.
        look: Brings the memory up to date with what is there.
        propose: Changes the draft.
        record: Takes down what was executed.
    """

    name: str
    fields: Mapping[str, Field]
    config: Callable[..., Any]
    memory: Any
    look: Callable[[Any, Case], None]
    propose: Callable[[Draft, Any, Any], None]
    record: Callable[..., None]


#: By priority: the last one has the last word.
STRATEGIES = (
    Strategy(
        target_size.NAME,
        target_size.FIELDS,
        target_size.TargetSizeConfig,
        target_size.TargetSizeMemory,
        target_size.look,
        target_size.propose,
        target_size.record,
    ),
    Strategy(
        shrink_to_fit.NAME,
        shrink_to_fit.FIELDS,
        shrink_to_fit.ShrinkToFitConfig,
        shrink_to_fit.ShrinkToFitMemory,
        shrink_to_fit.look,
        shrink_to_fit.propose,
        shrink_to_fit.record,
    ),
    Strategy(
        burst.NAME,
        burst.FIELDS,
        burst.BurstConfig,
        burst.BurstMemory,
        burst.look,
        burst.propose,
        burst.record,
    ),
    Strategy(
        idle_suspend.NAME,
        idle_suspend.FIELDS,
        idle_suspend.IdleSuspendConfig,
        idle_suspend.IdleSuspendMemory,
        idle_suspend.look,
        idle_suspend.propose,
        idle_suspend.record,
    ),
)

PRIORITY = {strategy.name: priority for priority, strategy in enumerate(STRATEGIES)}

_OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Voice:
    """A strategy with a word on this cluster."""

    strategy: Strategy
    config: Any
    memory: Any


def voices(case: Case, memories: Mapping[str, Any], problems: list[Json]) -> dict[str, Voice]:
    """Return the strategies that work as configured, lowest priority first."""
    rows = _newest(case.rows, problems)
    heard = {}
    for strategy in STRATEGIES:
        row = rows.get(strategy.name)
        if row is None:
            continue
        values, wrong = read_config(strategy.name, row.config, strategy.fields, case.sizes)
        if not wrong:
            config = strategy.config(**values, updated_at=row.updated_at)
            if unfit := config.unfit(case):
                key, value, message = unfit
                wrong = [problem(strategy.name, key, echo(value), message)]
            else:
                memory = memories.get(strategy.name)
                heard[strategy.name] = Voice(strategy, config, memory or strategy.memory())
        problems.extend(wrong)
    return heard


def _newest(rows: list[ConfigRow], problems: list[Json]) -> dict[str, ConfigRow]:
    """Return one row a strategy: the newest, NULL being oldest; none where nobody can tell."""
    found: dict[str, ConfigRow] = {}
    again: dict[str, list[ConfigRow]] = {}
    for row in rows:
        if row.type not in PRIORITY:
            message = f"there is no strategy {shown(row.type)}, only {', '.join(PRIORITY)}"
            problems.append(problem(name_of(row.type), "type", echo(row.type), message))
        elif row.type in found:
            again.setdefault(row.type, [found[row.type]]).append(row)
        else:
            found[row.type] = row
    for name in sorted(again):
        several = sorted(again[name], key=lambda row: row.updated_at or _OLDEST)
        *_, second, newest = several
        message = f"{len(several)} rows for {name}: the newest holds"
        found[name] = newest
        if second.updated_at == newest.updated_at and second.config != newest.config:
            message = f"{len(several)} rows for {name}, and nobody can tell which is the newest"
            del found[name]
        problems.append(problem(name, "updated_at", len(several), message))
    return found


def remembered(case: Case, problems: list[Json]) -> dict[str, Any]:
    """Return what each strategy remembers; what cannot be read is forgotten, and reported."""
    memories = {}
    configured = {row.type for row in case.rows}
    for strategy in STRATEGIES:
        entry = case.state.get(strategy.name)
        if entry is None:
            continue
        try:
            memories[strategy.name] = _read(strategy.memory, entry)
        except UnreadableError as error:
            if strategy.name in configured:
                message = f"the remembered state cannot be read, and starts afresh: {error}"
                key, value = f"state.{error.key}", echo(error.value)
                problems.append(problem(strategy.name, key, value, message))
    return memories


def given_up(entry: Json | None, size: str, now: datetime) -> Json:
    """Return what target_size remembers, by what it remembered, once a size came to nothing."""
    memory = target_size.TargetSizeMemory()
    if entry is not None:
        with contextlib.suppress(UnreadableError):
            memory = _read(memory, entry)
    memory.given_up = GivenUp(size, now)
    return {"version": STATE_VERSION, "payload": memory.payload()}


def _read(memory: Any, entry: Json) -> Any:
    """Return what an entry of the state remembers, or raise UnreadableError."""
    version, payload = entry.get("version"), entry.get("payload")
    if type(version) is not int or version != STATE_VERSION:
        raise UnreadableError("version", version, str(STATE_VERSION))
    if not isinstance(payload, dict):
        raise UnreadableError("payload", payload, "an object")
    return memory.read(payload)


def rest(draft: Draft, heard: Mapping[str, Voice]) -> None:
    """Note whose cooldown lasts; one that began further ahead than it is long says nothing."""
    for name, voice in heard.items():
        cooldown_s, last = voice.config.cooldown_s, voice.memory.last_decision_ts
        if cooldown_s and last is not None:
            elapsed = seconds(last, draft.case.now)
            if -cooldown_s <= elapsed < cooldown_s:
                draft.resting[name] = f"cooldown: {cooldown_s - elapsed:g} s left"


def coordinate(draft: Draft, heard: Mapping[str, Voice]) -> None:
    """Let each strategy change what the earlier ones want."""
    if burst.NAME in heard and (own := heard[burst.NAME].memory.burst_replica):
        draft.bursting = own[0]
    if idle_suspend.NAME in heard and target_size.NAME in heard and draft.empty:
        _forget_what_was_suspended(heard)
    for voice in heard.values():
        voice.strategy.propose(draft, voice.config, voice.memory)


def _forget_what_was_suspended(heard: Mapping[str, Voice]) -> None:
    """Wait for no replica that was dropped with all others before anyone saw it."""
    suspended_at = heard[idle_suspend.NAME].memory.last_decision_ts
    memory = heard[target_size.NAME].memory
    if memory.pending and suspended_at is not None and memory.pending.created_at <= suspended_at:
        memory.pending = None
