"""Every moment at which a syncer is struck: a deck of rounds, dealt again when it is through."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from proofs.binlog_gate import Aim, When


class Trouble(StrEnum):
    """What happens to others before the syncer is killed."""

    NONE = "at any moment"
    TWO = "two at once"
    DUMP = "the dump ended by the source"
    FRONT = "MongoDB killed"
    ENGINE = "MongoDB's data killed"
    PAUSE = "MongoDB paused"
    STEP_DOWN = "MongoDB stepping down"


@dataclass(frozen=True)
class Round:
    """One life of a syncer.

    Attributes:
        aims: Struck one after the other, each with a new syncer; none for a moment of chance.
    """

    aims: tuple[Aim, ...] = ()
    trouble: Trouble = Trouble.NONE

    @property
    def moment(self) -> str:
        """What it is counted under."""
        return self.aims[-1].moment if self.aims else str(self.trouble)


_ALL = (When.BEFORE, When.DURING, When.AFTER)
_STAGE, _INSIDE = "while staging", "inside the transaction"
_BETWEEN, _CLEAN = "between rows and offset", "after commit, before clean-up"
_TAKING, _RECOVERY = "taking the trail", "during recovery"

_TRANSACTION = (
    *(Aim(_INSIDE, "update binlog_offsets in transaction", when) for when in _ALL),
    *(Aim(_INSIDE, "insert row_changes in transaction", when) for when in _ALL),
    Aim(_INSIDE, "commitTransaction", When.BEFORE),
    Aim("at the commit", "commitTransaction", When.DURING),
)
_STAGING = tuple(Aim(_STAGE, "insert row_changes_staging", when) for when in _ALL)
_LANDED = Aim(_CLEAN, "commitTransaction", When.AFTER)

#: What is struck at while a syncer is at work, by protocol.
AT_WORK = {
    "staged": (
        *_STAGING,
        *_TRANSACTION,
        Aim(_INSIDE, "update row_changes_staging in transaction", When.AFTER),
        _LANDED,
        Aim(_CLEAN, "delete row_changes_staging", When.BEFORE),
        Aim(_CLEAN, "delete row_changes_staging", When.DURING),
    ),
    "direct": (*_TRANSACTION, _LANDED),
    "idempotent": (
        Aim(_BETWEEN, "insert row_changes", When.BEFORE),
        Aim(_BETWEEN, "insert row_changes", When.DURING),
        Aim(_BETWEEN, "insert row_changes", When.AFTER),
        Aim(_BETWEEN, "update binlog_offsets", When.BEFORE),
        Aim(_BETWEEN, "update binlog_offsets", When.DURING),
        Aim("after the offset", "update binlog_offsets", When.AFTER),
    ),
}
_TAKEN = tuple(Aim(_TAKING, "findAndModify binlog_offsets", when) for when in _ALL)
#: What a syncer does first that finds the batches of a dead one.
_RECOVERED = {
    "staged": (
        Aim(_RECOVERY, "find row_changes_staging", When.BEFORE),
        Aim(_RECOVERY, "find row_changes_staging", When.AFTER, 2),
        Aim(_RECOVERY, "update binlog_offsets in transaction", When.AFTER),
        Aim(_RECOVERY, "insert row_changes in transaction", When.AFTER),
        Aim(_RECOVERY, "commitTransaction", When.BEFORE),
        Aim(_RECOVERY, "commitTransaction", When.DURING),
        Aim(_RECOVERY, "commitTransaction", When.AFTER),
        Aim(_RECOVERY, "delete row_changes_staging", When.BEFORE),
    ),
    "direct": (
        Aim(_RECOVERY, "insert row_changes in transaction", When.AFTER),
        Aim(_RECOVERY, "commitTransaction", When.DURING),
    ),
    "idempotent": (
        Aim(_RECOVERY, "insert row_changes", When.DURING),
        Aim(_RECOVERY, "update binlog_offsets", When.BEFORE),
    ),
}
#: Where the life before a recovery ended: with as much left behind as can be.
_LEFT_BEHIND = {
    "staged": Aim(_STAGE, "insert row_changes_staging", When.AFTER, 2),
    "direct": Aim(_INSIDE, "insert row_changes in transaction", When.AFTER),
    "idempotent": Aim(_BETWEEN, "insert row_changes", When.AFTER),
}
_LATEST = 4
_FIRST = (_RECOVERY, _INSIDE, _STAGE, _BETWEEN, str(Trouble.TWO), _CLEAN, str(Trouble.DUMP))


def rounds(protocol: str, chance: random.Random, *, short: bool) -> Iterator[Round]:
    """Yield rounds for ever: every moment once a deal, in an order of chance."""
    while True:
        yield from _deal(protocol, chance, short=short)


def _deal(protocol: str, chance: random.Random, *, short: bool) -> list[Round]:
    left_behind = _LEFT_BEHIND[protocol]
    at_work = [
        # Batches are deleted sixteen at a time: a second time is long in coming.
        Round((aim if aim.moment == _CLEAN else replace(aim, number=chance.randint(1, _LATEST)),))
        for aim in AT_WORK[protocol]
    ]
    recovered = [Round((left_behind, aim)) for aim in _RECOVERED[protocol]]
    taken = [Round((left_behind, aim)) for aim in _TAKEN]
    troubles = [
        Round(trouble=trouble)
        for trouble, times in (
            (Trouble.NONE, 5),
            (Trouble.TWO, 3),
            (Trouble.DUMP, 2),
            (Trouble.FRONT, 1),
            (Trouble.ENGINE, 1),
            (Trouble.PAUSE, 1),
        )
        for _ in range(times)
    ]
    deal = [*at_work, *recovered, *taken, *troubles]
    chance.shuffle(deal)
    if not short:
        return deal
    # Few are dealt: one of each kind, what matters most first.
    firsts = {each.moment: each for each in deal if each.trouble is not Trouble.ENGINE}
    first = [moment for moment in _FIRST if moment in firsts]
    return [firsts[moment] for moment in (*first, *(firsts.keys() - set(first)))]


def step_downs(protocol: str, chance: random.Random) -> Iterator[Round]:
    """Yield rounds in which the primary steps down at each of the moments."""
    while True:
        aims = list(AT_WORK[protocol])
        chance.shuffle(aims)
        for aim in aims:
            if aim.when is When.BEFORE:
                struck = replace(aim, number=chance.randint(1, _LATEST))
                yield Round((struck,), Trouble.STEP_DOWN)
