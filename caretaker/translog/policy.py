"""What the operator allows a reset to do, checked once, with the key named when it is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from caretaker.errors import InvalidSettingError
from caretaker.translog.model import Remedy

#: Seconds between looks at the leases, as the operators who did this by hand settled on.
DEFAULT_LADDER_S: tuple[float, ...] = (10, 15, 30, 45, 60, 90, 135, 200, 300, 450, 720)

MAX_CONCURRENT = 8

#: No wait is longer: the ladder of looks is laid out step by step, and infinity has no end.
MAX_WAIT_S = 30 * 86400


@dataclass(frozen=True)
class ResetPolicy:
    """The limits of one run.

    Attributes:
        percentage: Act where the worst replica holds at least this % of its threshold; a table
            below 100 % is not problematic, whatever this says.
        size_mb: Act only where it holds at least this many MiB; None for no floor.
        max_wait_s: Seconds to wait for leases, replicas being at 0 all the while.
        concurrent: Tables at 0 replicas at one moment, 1 to 8.
        remedy: `flush_first` takes replicas away only where a flush did not help.
        nudge: Ask CrateDB to sync leases at once instead of on its tick.
        table: A regular expression that the whole `schema.table` must match; None or '' for all.
        expected_nodes: Nodes that must be present; None accepts those that are.
        max_tables: Tables to reset in one run, worst first; None for all.
        retry_after_s: No table twice within this many seconds.
        set_aside_after: Resets without cure after which a table waits for an operator.
        restore_timeout_s: Seconds to keep trying to restore before a human is called.
        verify_timeout_s: Seconds to wait for replicas to be back and small.
        settle_s: Seconds without a change before a ticket whose ALTER got no answer is closed.
        wait_ladder_s: Seconds between looks at the leases; the last one repeats.
    """

    percentage: int = 200
    size_mb: float | None = None
    max_wait_s: float = 720.0
    concurrent: int = 1
    remedy: Remedy = Remedy.REPLICAS
    nudge: bool = True
    table: str | None = None
    expected_nodes: int | None = None
    max_tables: int | None = None
    retry_after_s: float = 6 * 3600.0
    set_aside_after: int = 3
    restore_timeout_s: float = 300.0
    verify_timeout_s: float = 300.0
    settle_s: float = 60.0
    wait_ladder_s: tuple[float, ...] = DEFAULT_LADDER_S

    @classmethod
    def checked(cls, **given: Any) -> ResetPolicy:
        """Build a policy from untyped settings, or say which key holds what it may not.

        None means "not given" for every key, so that a run config may leave any of them empty.
        """
        known = {field.name for field in fields(cls)}
        for key, value in given.items():
            if key not in known:
                raise InvalidSettingError(key, value, f"one of {', '.join(sorted(known))}")
        present = {key: value for key, value in given.items() if value is not None}
        if "remedy" in present:
            present["remedy"] = _remedy(present["remedy"])
        if "wait_ladder_s" in present:
            present["wait_ladder_s"] = tuple(present["wait_ladder_s"])
        policy = cls(**present)
        policy._refuse_what_cannot_work()
        return policy

    @cached_property
    def table_pattern(self) -> re.Pattern[str] | None:
        """The compiled `table`, or None where every table is meant."""
        return re.compile(self.table) if self.table else None

    def _refuse_what_cannot_work(self) -> None:
        _at_least("percentage", self.percentage, 1)
        _within("concurrent", self.concurrent, 1, MAX_CONCURRENT)
        for key in ("max_wait_s", "retry_after_s", "verify_timeout_s", "settle_s"):
            _at_least(key, getattr(self, key), 0)
        _at_least("restore_timeout_s", self.restore_timeout_s, 1)
        for key in ("max_wait_s", "restore_timeout_s", "verify_timeout_s", "settle_s"):
            if getattr(self, key) > MAX_WAIT_S:
                found, allowed = getattr(self, key), f"seconds, {MAX_WAIT_S} (30 days) at most"
                raise InvalidSettingError(key, found, allowed)
        if self.retry_after_s == float("inf"):
            raise InvalidSettingError("retry_after_s", self.retry_after_s, "a number of seconds")
        _at_least("set_aside_after", self.set_aside_after, 1)
        if self.size_mb is not None:
            _at_least("size_mb", self.size_mb, 0)
        for key in ("expected_nodes", "max_tables"):
            value = getattr(self, key)
            if value is not None:
                _at_least(key, value, 1)
        if not self.wait_ladder_s or any(not step > 0 for step in self.wait_ladder_s):
            found = list(self.wait_ladder_s)
            raise InvalidSettingError("wait_ladder_s", found, "a list of seconds, each above 0")
        if self.table is not None:
            try:
                re.compile(self.table)
            except re.error as error:
                allowed = f"a regular expression ({error})"
                raise InvalidSettingError("table", self.table, allowed) from None


def _remedy(value: object) -> Remedy:
    try:
        return Remedy(str(value))
    except ValueError:
        allowed = " or ".join(remedy.value for remedy in Remedy)
        raise InvalidSettingError("remedy", value, allowed) from None


def _at_least(key: str, value: float, smallest: float) -> None:
    # `not >=` rather than `<`: NaN fails it, too.
    if not value >= smallest:
        raise InvalidSettingError(key, value, f"a number of at least {smallest:g}")


def _within(key: str, value: float, smallest: float, largest: float) -> None:
    if not smallest <= value <= largest:
        raise InvalidSettingError(key, value, f"a number from {smallest:g} to {largest:g}")
