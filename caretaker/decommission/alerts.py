"""When somebody must look at how decommissions go: the conditions that the operators settled on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

#: Share of failures among the last so many.
FAILURE_SHARE = 0.10
LAST = 20

#: A decommission that takes more than this times the median of those before it.
TIMES_THE_MEDIAN = 2.0

#: With fewer before it there is no usual duration.
FEWEST = 3

_TIMED_OUT = ("timed out", "gave up waiting")


@dataclass(frozen=True, slots=True)
class Ended:
    """One decommission that is over, as the state store has it."""

    success: bool
    duration_s: float
    strategy: str = "manual"
    error: str = ""
    refused: bool = False

    @property
    def timed_out(self) -> bool:
        """Whether a wait had no end."""
        return not self.success and any(words in self.error for words in _TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Terminating:
    """A pod that is on its way out now."""

    pod: str
    deletion_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition, judged; `found` is for people."""

    check: str
    passed: bool
    found: str


#: Name of each check, and what it promises.
CHECKS = {
    "failures": "At most 10 % of the last 20 decommissions failed.",
    "duration": "The last decommission took at most twice the median of its strategy.",
    "timeouts": "The last two decommissions did not both time out.",
    "terminating": "No pod is Terminating past its grace.",
}


def verdicts(
    ended: Sequence[Ended], terminating: Sequence[Terminating], now: datetime
) -> Iterator[Verdict]:
    """Judge every condition; `ended` newest first. What was refused was never tried."""
    tried = [each for each in ended if not each.refused]
    yield _failures(tried[:LAST])
    yield _duration(tried)
    two = tried[:2]
    both = len(two) == 2 and all(each.timed_out for each in two)  # noqa: PLR2004 - a pair
    count = sum(each.timed_out for each in two)
    yield Verdict("timeouts", not both, f"{count} of the last {len(two)} timed out")
    late = {
        each.pod: (now - each.deletion_at).total_seconds()
        for each in terminating
        if each.deletion_at < now
    }
    found = ", ".join(f"{pod} for {late_s:.0f} s" for pod, late_s in sorted(late.items()))
    yield Verdict("terminating", not late, f"past its grace: {found}" if late else "none is late")


def _failures(last: Sequence[Ended]) -> Verdict:
    failed = sum(not each.success for each in last)
    return Verdict(
        "failures",
        failed <= FAILURE_SHARE * len(last),
        f"{failed} of the last {len(last)} failed",
    )


def _duration(tried: Sequence[Ended]) -> Verdict:
    """Compare the newest success with earlier ones of its strategy; a failure has no duration."""
    done = [each for each in tried if each.success]
    if not done:
        return Verdict("duration", passed=True, found="none has succeeded yet")
    newest, *before = done
    same = [each.duration_s for each in before if each.strategy == newest.strategy][:LAST]
    if len(same) < FEWEST:
        found = f"{newest.duration_s:.0f} s, too few before it to compare"
        return Verdict("duration", passed=True, found=found)
    usual = median(same)
    return Verdict(
        "duration",
        newest.duration_s <= TIMES_THE_MEDIAN * usual,
        f"{newest.duration_s:.0f} s, the median is {usual:.0f} s",
    )
