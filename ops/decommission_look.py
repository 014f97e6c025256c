"""Fills the observation that the core judges, from Kubernetes and CrateDB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from caretaker.decommission.model import (
    CallState,
    CrateSeen,
    DrainCall,
    KubeSeen,
    Observation,
    PodSeen,
    WindowVerdict,
)
from caretaker.decommission.ticket import DecommissionState, RestartTicket
from caretaker.decommission.turns import next_pod, poll_order
from caretaker.decommission.windows import ClusterWindows, verdict_for
from caretaker.errors import CaretakerError, FencedError
from ops.decommission_way import Crates
from resources.clock import Clock
from resources.cratedb.client import CrateDBClient
from resources.cratedb.restarts import Slow, look, slow_look, takes_requests
from resources.kubernetes.looking import ClusterLook
from resources.state_store import StateStore

#: What moves slowly is asked for again after this while a drain goes on.
SLOW_EVERY_S = 10.0

#: Pods through which CrateDB is asked before a look gives up on it.
_TRIES = 2

#: A picture of the pods is taken again where CrateDB's slow answers came so much later.
_GROWS_OLD_S = 1.0

_DECIDING = frozenset({DecommissionState.PENDING, DecommissionState.PREPARING})


@dataclass
class Looker:
    """Looks at one cluster; what cannot be read is None in the observation, with the reason."""

    look: ClusterLook
    crates: Crates
    store: StateStore
    clock: Clock
    cluster_id: str
    windows: dict[str, ClusterWindows] = field(default_factory=dict)
    #: The pod in which changes are made by exec, as of the last look; '' for the address.
    through: str = ""
    #: The pod in which a change came to nothing last: another one is taken where there is one.
    shunned: str = ""
    #: Monotonic time since which all was seen that may change from one second to the next.
    looked_at: float = float("-inf")
    _slow: Slow | None = None
    _slow_at: float = float("-inf")

    def observe(self, ticket: RestartTicket, call: DrainCall | None = None) -> Observation:
        """Look once at everything."""
        began = self.looked_at = self.clock.monotonic()
        deciding = ticket.current is None or ticket.current.state in _DECIDING
        kube, kube_error = self._kube(ticket, fresh=deciding)
        if not deciding and self._may_be_sent_again(ticket, kube, call):
            deciding = True
            kube, kube_error = self._kube(ticket, fresh=True)
        crate, crate_error = self._crate(ticket, kube, fresh=deciding)
        if self.looked_at - began > _GROWS_OLD_S:
            # Its watches went on meanwhile.
            kube, kube_error = self._kube(ticket, fresh=False)
        if deciding and kube is not None and crate is not None:
            kube, kube_error = self._may_go(ticket, kube, crate)
        if crate is not None and kube is not None:
            crate = self._probed(ticket, kube, crate)
        open_tickets, store_error = self._open_tickets()
        return Observation(
            kube=kube,
            crate=crate,
            call=call,
            window=self.window(ticket, self.clock.now()),
            open_tickets=open_tickets,
            at=self.clock.now(),
            kube_error=kube_error,
            crate_error=crate_error,
            store_error=store_error,
        )

    def window(self, ticket: RestartTicket, now: datetime) -> WindowVerdict | None:
        """Say whether the cluster's maintenance window is open."""
        return verdict_for(self.windows, ticket.cluster, now, ticket.statefulsets)

    def _may_be_sent_again(
        self, ticket: RestartTicket, kube: KubeSeen | None, call: DrainCall | None
    ) -> bool:
        """Whether this look may decide that what takes the node out is sent another time."""
        current = ticket.current
        pod = kube.pod(current.name) if kube is not None and current is not None else None
        if current is None or pod is None or pod.uid != current.uid or pod.deletion_at is not None:
            return False
        drain = current.drain
        if drain is None:
            return current.deleted_at is not None
        nobody_waits = call is None or call.state is not CallState.RUNNING
        serves = drain.serving_since is not None or not self.crates.execs
        return nobody_waits and serves and drain.returned_at is None

    def _kube(self, ticket: RestartTicket, *, fresh: bool) -> tuple[KubeSeen | None, str]:
        current = ticket.current
        told = [current.name] if current is not None and current.deleted_at is not None else []
        try:
            return self.look.seen(fresh=fresh, events_of=told), ""
        except FencedError:
            raise
        except CaretakerError as error:
            return None, error.sentence

    def _may_go(
        self, ticket: RestartTicket, kube: KubeSeen, crate: CrateSeen
    ) -> tuple[KubeSeen | None, str]:
        """Ask, by an eviction that is not carried out, whether the next pod may go."""
        candidate = ticket.current or next_pod(ticket.pending, crate)
        pod = kube.pod(candidate.name) if candidate is not None else None
        if pod is None:
            return kube, ""
        try:
            answer = self.crates.kube.may_evict(pod.name, pod.namespace, uid=pod.uid)
        except CaretakerError as error:
            answer = error.sentence
        return replace(kube, evictions={pod.name: answer}), ""

    def _crate(
        self, ticket: RestartTicket, kube: KubeSeen | None, *, fresh: bool
    ) -> tuple[CrateSeen | None, str]:
        """Ask CrateDB by its address, or through a node that is not next in line."""
        current = ticket.current
        own = current.node_name if current is not None and current.drain is not None else ""
        ask, address = self._asked(own, fresh=fresh), self.crates.address
        execs = address is None or self.crates.execs
        pods = poll_order(ticket, Observation(kube, None)) if kube is not None and execs else []
        why = "no other pod of it is Ready"
        if address is not None:
            willing = [pod for pod in pods if pod != self.shunned] or pods
            self.through = "" if self.crates.direct is not None else next(iter(willing), "")
            found, why = self._told(lambda: ask(address))
            if found is not None:
                return found, ""
        for pod in pods[:_TRIES]:
            self.through = pod
            found, why = self._told(lambda pod=pod: ask(self.crates.in_pod(pod)))  # type: ignore[misc]
            if found is not None:
                return found, ""
        return None, why

    def _asked(self, own: str, *, fresh: bool) -> Callable[[CrateDBClient], CrateSeen]:
        def ask(client: CrateDBClient) -> CrateSeen:
            old = self.clock.monotonic() - self._slow_at > SLOW_EVERY_S
            if self._slow is None or fresh or old:
                self._slow = slow_look(client)
                self._slow_at = self.clock.monotonic()
            # What moves slowly may be slow to read: it alone must not make a look too old.
            self.looked_at = self.clock.monotonic()
            seen = look(client, own, self._slow)
            may = bool(self.crates.execs) or self._slow.superuser
            return replace(seen, can_decommission=may)

        return ask

    def _told(self, ask: Callable[[], CrateSeen]) -> tuple[CrateSeen | None, str]:
        try:
            seen = ask()
        except FencedError:
            raise
        except CaretakerError as error:
            return None, error.sentence
        if seen.cluster_id != self.cluster_id:
            return None, f"another cluster answered: {seen.cluster_id}, not {self.cluster_id}"
        return seen, ""

    def _probed(self, ticket: RestartTicket, kube: KubeSeen, crate: CrateSeen) -> CrateSeen:
        """Ask the node under way whether it takes requests, by exec in its own pod."""
        current = ticket.current
        if current is None or current.drain is None or not self.crates.execs:
            return crate
        pod = kube.pod(current.name)
        node = crate.node(name=current.node_name, pod=current.name)
        if node is None or pod is None or not _can_be_asked(pod, current.uid):
            return crate
        serves = takes_requests(self.crates.probe(pod.name))
        probed = replace(node, draining=None if serves is None else not serves)
        nodes = tuple(probed if each.id == node.id else each for each in crate.nodes)
        return replace(crate, nodes=nodes)

    def _open_tickets(self) -> tuple[tuple[str, ...] | None, str]:
        try:
            found = self.store.open_tickets(self.cluster_id)
        except CaretakerError as error:
            return None, error.sentence
        return tuple(str(each.target) for each in found), ""


def _can_be_asked(pod: PodSeen, uid: str) -> bool:
    return pod.uid == uid and pod.container is not None and pod.container.running
