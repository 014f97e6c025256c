"""The cluster as it is now, and what falls due in it as the clock runs."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator

from lab.cratedb import replicas
from lab.cratedb.answers import unknown_relation, unknown_schema
from lab.cratedb.clock import Clock
from lab.cratedb.cluster_settings import ClusterSettings
from lab.cratedb.idents import Ids
from lab.cratedb.jobs import Job
from lab.cratedb.model import Node, Relation, Table
from lab.cratedb.rights import Rights
from lab.cratedb.snapshots import Snapshot

SYSTEM_SCHEMAS = ("sys", "information_schema", "pg_catalog")


class World:
    """Nodes, tables, settings and users behind one lock, moved by one clock.

    Everything that reads or changes it holds `lock`. `time` is the moment being lived through:
    while overdue events are worked off it is *their* time, so a clock that jumps keeps the order.
    """

    def __init__(
        self,
        *,
        nodes: int,
        lease_tick_s: float,
        recovery_s: float,
        version: str,
        cluster_name: str,
        clock: Clock,
        seed: int,
        node_prefix: str = "data-hot-",
    ) -> None:
        """Set up `nodes` empty nodes, the last of which is master."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.clock = clock
        self.time = clock.now()
        self.ids = Ids(seed)
        self.version = version
        self.cluster_name = cluster_name
        self.cluster_id = self.ids.short()
        self.lease_tick_s = lease_tick_s
        self.recovery_s = recovery_s
        self.relocation_s = recovery_s
        self.detection_s = 0.3
        self.boot_s = 1.0
        self.exit_delay_s = 5.0
        self.nodes = [Node(self.ids.short(), f"{node_prefix}{n}", n) for n in range(nodes)]
        self.master: str | None = self.nodes[-1].id
        self.masterless_since: float | None = None
        #: How many nodes were without a process at one moment, at most; tests reset it.
        self.most_out = 0
        #: True: somebody took the master away on purpose, and no election gives one back.
        self.master_dropped = False
        self.tables: dict[tuple[str, str], Table] = {}
        self.settings = ClusterSettings()
        self.rights = Rights()
        self.snapshots: list[Snapshot] = []
        self.jobs: dict[str, Job] = {}
        #: How often each node began to drain or died: an older drain must not end a newer life.
        self.drains: dict[str, int] = {}
        #: Nodes whose last drain is through; whoever asked for it hears so a moment later.
        self.drained: set[str] = set()
        #: Nodes whose drain hangs although they are empty (the counter of requests is spoilt).
        self.hung: set[str] = set()
        self.master_timeout_s = 30.0
        #: The lab has been stopped: whoever still waits for something gives up.
        self.closed = False
        self.state_version = 1
        self.pending_tasks = 0
        #: Relations with a copy that is not STARTED: the ones a reroute has to look at.
        self.unsettled: set[tuple[str, str, str]] = set()
        #: Relations whose leases the next tick may change.
        self.lease_work: set[tuple[str, str, str]] = set()
        #: When the allocator will look at a relation by itself.
        self.next_look: dict[tuple[str, str, str], float] = {}
        self.on_touch: list[Callable[[str, str], None]] = []
        self.on_replicas: list[Callable[[Relation | Table, str], None]] = []
        self.on_exit: list[Callable[[Node, int], None]] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # --- time -----------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Let `what` happen at lab time `when`."""
        heapq.heappush(self._due, (when, next(self._order), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Let `what` happen in `seconds` of the lab's time."""
        self.at(self.time + seconds, what)

    def advance(self) -> None:
        """Let everything happen that is due by now, in order."""
        with self.lock:
            now = self.clock.now()
            happened = False
            while self._due and self._due[0][0] <= now:
                when, _, what = heapq.heappop(self._due)
                self.time = max(self.time, when)
                what()
                happened = True
            self.time = max(self.time, now)
            if happened:
                self.changed.notify_all()

    @property
    def time_ms(self) -> int:
        """Return `time` as CrateDB shows timestamps."""
        return int(self.time * 1000)

    # --- nodes ----------------------------------------------------------------------------

    @property
    def members(self) -> list[Node]:
        """Return the nodes the master believes in."""
        return [node for node in self.nodes if node.member]

    def node(self, name_or_id: str) -> Node | None:
        """Return a member by id, or by name in any case."""
        for node in self.members:
            if node.id == name_or_id or node.name.lower() == name_or_id.lower():
                return node
        return None

    def node_by_id(self, node_id: str | None) -> Node | None:
        """Return a node by id, member or not."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        return None

    @property
    def out(self) -> int:
        """Return how many nodes have no process now."""
        return sum(not node.alive for node in self.nodes)

    @property
    def someone_died_unnoticed(self) -> bool:
        """Return whether a member's process is gone and the master has not noticed yet."""
        return any(node.member and not node.alive for node in self.nodes)

    # --- tables ---------------------------------------------------------------------------

    def table(self, schema: str, name: str) -> Table:
        """Return the table, or raise what CrateDB answers for one that is not there."""
        found = self.tables.get((schema, name))
        if found is not None:
            return found
        if schema not in {"doc", "blob"} and not any(s == schema for s, _ in self.tables):
            raise unknown_schema(schema)
        raise unknown_relation(f"{schema}.{name}")

    def relation(self, key: tuple[str, str, str]) -> Relation | None:
        """Return the relation of (schema, table, ident) if it still exists."""
        table = self.tables.get(key[:2])
        return table.relations.get(key[2]) if table else None

    def relations(self) -> Iterator[Relation]:
        """Yield every relation that has shards."""
        for table in self.tables.values():
            yield from table.relations.values()

    def touch(self, schema: str, table: str) -> None:
        """Say that something of this table is no longer as it was shown."""
        self.state_version += 1
        for listener in self.on_touch:
            listener(schema, table)

    def replicas_changed(self, what: Relation | Table, before: str) -> None:
        """Tell those who keep book that a number_of_replicas is no longer `before`."""
        for listener in self.on_replicas:
            listener(what, before)

    def wanted_replicas(self, text: str) -> int:
        """Return how many replicas `text` asks for with the nodes there are."""
        return replicas.effective(text, len(self.members))

    def open_shards(self) -> int:
        """Return how many shards count against cluster.max_shards_per_node."""
        return sum(
            len(relation.shards) * (1 + self.wanted_replicas(relation.replicas))
            for relation in self.relations()
            if not relation.closed
        )
