"""CrateDB as far as a drain goes, in simulated time: shards, settings, nodes that leave and join.

The rules are those of the fact pages (cratedb-live.md, cratedb-on-kubernetes-live.md): the drain's
success is a colour and nothing on the move, not an empty node; the exit comes 5 s after the
return; RESET clears both levels; `primaries` keeps replicas from coming back.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from caretaker.decommission.cluster_settings import (
    ALLOCATION,
    DEFAULTS,
    FORCE,
    KEYS,
    MIN_AVAILABILITY,
    TIMEOUT,
)
from caretaker.decommission.model import CrateSeen, NodeSeen, SoleCopy
from caretaker.identifiers import SqlValue

BEGAN = datetime(2026, 1, 15, 2, 0, tzinfo=UTC)

MOVE_S, RECOVER_S, EXIT_S, REREAD_S = 0.3, 0.5, 5.0, 5.0


class Timeline:
    """Simulated time: nothing happens but by an event."""

    def __init__(self) -> None:
        self.t = 0.0
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.watchers: list[Callable[[], None]] = []

    @property
    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.t)

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.t + delay_s, next(self._numbers), what))

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything that falls into it."""
        end = self.t + seconds
        while self._events and self._events[0][0] <= end:
            self.t, _, what = heapq.heappop(self._events)
            what()
            for watcher in self.watchers:
                watcher()
        self.t = end


@dataclass
class Shard:
    """One shard: its primary, its replicas by node, and who has the last copy on disk."""

    table: str
    number: int
    wanted: int
    primary: str | None
    replicas: dict[str, str] = field(default_factory=dict)
    lost_on: str | None = None
    moving_from: str | None = None

    @property
    def started_on(self) -> list[str]:
        on = [node for node, state in self.replicas.items() if state == "STARTED"]
        return ([self.primary] if self.primary else []) + on

    def on(self, node: str) -> bool:
        return node == self.primary or node in self.replicas


@dataclass
class Node:
    """A CrateDB process that is, or was, in the cluster."""

    name: str
    pod: str
    member: bool = True
    draining: bool = False
    drain: int = 0
    returned: bool = False
    departures: int = 0


@dataclass
class Call:
    """A DECOMMISSION statement that somebody waits for, or has stopped to wait for."""

    node: str
    done: bool = False
    at: datetime | None = None
    error: str = ""


