"""What the operator allows a restart to do, checked once, with the key named when it is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from caretaker.decommission.model import DeleteWhen, Goal, MinAvailability
from caretaker.errors import InvalidSettingError

_Word = TypeVar("_Word", bound=StrEnum)

#: No wait is longer than this.
LONGEST_S = 7 * 86400.0

DEFAULT_CONTAINER = "crate"

#: Where no hook says otherwise (the seed).
DEFAULT_TIMEOUT_S = 720.0


class AllocationMode(StrEnum):
    """`cluster.routing.allocation.enable` during a drain.

    NEW_PRIMARIES forbids moving the very primaries that a drain must move: RED with shards missing
    after 5.4 s (seen live). PRIMARIES makes a FULL drain vacuous, because replicas cannot move.
    """

    ALL = "all"
    PRIMARIES = "primaries"
    NEW_PRIMARIES = "new_primaries"


@dataclass(frozen=True)
class RestartPolicy:
    """The limits of one run.

    Attributes:
        timeout_s: How long a drain may take; None: what the preStop hook says, or 720.
        dc_util_pattern: What else counts as dc_util, searched in the program's name; None: dc_util.
        container: Name of the CrateDB container.
        allocation_mode: None: `primaries` for PRIMARIES, untouched for FULL.
        min_availability: What a manual drain keeps; NONE would not drain at all.
        delete_when: `drained` deletes in the 5 s between the drain and the exit: no restart in
            place, no back-off, GREEN throughout (seen live). `exited` waits for the process to end.
        recreate_pod: Insist on a new pod where the process ended before its pod was deleted; never
            once the container runs again, because its node may join at any moment.
        force_delete: Delete with grace 0 a pod that is stuck in Terminating and whose node is out.
        expected_nodes: Nodes that must be present; None: as many as the StatefulSets have pods.
        require_window: Refuse where no maintenance window is configured.
        settle_s: Quiet seconds between two pods: GREEN, nothing relocating.
        stable_s: How long all must look well where a node was never seen absent.
        hang_after_s: Seconds after its return from which an empty node that stays is a hang.
        statement_timeout_s, decommission_timeout_s: Client deadlines of setup statements and of
            DECOMMISSION, which blocks.
        ready_margin_s: `pod_ready_timeout` is the drain's timeout plus this.
        terminating_margin_s: Past grace and this, a pod is stuck in Terminating.
        prepare_timeout_s, restore_timeout_s, rest_timeout_s: How long to wait for CrateDB to take
            the setup, to take back what was set, and to come to rest between two pods.
    """

    goal: Goal = Goal.RESTART
    timeout_s: float | None = None
    dc_util_pattern: str | None = None
    container: str = DEFAULT_CONTAINER
    allocation_mode: AllocationMode | None = None
    min_availability: MinAvailability = MinAvailability.PRIMARIES
    delete_when: DeleteWhen = DeleteWhen.DRAINED
    recreate_pod: bool = False
    force_delete: bool = False
    expected_nodes: int | None = None
    require_window: bool = False
    settle_s: float = 30.0
    stable_s: float = 10.0
    hang_after_s: float = 20.0
    statement_timeout_s: float = 60.0
    decommission_timeout_s: float = 1200.0
    ready_margin_s: float = 300.0
    terminating_margin_s: float = 60.0
    prepare_timeout_s: float = 180.0
    restore_timeout_s: float = 300.0
    rest_timeout_s: float = 1800.0

    @classmethod
    def checked(cls, **given: Any) -> RestartPolicy:
        """Build a policy from untyped settings, or say which key holds what it may not.

        None means "not given" for every key, so that a run config may leave any of them empty.
        """
        known = {field.name for field in fields(cls)}
        for key, value in given.items():
            if key not in known:
                raise InvalidSettingError(key, value, f"one of {', '.join(sorted(known))}")
        present = {key: value for key, value in given.items() if value is not None}
        for key, kind in _WORDS.items():
            if key in present:
                present[key] = _word(key, present[key], kind)
        policy = cls(**present)
        policy._refuse_what_cannot_work()
        return policy

    @property
    def allocation(self) -> AllocationMode:
        """The value of allocation.enable during a manual drain."""
        if self.allocation_mode is not None:
            return self.allocation_mode
        full = self.min_availability is MinAvailability.FULL
        return AllocationMode.ALL if full else AllocationMode.PRIMARIES

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should hear about his own choice."""
        if self.allocation is AllocationMode.NEW_PRIMARIES:
            text = (
                "allocation_mode new_primaries forbids moving the primaries that the drain must "
                "move: the node leaves with unreplicated primaries and the cluster turns RED"
            )
            return (text,)
        full = self.min_availability is MinAvailability.FULL
        if full and self.allocation is AllocationMode.PRIMARIES:
            text = (
                "allocation_mode primaries keeps replicas where they are: a FULL drain succeeds "
                "without moving them and the cluster turns YELLOW"
            )
            return (text,)
        return ()

    def _refuse_what_cannot_work(self) -> None:
        if self.min_availability is MinAvailability.NONE:
            allowed = "PRIMARIES or FULL (NONE does not drain)"
            raise InvalidSettingError("min_availability", self.min_availability.value, allowed)
        for field in fields(self):
            if not field.name.endswith("_s"):
                continue
            value = getattr(self, field.name)
            smallest = 0.0 if field.name in _MAY_BE_ZERO else 1.0
            # `not <=` rather than `>`: NaN fails it, too.
            if value is not None and not smallest <= value <= LONGEST_S:
                allowed = f"seconds from {smallest:g} to {LONGEST_S:g}"
                raise InvalidSettingError(field.name, value, allowed)
        if self.expected_nodes is not None and not self.expected_nodes >= 1:
            raise InvalidSettingError("expected_nodes", self.expected_nodes, "at least 1")
        if not self.container:
            raise InvalidSettingError("container", self.container, "the name of a container")
        if self.dc_util_pattern is not None:
            try:
                re.compile(self.dc_util_pattern)
            except re.error as error:
                allowed = f"a regular expression ({error})"
                raise InvalidSettingError(
                    "dc_util_pattern", self.dc_util_pattern, allowed
                ) from None


_MAY_BE_ZERO = {"settle_s", "stable_s", "ready_margin_s", "terminating_margin_s"}
_WORDS: dict[str, type[StrEnum]] = {
    "goal": Goal,
    "allocation_mode": AllocationMode,
    "min_availability": MinAvailability,
    "delete_when": DeleteWhen,
}


def _word(key: str, value: object, kind: type[_Word]) -> _Word:
    by_text = {word.value.lower(): word for word in kind}
    word = by_text.get(str(value).lower())
    if word is None:
        raise InvalidSettingError(key, value, " or ".join(each.value for each in kind))
    return word
