"""The promise to give a cluster back what it had, and how far its restart has got.

The ticket is one JSON document, durable before the first effect and before each next one. Who may
act on it (owner, epoch, heartbeat) is the state store's business and is not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from caretaker.decommission.document import plain, restored
from caretaker.decommission.model import (
    ClusterRef,
    DecommissionStrategy,
    Goal,
    MinAvailability,
)
from caretaker.decommission.policy import RestartPolicy
from caretaker.errors import CaseError
from caretaker.identifiers import SqlValue

VERSION = 1


class DecommissionState(StrEnum):
    """Where a pod stands; FAILED can be reached from every state but PENDING and SKIPPED."""

    PENDING = "PENDING"
    PREPARING = "PREPARING"
    DRAINING = "DRAINING"
    DELETING = "DELETING"
    AWAITING_POD = "AWAITING_POD"
    AWAITING_GREEN = "AWAITING_GREEN"
    COMPLETED = "COMPLETED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


#: States in which nothing more is done to a pod.
ENDED = frozenset(
    {DecommissionState.COMPLETED, DecommissionState.SKIPPED, DecommissionState.FAILED}
)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A cluster setting as it was, and what was set in its place.

    Attributes:
        before: The effective value, exactly as `sys.cluster.settings` showed it. Whether it was
            persistent cannot be seen: put back, it is (spec).
        ours: Every value that this restart may have set, or that dc_util was seen to leave behind;
            empty: not touched, or put back for good. Written before the statement is sent.
        unanswered: A SET was sent that nobody answered: it may land later.
        lost_at: When the last of those was given up; nothing is concluded before it has landed.
        reset_done, persist_done: Acknowledged since `ours` was last set.
    """

    key: str
    before: SqlValue
    ours: tuple[str | int | float | bool, ...] = ()
    unanswered: bool = False
    lost_at: datetime | None = None
    reset_done: bool = False
    persist_done: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """An ALTER CLUSTER DECOMMISSION that may be in flight. Times are None until they happened.

    Attributes:
        sent_at: The first time; written before it is sent.
        last_sent_at: The last time: names the call.
        returned_at: The statement came back; that is no proof of anything (rowcount 1 is returned
            of a drain that was given up, too: seen live).
        lost_at: A call of ours ended without an answer.
        serving_since: From when on the node was seen to take requests although it should drain.
        idle_since: From when on, after its return, nothing ran on the node that it could wait for.
        shortened_at: graceful_stop.timeout was cut because the empty node hung.
        refused: What the last call was refused with; '' where it was not.
    """

    sent_at: datetime
    last_sent_at: datetime
    returned_at: datetime | None = None
    lost_at: datetime | None = None
    serving_since: datetime | None = None
    idle_since: datetime | None = None
    shortened_at: datetime | None = None
    refused: str = ""

    def not_sent_again(self) -> Drain:
        """Return it as before its last call, which is known not to have left.

        Those before that one were over: it would not have been tried otherwise.
        """
        return replace(self, last_sent_at=self.sent_at)


@dataclass(frozen=True, slots=True)
class PodProgress:
    """One pod on its way, by the UID it had before.

    Attributes:
        uid, restart_count: Of the incarnation that is to go.
        drain_limit_s: How long the drain may take; `timeout_s` is what is reported.
        deleted_at: When a delete was first asked for; written before it is sent.
        delete_refused: Why Kubernetes would not.
        delete_lost_at: When a delete was last given up unanswered: it may land later.
        out_at: When its old process was first seen to have ended.
        absent_at: When its node was first seen missing from `sys.nodes`.
        away_since, away_seen_at: It was missing from the one until the other, each time anew.
        well_since, well_seen_at: All was as it should be from the one until the other.
        data_was_away: Shards were missing while its node was out: it left before it was drained.
        leftovers_known: What dc_util left behind was looked at: once, unless its hook may run yet.
        stuck_told: The operator has been told that it is stuck in Terminating.
        forced_at: When it was last deleted with grace 0, because the operator had asked for that.
        notes: What an operator should know although it was no failure.
    """

    name: str
    uid: str
    restart_count: int
    statefulset: str = ""
    state: DecommissionState = DecommissionState.PENDING
    strategy: DecommissionStrategy = DecommissionStrategy.UNKNOWN
    min_availability: MinAvailability = MinAvailability.PRIMARIES
    node_name: str = ""
    timeout_s: float = 0.0
    drain_limit_s: float = 0.0
    grace_s: int = 0
    began_at: datetime | None = None
    ended_at: datetime | None = None
    drain: Drain | None = None
    deleted_at: datetime | None = None
    delete_refused: str = ""
    delete_lost_at: datetime | None = None
    out_at: datetime | None = None
    absent_at: datetime | None = None
    away_since: datetime | None = None
    away_seen_at: datetime | None = None
    well_since: datetime | None = None
    well_seen_at: datetime | None = None
    uid_after: str = ""
    restarted_in_place: bool = False
    exit_code: int | None = None
    data_was_away: bool = False
    leftovers_known: bool = False
    stuck_told: bool = False
    forced_at: datetime | None = None
    error: str = ""
    notes: tuple[str, ...] = ()

    @property
    def touched(self) -> bool:
        """Whether anything was sent that takes the node out."""
        return self.drain is not None or self.deleted_at is not None

    def as_before_its_drain(self) -> PodProgress:
        """Return it where nobody drains: the next one is a first one, with as much time as one."""
        return replace(self, drain=None, state=DecommissionState.PREPARING)

    @property
    def leftovers_unknown(self) -> bool:
        """Whether dc_util may have left settings behind that nobody looked for yet."""
        managed = self.strategy is DecommissionStrategy.KUBERNETES_MANAGED
        return managed and self.touched and not self.leftovers_known


