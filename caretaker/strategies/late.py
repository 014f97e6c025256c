"""Replicas of ours that never get ready: dropped and reported once, and not tried again at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from caretaker.strategies.draft import Draft
from caretaker.strategies.fields import UnreadableError, remembered_object, remembered_text
from caretaker.strategies.model import Json, Replica
from caretaker.strategies.moments import AN_AWARE_TIME, moment, seconds

#: Seconds that a replica has to get ready.
PENDING_TIMEOUT_S = 1800.0

#: A size that was given up is tried again after a day, or once its config is touched.
GIVEN_UP_FOR_S = 86400.0


@dataclass(slots=True)
class GivenUp:
    """A size that never got ready."""

    size: str
    at: datetime

    def payload(self) -> Json:
        """Return what is stored."""
        return {"size": self.size, "at": self.at.isoformat()}

    def still(self, size: str, now: datetime, updated_at: datetime | None) -> bool:
        """Whether `size` is not to be tried again yet."""
        if self.size != size or (updated_at is not None and updated_at > self.at):
            return False
        return abs(seconds(self.at, now)) < GIVEN_UP_FOR_S


def given_up_of(payload: Json) -> GivenUp | None:
    """Return what a payload remembers of it."""
    stored = remembered_object(payload, "given_up")
    if stored is None:
        return None
    at = moment(stored.get("at"))
    if at is None:
        raise UnreadableError("given_up.at", stored.get("at"), AN_AWARE_TIME)
    return GivenUp(remembered_text(stored, "size"), at)


def held_back(
    draft: Draft, strategy: str, given_up: GivenUp | None, size: str, updated_at: datetime | None
) -> bool:
    """Whether a size is not tried again yet; says so. `updated_at`: when its config was touched."""
    if given_up is None or not given_up.still(size, draft.case.now, updated_at):
        return False
    at = given_up.at.isoformat()
    draft.hold(strategy, f"{size} was given up at {at}: tried again after a day")
    return True


def drop_late(
    draft: Draft,
    strategy: str,
    candidates: Sequence[Replica],
    timeout_s: float,
) -> list[Replica]:
    """Want those of ours gone that are known not to be ready and older than the timeout.

    Returns them, dropped or not. An unknown age is no age, and an unknown readiness no failure.
    """
    late = [
        one
        for one in candidates
        if one.ready is False
        and not one.pending
        and one.created_at is not None
        and seconds(one.created_at, draft.case.now) > timeout_s
    ]
    for one in late:
        message = f"{one.name} ({one.size}) is not ready after {timeout_s:g} s"
        draft.report(strategy, "pending_timeout_s", timeout_s, message)
        if len(draft.kept) > 1:
            draft.drop(strategy, one, message, failed=True)
        else:
            draft.hold(strategy, f"{message}, and stays: it is the last replica")
    return late
