"""Carries out one action of the core: sent once, audited and fenced, and answered for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from caretaker.decommission.model import CallState, DrainCall
from caretaker.decommission.steps import (
    Action,
    Answer,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    SetGlobal,
    Verdict,
    describe,
)
from caretaker.errors import (
    CaretakerError,
    FencedError,
    RefusedError,
    TransientError,
    UnknownResultError,
)
from ops.decommission_way import Crates
from resources.clock import Clock
from resources.cratedb.client import CrateDBClient
from resources.kubernetes.client import KubernetesClient
from resources.sql import cratedb as sql
from resources.sql.cratedb import Statement
from resources.state_store import RestartRow, StateStore

_CONFLICT, _NOT_FOUND = 409, 404


class StaleError(TransientError):
    """The look on which an effect was decided is too old by now: nothing was sent."""


@dataclass
class Calls:
    """The DECOMMISSION that this process has sent, by restart; it outlives the step that sent it.

    A drain is deleted in the five seconds after its return, by another step than the one that
    began it: both run in one process.
    """

    _by_restart: dict[int, DrainCall] = field(default_factory=dict)

    def of(self, restart_id: int) -> DrainCall | None:
        """Return what has become of it."""
        return self._by_restart.get(restart_id)

    def note(self, restart_id: int, call: DrainCall) -> None:
        """Remember what has become of it; an older call's end is no news."""
        known = self._by_restart.get(restart_id)
        if known is None or known.sent_at <= call.sent_at:
            self._by_restart[restart_id] = call


CALLS = Calls()


@dataclass
class Performer:
    """The hands of a restart."""

    crates: Crates
    store: StateStore
    clock: Clock
    namespace: str
    calls: Calls = field(default_factory=lambda: CALLS)

    def begin(self, action: Action, held: RestartRow) -> int:
        """Write down what is about to be sent, and return the entry's number."""
        return self.store.begin_effect(held, describe(action))

    def perform(
        self, action: Action, held: RestartRow, entry: int, *, through: str, good_until: float
    ) -> Answer:
        """Carry out an effect and return what came back; only FencedError is raised.

        Args:
            action: An effect.
            held: The restart, for whose epoch it is sent.
            entry: What `begin` has returned for it.
            through: The pod in which changes are made by exec; '' for the address.
            good_until: Monotonic time until which the look behind the action is good.

        """
        result, answer = "unknown", Answer(Verdict.UNKNOWN, "interrupted")
        try:
            answer = self._answer(action, held, through, good_until)
            result = answer.verdict.value
        finally:
            self._audit(entry, result, answer.reason)
        return answer

    def _answer(self, action: Action, held: RestartRow, through: str, good_until: float) -> Answer:
        def still_good() -> None:
            self.store.check_restart(held)
            # Last: whoever is suspended while the store answers must notice.
            if self.clock.monotonic() > good_until:
                raise StaleError("the look had grown too old when all was ready: not sent")

        try:
            if isinstance(action, DecommissionNode):
                self._start(action, held, through, still_good)
            elif isinstance(action, DeletePod):
                self.crates.kube.delete_pod(
                    action.pod,
                    self.namespace,
                    uid=action.uid,
                    grace_s=action.grace_s,
                    resource_version=action.resource_version,
                    just_before=still_good,
                )
            elif isinstance(action, SetGlobal | ResetGlobal):
                client = self._sql(through)
                client.change(
                    _statement(action), timeout_s=action.timeout_s, just_before=still_good
                )
            else:
                raise TypeError(f"{action!r} is no effect")
        except FencedError:
            raise
        except CaretakerError as error:
            return answer_of(error)
        return Answer(Verdict.DONE)

    def _sql(self, through: str) -> CrateDBClient:
        """Return whom to send a change to."""
        if through:
            return self.crates.in_pod(through)
        if self.crates.direct is None:
            raise TransientError("no pod answers for CrateDB")
        return self.crates.direct

    def _start(
        self,
        action: DecommissionNode,
        held: RestartRow,
        through: str,
        still_good: Callable[[], None],
    ) -> None:
        """Send DECOMMISSION from a thread of its own, to the very pod that is meant."""
        pod = self.crates.kube.pod(action.pod, self.namespace, container=self.crates.container)
        container = pod.container
        if (
            pod.uid != action.uid
            or pod.deletion_at is not None
            or container is None
            or container.restart_count != action.restart_count
        ):
            raise StaleError(f"pod {action.pod} has changed meanwhile: not sent")
        still_good()
        self.calls.note(held.id, _call(action, CallState.RUNNING))
        threading.Thread(
            target=self._decommission,
            args=(action, held, None if through else self.crates.direct, still_good),
            name=f"decommission-{action.pod}",
            daemon=True,
        ).start()

    def _decommission(
        self,
        action: DecommissionNode,
        held: RestartRow,
        direct: CrateDBClient | None,
        still_good: Callable[[], None],
    ) -> None:
        state, reason = CallState.RETURNED, ""
        statement = sql.decommission(action.node_name)
        try:
            if direct is not None:
                with CrateDBClient(direct.settings) as client:
                    client.change(statement, timeout_s=action.timeout_s, just_before=still_good)
            else:
                with KubernetesClient(self.crates.kube.settings) as kube:
                    kube.crate(action.pod, self.namespace, container=self.crates.container).change(
                        statement, timeout_s=action.timeout_s, just_before=still_good
                    )
        except RefusedError as error:
            state, reason = CallState.REFUSED, error.sentence
        except TransientError as error:
            state, reason = CallState.NOT_SENT, error.sentence
        except CaretakerError as error:
            state, reason = CallState.UNKNOWN, error.sentence
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            state, reason = CallState.UNKNOWN, repr(error)
        self.calls.note(
            held.id,
            DrainCall(action.node_name, state, action.sent_at, self.clock.now(), reason),
        )

    def _audit(self, entry: int, result: str, reason: str) -> None:
        """Write what came back; a store that fails here must not pass for the cluster's answer."""
        try:
            self.store.end_effect(entry, result, reason)
        except CaretakerError:
            return


def answer_of(error: CaretakerError) -> Answer:
    """Return what an error says about an effect."""
    if isinstance(error, UnknownResultError):
        return Answer(Verdict.UNKNOWN, error.sentence)
    if isinstance(error, RefusedError):
        gone = {_CONFLICT: Verdict.CONFLICT, _NOT_FOUND: Verdict.GONE}
        verdict = gone.get(error.status or 0) if error.code is None else None
        return Answer(verdict or Verdict.REFUSED, error.sentence)
    return Answer(Verdict.NOT_SENT, error.sentence)


def _statement(action: SetGlobal | ResetGlobal) -> Statement:
    if isinstance(action, ResetGlobal):
        return sql.reset_global(action.keys)
    return sql.set_global(action.key, action.value, persistent=action.persistent)


def _call(action: DecommissionNode, state: CallState) -> DrainCall:
    return DrainCall(action.node_name, state, action.sent_at)