class Crate:
    """The cluster. `on_exit(node, code)` tells the kubelet that a process has ended."""

    def __init__(self, time: Timeline, nodes: list[Node], on_exit: Callable[[Node, int], None]):
        self.time = time
        self.nodes = {node.name: node for node in nodes}
        self.on_exit = on_exit
        self.shards: list[Shard] = []
        self.persistent: dict[str, SqlValue] = {}
        self.transient: dict[str, SqlValue] = {}
        self.master = nodes[-1].name
        self.move_s = MOVE_S
        self.snapshots = 0
        #: Nodes whose drain hangs although they are empty; nodes with a query that does not end.
        self.hung: set[str] = set()
        self.busy: set[str] = set()
        self.force_is_ignored = True
        #: Nodes that give their drain up after its return, and serve again.
        self.gives_up: set[str] = set()
        #: Nodes that hang whatever the timeout says.
        self.deaf: set[str] = set()

    # --- settings ---------------------------------------------------------------------------------

    def effective(self, key: str) -> SqlValue:
        return self.transient.get(key, self.persistent.get(key, DEFAULTS[key]))

    def set_global(self, key: str, value: SqlValue, *, persistent: bool) -> None:
        (self.persistent if persistent else self.transient)[key] = value
        self.allocate()

    def reset_global(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            self.persistent.pop(key, None)
            self.transient.pop(key, None)
        self.allocate()

    # --- allocation -------------------------------------------------------------------------------

    def table(self, name: str, shards: int = 3, replicas: int = 1) -> None:
        """Put a table on the cluster, its copies started."""
        names = list(self.nodes)
        for number in range(shards):
            at = number % len(names)
            others = [names[(at + n) % len(names)] for n in range(1, replicas + 1)]
            self.shards.append(
                Shard(name, number, replicas, names[at], dict.fromkeys(others, "STARTED"))
            )

    def allocate(self) -> None:
        """Assign what may be assigned now."""
        for shard in self.shards:
            if shard.primary is None and shard.lost_on is not None:
                if self.nodes[shard.lost_on].member:
                    self.time.after(0.2, partial(self._reopen, shard))
            elif shard.primary is not None and self.effective(ALLOCATION) == "all":
                self._replicate(shard)

    def _reopen(self, shard: Shard) -> None:
        if shard.primary is None and shard.lost_on and self.nodes[shard.lost_on].member:
            shard.primary, shard.lost_on = shard.lost_on, None
            self.allocate()

    def _replicate(self, shard: Shard) -> None:
        while len(shard.replicas) < shard.wanted:
            free = [n for n in self._takers() if not shard.on(n)]
            if not free:
                return
            target = min(free, key=lambda n: (sum(s.on(n) for s in self.shards), n))
            shard.replicas[target] = "INITIALIZING"
            self.time.after(RECOVER_S, partial(_start, shard, target))

    def _takers(self) -> list[str]:
        return [node.name for node in self.nodes.values() if node.member and not node.draining]

    # --- a drain ----------------------------------------------------------------------------------

    def decommission(self, name: str) -> Call:
        """Begin, or join, the drain of a node; the call is done when the statement returns."""
        node = self.nodes[name]
        call = Call(name)
        if not node.draining:
            node.draining, node.returned = True, False
            node.drain += 1
            drain, since = node.drain, self.time.t
            self.time.after(0.01, lambda: self._drain(node, drain, since))
        self.time.after(0.02, lambda: self._answer(node, node.drain, call))
        return call

    def _answer(self, node: Node, drain: int, call: Call) -> None:
        """Answer a statement once the drain is over, or the node is."""
        if not node.member or node.drain != drain:
            call.error, call.done, call.at = "NodeDisconnectedException", True, self.time.now
        elif node.returned or not node.draining:
            call.done, call.at = True, self.time.now
        else:
            self.time.after(0.1, lambda: self._answer(node, drain, call))

    def _drain(self, node: Node, drain: int, since: float) -> None:
        if not self._is(node, drain):
            return
        need = str(self.effective(MIN_AVAILABILITY)).upper()
        if need in {"FULL", "PRIMARIES"} and self._move_one(node, everything=need == "FULL"):
            if self.time.t - since >= self._timeout_s():
                if not (self.effective(FORCE) or self.force_is_ignored):
                    node.draining = False
                    return
            else:
                self.time.after(self.move_s, lambda: self._drain(node, drain, since))
                return
        node.returned = True
        self._wait_for_requests(node, drain, self.time.t)

    def _move_one(self, node: Node, *, everything: bool) -> bool:
        """Move one shard away; whether there was one that could be."""
        mode = self.effective(ALLOCATION)
        for shard in self.shards:
            free = [n for n in self._takers() if not shard.on(n)]
            if not free:
                continue
            if shard.primary == node.name and mode in {"all", "primaries"}:
                self._relocate(shard, node.name, free[0])
                return True
            if everything and shard.replicas.get(node.name) == "STARTED" and mode == "all":
                self._relocate(shard, node.name, free[0])
                return True
        return False

    def _relocate(self, shard: Shard, source: str, target: str) -> None:
        if shard.moving_from is not None:
            return
        shard.moving_from = source
        self.time.after(self.move_s * 0.9, lambda: self._arrive(shard, source, target))

    def _arrive(self, shard: Shard, source: str, target: str) -> None:
        shard.moving_from = None
        if not self.nodes[target].member or shard.on(target):
            return
        if shard.primary == source:
            shard.primary = target
        elif shard.replicas.pop(source, None):
            shard.replicas[target] = "STARTED"

    def _wait_for_requests(self, node: Node, drain: int, since: float) -> None:
        if not self._is(node, drain):
            return
        if node.name in self.gives_up:
            node.draining = False
            self.allocate()
        elif node.name in self.deaf:
            self.time.after(REREAD_S, lambda: self._wait_for_requests(node, drain, since))
        elif node.name not in self.hung | self.busy:
            self.time.after(EXIT_S, lambda: self._exit(node, drain))
        elif self.time.t - since >= self._timeout_s():
            if self.effective(FORCE):
                self._exit(node, drain)
            else:
                node.draining = False
                self.allocate()
        else:
            self.time.after(REREAD_S, lambda: self._wait_for_requests(node, drain, since))

    def _exit(self, node: Node, drain: int) -> None:
        if self._is(node, drain):
            self.leave(node)
            self.on_exit(node, 0)

    def _is(self, node: Node, drain: int) -> bool:
        return node.member and node.draining and node.drain == drain

    def _timeout_s(self) -> float:
        text = str(self.effective(TIMEOUT))
        return float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])

    # --- members ----------------------------------------------------------------------------------

    def leave(self, node: Node) -> None:
        """A process has ended: others are promoted where there are others."""
        if not node.member:
            return
        node.member, node.draining = False, False
        node.departures += 1
        node.drain += 1
        self.hung.discard(node.name)
        self.deaf.discard(node.name)
        for shard in self.shards:
            shard.replicas.pop(node.name, None)
            if shard.moving_from == node.name:
                shard.moving_from = None
            if shard.primary == node.name:
                started = [n for n, state in shard.replicas.items() if state == "STARTED"]
                shard.primary = started[0] if started else None
                if started:
                    shard.replicas.pop(started[0])
                else:
                    shard.lost_on = node.name
        if self.master == node.name:
            self.master = next(n.name for n in self.nodes.values() if n.member)
        self.allocate()

    def join(self, node: Node) -> None:
        node.member, node.draining = True, False
        self.allocate()

    # --- what is to be seen -----------------------------------------------------------------------

    @property
    def missing(self) -> int:
        return sum(shard.primary is None for shard in self.shards)

    @property
    def under(self) -> int:
        return sum(
            max(0, shard.wanted - list(shard.replicas.values()).count("STARTED"))
            for shard in self.shards
        )

    @property
    def health(self) -> str:
        return "RED" if self.missing else "YELLOW" if self.under else "GREEN"

    def sole(self) -> Iterator[SoleCopy]:
        for shard in self.shards:
            if len(shard.started_on) == 1:
                yield SoleCopy(shard.table, shard.number, f"id-{shard.started_on[0]}")

    def seen(self, *, probes: bool = True) -> CrateSeen:
        """One look, through whichever node."""
        nodes = tuple(
            NodeSeen(
                id=f"id-{node.name}",
                name=node.name,
                hostname=node.pod,
                draining=node.draining if probes else None,
                primaries=sum(shard.primary == node.name for shard in self.shards),
                copies=sum(shard.on(node.name) for shard in self.shards),
                jobs=1 if node.name in self.busy else 0,
                disk_total_bytes=100,
                disk_used_bytes=40,
            )
            for node in self.nodes.values()
            if node.member
        )
        return CrateSeen(
            cluster_id="c1",
            nodes=nodes,
            master_node=f"id-{self.master}",
            health=self.health,
            missing_shards=self.missing,
            underreplicated_shards=self.under,
            relocating=sum(shard.moving_from is not None for shard in self.shards),
            initializing=sum(
                state == "INITIALIZING" for s in self.shards for state in s.replicas.values()
            ),
            settings={key: self.effective(key) for key in KEYS},
            sole=tuple(self.sole()),
            running_snapshots=self.snapshots,
        )


def _start(shard: Shard, target: str) -> None:
    if shard.replicas.get(target) == "INITIALIZING":
        shard.replicas[target] = "STARTED"