@dataclass(frozen=True, slots=True)
class RestartTicket:
    """A restart of some pods of one cluster.

    Attributes:
        pods: In the order of their turn, but for the elected master, who is last whoever it is.
        policy: What the operator asked for: who takes over knows it from here.
        settings: The four settings as they were before the pod that is under way.
        put_back_since: From when on settings were owed and could have been put back.
        reset_open: A RESET was sent that nobody has answered yet.
        reset_lost_at: When one of those was given up: landing late, it would clear what an operator
            had set persistently, so that is set again only once it can land no more.
        quiet_since, quiet_seen_at: The cluster was at rest from the one until the other.
        resting_since: From when on it is waited for, between two pods.
        resumed_at: When somebody last took the ticket over.
        blind_since: From when on Kubernetes did not answer while a pod was under way.
        stop: Why no further pod is begun: the operator's wish.
        refusal: What kept a pod from being begun; nothing was touched where it was the first.
        error: Why putting settings back was not possible, the last time it was tried.
    """

    cluster: ClusterRef
    policy: RestartPolicy
    pods: tuple[PodProgress, ...]
    expected_nodes: int
    created_at: datetime
    settings: tuple[Remembered, ...] = ()
    put_back_since: datetime | None = None
    reset_open: bool = False
    reset_lost_at: datetime | None = None
    quiet_since: datetime | None = None
    quiet_seen_at: datetime | None = None
    resting_since: datetime | None = None
    resumed_at: datetime | None = None
    blind_since: datetime | None = None
    stop: str = ""
    refusal: tuple[str, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def goal(self) -> Goal:
        """What is promised."""
        return self.policy.goal

    @property
    def current(self) -> PodProgress | None:
        """The pod that is under way; there is never more than one."""
        return next((pod for pod in self.pods if _under_way(pod)), None)

    @property
    def given_up(self) -> PodProgress | None:
        """The managed pod that was deleted, given up, and not seen to have ended."""
        return next((pod for pod in self.pods if _given_up(pod)), None)

    @property
    def pending(self) -> tuple[PodProgress, ...]:
        """Pods whose turn has not come."""
        return tuple(pod for pod in self.pods if pod.state is DecommissionState.PENDING)

    @property
    def to_come(self) -> tuple[PodProgress, ...]:
        """Pods that whoever has this ticket will begin: none behind a stop or a failure."""
        failed = any(pod.state is DecommissionState.FAILED for pod in self.pods)
        return () if self.stop or self.refusal or failed else self.pending

    @property
    def statefulsets(self) -> frozenset[str]:
        """Those of its pods."""
        return frozenset(pod.statefulset for pod in self.pods)

    @property
    def begun(self) -> bool:
        """Whether any pod's turn has come."""
        return any(pod.began_at is not None for pod in self.pods)

    def pod(self, name: str) -> PodProgress:
        """The progress of a pod of this ticket."""
        return next(pod for pod in self.pods if pod.name == name)

    def with_pod(self, changed: PodProgress) -> RestartTicket:
        """The ticket with one pod's progress changed."""
        pods = tuple(changed if pod.name == changed.name else pod for pod in self.pods)
        return replace(self, pods=pods)

    def remembered(self, key: str) -> Remembered | None:
        """What is remembered of a setting; None where nothing is."""
        return next((each for each in self.settings if each.key == key), None)

    def with_setting(self, changed: Remembered) -> RestartTicket:
        """The ticket with one remembered setting changed."""
        settings = tuple(changed if each.key == changed.key else each for each in self.settings)
        return replace(self, settings=settings)

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        document: dict[str, Any] = plain(self)
        return document

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(self.as_document(), separators=(",", ":"), ensure_ascii=False)


def ticket_from(document: object) -> RestartTicket:
    """Return the ticket of a document or its JSON text; CaseError where it is none of ours.

    A ticket of a newer version is not guessed at: it may promise what this code does not know.
    """
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError as error:
            raise CaseError(f"$: a ticket that is no JSON ({error})", target="$") from None
    if not isinstance(document, Mapping):
        raise CaseError(f"$: expected a ticket, found {document!r}", target="$")
    version = document.get("version")
    if version != VERSION:
        raise CaseError(
            f"$.version: this caretaker writes version {VERSION}, found {version!r}",
            target="$.version",
        )
    return restored(RestartTicket, document)


def _under_way(pod: PodProgress) -> bool:
    return pod.state is not DecommissionState.PENDING and pod.state not in ENDED


def _given_up(pod: PodProgress) -> bool:
    managed = pod.strategy is DecommissionStrategy.KUBERNETES_MANAGED
    deleted = pod.deleted_at is not None and pod.out_at is None
    return managed and deleted and pod.state is DecommissionState.FAILED
