"""A world with rules: the cluster, the loop that restarts it, its deaths, and a witness.

The loop is the one that `caretaker/decommission/steps.py` describes; it may die at every touch of
the world or the store. The witness looks after every single event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from caretaker.decommission.cluster_settings import DEFAULTS
from caretaker.decommission.events import RestartEvent
from caretaker.decommission.model import (
    CallState,
    ClusterRef,
    DrainCall,
    Observation,
    WindowVerdict,
)
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.restart import after, begin, next_step, resumed
from caretaker.decommission.steps import (
    LOOK_AGAIN_S,
    Action,
    Answer,
    Await,
    Conclude,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    RestartOutcome,
    SetGlobal,
    Verdict,
)
from caretaker.decommission.ticket import RestartTicket, ticket_from
from tests.decommission.simulated_crate import Call, Timeline
from tests.decommission.simulated_kube import DC_UTIL, NAMESPACE, Kube, Pod, restricted

PROD = ClusterRef(NAMESPACE, "prod", "c1")

#: The pod that most cases of one are about.
POD_2 = "crate-data-hot-prod-2"

#: Of a restart that is not over.
NOT_YET = Conclude(RestartOutcome.FAILED, "not concluded")

#: Of an effect whose look was too old when it was to leave.
TOO_OLD = Answer(Verdict.NOT_SENT, "the look had grown too old")

#: No restart of the simulation takes so many looks; a loop that does is one that does not end.
MOST_LOOKS = 20_000


class KilledError(Exception):
    """kill -9."""


class Broken(AssertionError):  # noqa: N818 - a promise is broken
    """A promise that was not kept."""


@dataclass
class World:
    """The cluster, and what was promised about it."""

    size: int = 3
    hook: tuple[str, ...] | None = None
    #: Shards may be missing, and nodes leave more than once: the test does that itself.
    excused: bool = False
    time: Timeline = field(default_factory=Timeline)

    def __post_init__(self) -> None:
        self.kube = Kube(self.time, self.size, hook=self.hook)
        self.crate = self.kube.crate
        self.crate.table("doc.metrics", shards=2 * self.size, replicas=1)
        self.crate.table("doc.single", shards=self.size, replicas=0)
        self.kube.before_delete = self._a_delete
        self.time.watchers.append(self._look)
        self.worst_down = 0
        self.deletes: list[str] = []
        self.masters: list[str] = []
        self.kube_away = self.crate_away = False
        self.lag_s = 0.0
        self.look_takes_s = 0.05
        self.probes = True
        self.window: WindowVerdict | None = None
        self.open_tickets: tuple[str, ...] = ()
        self.promise()

    def promise(self) -> None:
        """What is now is what must be again."""
        self.before = {key: self.crate.effective(key) for key in self.crate.seen().settings}
        self.persistent_before = dict(self.crate.persistent)
        self.uids = {pod.name: pod.uid for pod in self.kube.pods.values()}

    @property
    def pods(self) -> list[str]:
        return sorted(self.uids)

    @property
    def down(self) -> int:
        here = [self.kube.pods.get(name) for name in self.uids]
        return sum(pod is None or not pod.node.member or not pod.running for pod in here)

    def _look(self) -> None:
        self.worst_down = max(self.worst_down, self.down)
        if self.excused:
            return
        if self.down > 1:
            raise Broken(f"{self.down} pods are down at {self.time.t:.1f} s")
        if self.crate.missing:
            raise Broken(f"{self.crate.missing} shards are missing at {self.time.t:.1f} s")
        twice = [n.name for n in self.crate.nodes.values() if n.departures > 1]
        if twice:
            raise Broken(f"restarted twice: {twice}")

    def _a_delete(self, pod: Pod, grace_s: int) -> None:
        self.deletes.append(pod.name)
        if self.hook is not None:
            if grace_s < 780:
                raise Broken(f"{pod.name} was deleted with a grace of {grace_s} s only")
            return
        if pod.node.member and not pod.node.draining:
            raise Broken(f"{pod.name} was deleted while its node serves")
        needs = [copy for copy in self.crate.sole() if copy.node_id == f"id-{pod.node.name}"]
        if pod.node.member and needs:
            raise Broken(f"{pod.name} was deleted with the only copy of {needs[0]}")
        if any(shard.lost_on == pod.node.name for shard in self.crate.shards):
            raise Broken(f"{pod.name} was deleted while the cluster misses its data")

    def observe(self, call: DrainCall | None) -> Observation:
        """One look."""
        self.time.advance(self.look_takes_s)
        return Observation(
            kube=None if self.kube_away else self.kube.seen(self.lag_s),
            crate=None if self.crate_away else self.crate.seen(probes=self.probes),
            call=call,
            window=self.window,
            open_tickets=self.open_tickets,
            at=self.time.now,
            kube_error="connection refused" if self.kube_away else "",
            crate_error="connection refused" if self.crate_away else "",
        )

    def come_back(self, which: str) -> None:
        """Let Kubernetes or CrateDB answer again."""
        setattr(self, which, False)

    def check_settings(self) -> None:
        """The four settings are what they were, on the level on which they were."""
        now = {key: self.crate.effective(key) for key in self.before}
        if now != self.before:
            raise Broken(f"settings were {self.before}, are {now}")
        # A persistent value that is the default cannot be told from none: it is not looked for.
        was, is_now = (
            {key: value for key, value in each.items() if value != DEFAULTS[key]}
            for each in (self.persistent_before, self.crate.persistent)
        )
        if was != is_now:
            raise Broken(f"persistent were {was}, are {is_now}")

    def check_restarted(self, names: Sequence[str]) -> None:
        """Each of these has left once and is back, and nobody else has left."""
        left = {n.pod for n in self.crate.nodes.values() if n.departures}
        if left != set(names):
            raise Broken(f"{sorted(names)} should have been restarted, {sorted(left)} were")
        if self.crate.health != "GREEN" or self.down or restricted(self.crate):
            raise Broken(f"in the end {self.crate.health}, {self.down} down")


@dataclass
class Trouble:
    """What befalls effects, by their number: applied or not, answered or not."""

    at: int
    kind: str
    count: int = 1


@dataclass
class Runner:
    """The loop of `ops`, in its smallest form. `touch` is told of each step, and may kill."""

    world: World
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    #: The store: what survives a kill.
    stored: str = ""
    touch: Callable[[str], None] = lambda _: None
    troubles: list[Trouble] = field(default_factory=list)
    effects: list[Action] = field(default_factory=list)
    waits: list[Await] = field(default_factory=list)
    events: list[RestartEvent] = field(default_factory=list)
    conclusion: Conclude = NOT_YET
    between: Callable[[Runner], None] = lambda _: None
    looks: int = 0
    answers: Callable[[Action], Answer | None] = lambda _: None
    call_error: str = ""

    def __post_init__(self) -> None:
        self._call: Call | None = None
        self._sent_at: datetime | None = None
        self._read: tuple[str, RestartTicket] | None = None

    @property
    def ticket(self) -> RestartTicket:
        """What the store says; read once for each writing."""
        if self._read is None or self._read[0] != self.stored:
            self._read = (self.stored, ticket_from(json.loads(self.stored)))
        return self._read[1]

    def start(self, *pods: str) -> RestartOutcome:
        """Begin a restart of these pods, of all where none are named, and see it through."""
        kube = self.world.kube.seen()
        chosen = [pod for pod in kube.pods if not pods or pod.name in pods]
        self._save(begin(PROD, chosen, kube, self.policy, self.world.time.now))
        return self.run()

    def take_over(self) -> RestartOutcome:
        """Go on after a kill: the call is lost, the ticket is not."""
        self._call = None
        self._save(resumed(self.ticket, self.world.time.now))
        return self.run()

    def run(self) -> RestartOutcome:
        """Observe, ask, remember, act, remember; until there is nothing left to do."""
        world = self.world
        while True:
            self.looks += 1
            if self.looks > MOST_LOOKS:
                raise Broken("the restart does not come to an end")
            self.between(self)
            looked_at = world.time.t
            seen = world.observe(self._drain_call())
            step = next_step(seen, self.ticket, self.ticket.policy, world.time.now)
            self.touch("decided")
            self._save(step.ticket)
            self.events += step.events
            for event in step.events:
                event.sentence()
            self.touch("remembered")
            if isinstance(step.action, Conclude):
                self.conclusion = step.action
                return step.action.outcome
            if isinstance(step.action, Await):
                assert step.action.until is not None
                assert step.action.sentence(world.time.now)
                self.waits.append(step.action)
                world.time.advance(step.action.look_again_s)
                self.touch("waited")
                continue
            stale = world.time.t - looked_at > step.good_for_s
            answer = TOO_OLD if stale else self._perform(step.action)
            self.touch("performed")
            self._save(after(step.ticket, step.action, answer, world.time.now))
            self.touch("noted")
            if answer.verdict is not Verdict.DONE:
                world.time.advance(LOOK_AGAIN_S)

    def _save(self, ticket: RestartTicket) -> None:
        self.stored = ticket.to_json()
        # What a ticket says survives the store.
        assert self.ticket == ticket

    def _perform(self, action: Action) -> Answer:
        self.effects.append(action)
        given = self.answers(action)
        if given is not None:
            return given
        number = len(self.effects) - 1
        trouble = next((t for t in self.troubles if t.at <= number < t.at + t.count), None)
        self.world.time.advance(0.05)
        if trouble is None:
            return self._apply(action)
        if trouble.kind == "not sent":
            return Answer(Verdict.NOT_SENT, "429 Too Many Requests")
        if trouble.kind == "lost":
            return Answer(Verdict.UNKNOWN, "connection reset")
        if trouble.kind == "late":
            self.world.time.after(4.0, lambda: self._apply_late(action))
            return Answer(Verdict.UNKNOWN, "timed out")
        self._apply(action)
        if isinstance(action, DecommissionNode):
            self._call = None
        return Answer(Verdict.UNKNOWN, "connection reset")

    def _apply_late(self, action: Action) -> None:
        if not isinstance(action, DecommissionNode):
            self._apply(action)

    def _apply(self, action: Action) -> Answer:
        kube, crate = self.world.kube, self.world.crate
        if isinstance(action, SetGlobal):
            crate.set_global(action.key, action.value, persistent=action.persistent)
        elif isinstance(action, ResetGlobal):
            crate.reset_global(action.keys)
        elif isinstance(action, DeletePod):
            return kube.delete(
                action.pod,
                action.uid,
                action.grace_s,
                action.resource_version,
                force=action.force,
            )
        elif isinstance(action, DecommissionNode):
            pod = kube.pods.get(action.pod)
            if pod is None or pod.uid != action.uid or pod.restart_count != action.restart_count:
                return Answer(Verdict.NOT_SENT, "the pod is another one by now")
            if not pod.node.member:
                return Answer(Verdict.REFUSED, f"Node: '{action.node_name}' could not be found")
            self._call, self._sent_at = crate.decommission(action.node_name), action.sent_at
        return Answer(Verdict.DONE)

    def _drain_call(self) -> DrainCall | None:
        call, sent_at = self._call, self._sent_at
        if call is None or sent_at is None:
            return None
        if self.call_error:
            return DrainCall(
                call.node, CallState.REFUSED, sent_at, self.world.time.now, self.call_error
            )
        if not call.done:
            limit_s = self.policy.decommission_timeout_s
            if (self.world.time.now - sent_at).total_seconds() > limit_s:
                return DrainCall(call.node, CallState.UNKNOWN, sent_at, reason="our time-out")
            return DrainCall(call.node, CallState.RUNNING, sent_at)
        state = CallState.UNKNOWN if call.error else CallState.RETURNED
        return DrainCall(call.node, state, sent_at, call.at, call.error)


def a_world(strategy: str = "manual", size: int = 3, **changes: Any) -> World:
    """A cluster of that strategy."""
    return World(size, hook=DC_UTIL if strategy == "kubernetes_managed" else None, **changes)


def killed_when(runner: Runner, what: str, state: str) -> Runner:
    """Run until the pod under way has `state` set, at one touch, and die there."""

    def touch(touched: str) -> None:
        current = runner.ticket.current
        if touched == what and current is not None and getattr(current, state):
            raise KilledError

    runner.touch = touch
    with pytest.raises(KilledError):
        runner.start(POD_2)
    runner.touch = lambda _: None
    return runner
