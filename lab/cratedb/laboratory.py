"""LabCrateDB: a whole cluster on loopback, made to be watched, broken and asked about."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from lab.cratedb import decommission, leases, tables
from lab.cratedb import replicas as replica_rules
from lab.cratedb.answers import CrateError
from lab.cratedb.catalog import Catalog
from lab.cratedb.clock import Clock
from lab.cratedb.commands import TYPE_NAMES
from lab.cratedb.engine import Engine
from lab.cratedb.handles import SAFE_COMMIT_LAG, Handle
from lab.cratedb.journal import Journal, ZeroLedger
from lab.cratedb.model import Column, Node, Table
from lab.cratedb.options import accept
from lab.cratedb.server import NodeServer
from lab.cratedb.world import World
from lab.faults import Faults

#: Real seconds between two looks at what has fallen due.
_HEARTBEAT_S = 0.02


class LabCrateDB:
    """A cluster of `nodes` nodes, one port each, that behaves as CrateDB 6.4.3 was seen to."""

    def __init__(
        self,
        nodes: int = 3,
        *,
        lease_tick_s: float = 30.0,
        recovery_s: float = 1.0,
        speed: float = 1.0,
        version: str = "6.4.3",
        cluster_name: str = "lab",
        ports: Sequence[int] | None = None,
        seed: int = 1,
        node_prefix: str = "data-hot-",
        master_timeout_s: float = 30.0,
        tls: tuple[str, str] | None = None,
    ) -> None:
        """Describe the cluster; `start` or `with` brings it up. Seconds are the lab's own."""
        self.clock = Clock(speed)
        self.world = World(
            nodes=nodes,
            lease_tick_s=lease_tick_s,
            recovery_s=recovery_s,
            version=version,
            cluster_name=cluster_name,
            clock=self.clock,
            seed=seed,
            node_prefix=node_prefix,
        )
        self.world.master_timeout_s = master_timeout_s
        self.catalog = Catalog(self.world)
        self.engine = Engine(self.world, self.catalog)
        self.journal = Journal()
        self.faults = Faults(self._refuse_or_serve)
        #: Called with (node name, exit code) when a node's process ends by itself.
        self.on_exit: list[Callable[[str, int], None]] = []
        self._zero = ZeroLedger()
        self._tls = _tls_context(tls)
        self._ports = list(ports or [0] * nodes)
        self._servers: dict[str, NodeServer] = {}
        self._servers_lock = threading.RLock()
        self._stop = threading.Event()
        self.world.on_replicas.append(self._zero.note)
        self.world.on_touch.append(self._forget_dropped)
        self.world.on_exit.append(self._exited)

    # --- life -----------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen on every port; raises OSError where one is taken."""
        for node in self.world.nodes:
            self._listen(node, self._ports[node.number])
        with self.world.lock:
            self.world.advance()
            self.world.after(self.world.lease_tick_s, lambda: leases.tick(self.world))
        threading.Thread(target=self._heartbeat, name="lab-clock", daemon=True).start()
        return self

    def stop(self) -> None:
        """Close every socket and let the catalog go."""
        self._stop.set()
        with self.world.lock:
            self.world.closed = True
            self.world.changed.notify_all()
        with self._servers_lock:
            for server in list(self._servers.values()):
                server.die(reset=False)
            self._servers.clear()
        self.catalog.close()

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _heartbeat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_S):
            self.world.advance()
            self._refuse_or_serve()

    def _listen(self, node: Node, port: int) -> None:
        server = NodeServer(port, node, self.engine, self.journal, self.faults, self._tls)
        node.port = int(server.server_address[1])
        self._servers[node.name] = server
        server.serve()

    def _refuse_or_serve(self) -> None:
        """Open and close listening sockets as nodes live, die and refuse."""
        if self._stop.is_set():
            return
        with self._servers_lock:
            for node in self.world.nodes:
                wanted = node.alive and not self.faults.refuses(node.name, node.number)
                listening = node.name in self._servers
                if listening and not wanted:
                    self._servers.pop(node.name).die(reset=True)
                elif wanted and not listening and node.port:
                    with contextlib.suppress(OSError):
                        self._listen(node, node.port)

    # --- where it is ----------------------------------------------------------------------

    @property
    def urls(self) -> list[str]:
        """Return the URL of every node, dead ones too."""
        scheme = "https" if self._tls is not None else "http"
        return [f"{scheme}://127.0.0.1:{node.port}" for node in self.world.nodes]

    @property
    def url(self) -> str:
        """Return the URL of the first node."""
        return self.urls[0]

    @property
    def connection_string(self) -> str:
        """Return all URLs, separated by commas."""
        return ",".join(self.urls)

    @property
    def nodes(self) -> list[str]:
        """Return the names of all nodes."""
        return [node.name for node in self.world.nodes]

    # --- asking ---------------------------------------------------------------------------

    def sql(
        self, stmt: str, args: Sequence[Any] | None = None, *, user: str = "crate"
    ) -> dict[str, Any]:
        """Run a statement without a socket, faults or journal; an error comes back as its body."""
        try:
            return self.engine.run(self.world.nodes[0], user, stmt, args or []).body(types=True)
        except CrateError as error:
            return error.body()

    # --- tables ---------------------------------------------------------------------------

    def table(
        self,
        name: str | tuple[str, str],
        *,
        shards: int = 4,
        replicas: str | None = None,
        sick_mb: float = 0,
        primary_mb: float | None = None,
        flush_threshold: str | None = None,
        cause: str = SAFE_COMMIT_LAG,
        leases_stuck: bool = False,
        logical_lease: bool = False,
        partitioned_by: Sequence[tuple[str, str]] = (),
        partitions: Iterable[Mapping[str, Any]] = (),
        sick_partitions: Iterable[Mapping[str, Any] | int] | None = None,
        number_of_replicas: str | None = None,
        docs: int = 1000,
    ) -> Handle:
        """Return the table of this name, made with these properties if there is none.

        `partitions` are values by column, as table_partitions shows them; of these
        `sick_partitions` (values, or positions) are sick, all where it is not given.
        """
        key = name if isinstance(name, tuple) else _split(name)
        with self.world.lock:
            self.world.advance()
            if key in self.world.tables:
                return Handle(self.world, key)
            text = replicas or number_of_replicas or "0-1"
            table = _new_table(key, shards, text, partitioned_by, flush_threshold)
            tables.add_table(self.world, table)
            handle = Handle(self.world, key)
            made = [handle.add_partition(values) for values in partitions]
            sick = _sick(handle, made, sick_partitions)
            for relation in table.relations.values():
                for shard in relation.shards:
                    shard.docs = docs
                leases.sync(self.world, relation)
            for one in sick:
                if sick_mb or primary_mb:
                    one.make_sick(sick_mb, cause=cause, primary_mb=primary_mb)
            if leases_stuck:
                handle.leases_stuck = True
            if logical_lease:
                handle.add_logical_lease()
            self.world.touch(*key)
            return handle

    def tables(self, names: Iterable[str], **properties: Any) -> list[Handle]:
        """Make many tables alike."""
        return [self.table(name, **properties) for name in names]

    # --- breaking -------------------------------------------------------------------------

    def _node(self, node: str | int) -> Node:
        for found in self.world.nodes:
            if node in {found.name, found.number, found.id}:
                return found
        message = f"no node {node}; there are {', '.join(self.nodes)}"
        raise KeyError(message)

    def crash(self, node: str | int) -> None:
        """Kill -9: sockets are cut at once, the master notices a moment later."""
        with self.world.lock:
            self.world.advance()
            decommission.kill(self.world, self._node(node))
            self.world.changed.notify_all()
        self._refuse_or_serve()

    def restart(self, node: str | int) -> None:
        """Start a node that is down (kill it first if it is up); it serves after its boot."""
        found = self._node(node)
        if found.alive:
            self.crash(node)
        with self.world.lock:
            self.world.advance()

            world = self.world
            world.after(world.boot_s, lambda: decommission.join(world, found))

    def drop_master(self, seconds: float | None = None) -> None:
        """Leave the cluster without a master, for good or for `seconds` of the lab's time."""
        world = self.world
        with world.lock:
            world.advance()
            world.master, world.masterless_since = None, world.time
            world.master_dropped = True
            if seconds is not None:
                world.after(seconds, self.elect_master)

    def elect_master(self) -> None:
        """End what `drop_master` began."""
        with self.world.lock:
            self.world.master_dropped = False
            decommission.notice(self.world)

    def hang_drain(self, node: str | int) -> None:
        """Let the next drain of this node hang although it is empty, until its timeout."""
        with self.world.lock:
            self.world.hung.add(self._node(node).id)

    def start_snapshot(self) -> None:
        """Let a snapshot be IN_PROGRESS."""
        self.sql("CREATE SNAPSHOT backups.snap ALL")

    def end_snapshots(self) -> None:
        """Let every running snapshot be through."""
        with self.world.lock:
            for snapshot in self.world.snapshots:
                snapshot.state, snapshot.finished = "SUCCESS", self.world.time_ms

    def create_user(self, name: str, password: str | None = None, *grants: str) -> None:
        """Create a user with grants such as 'DQL ON SCHEMA sys' or 'AL'."""
        given = f" WITH (password = '{password}')" if password is not None else ""
        statements = [f'CREATE USER "{name}"{given}']
        statements += ['GRANT {} {} TO "{}"'.format(*_split_grant(grant), name) for grant in grants]
        for statement in statements:
            answer = self.sql(statement)
            if "error" in answer:
                raise ValueError(answer["error"]["message"])

    def revoke(self, user: str, grant: str | None = None) -> None:
        """Take one grant away ('DDL ON TABLE doc.metrics'), or all of them."""
        with self.world.lock:
            if grant is None:
                self.world.rights.user(user).grants.clear()
                return
        answer = self.sql('REVOKE {} {} FROM "{}"'.format(*_split_grant(grant), user))
        if "error" in answer:
            raise ValueError(answer["error"]["message"])

    def fill_disk(self, node: str | int, percent: float) -> None:
        """Let a node's disk be `percent` full."""
        with self.world.lock:
            found = self._node(node)
            found.disk_used = int(found.disk_size * percent / 100)

    def advance(self, seconds: float) -> None:
        """Push the lab's clock forward, and live through all that falls due."""
        self.clock.advance(seconds)
        self.world.advance()
        self._refuse_or_serve()

    # --- the book -------------------------------------------------------------------------

    def at_zero(self) -> list[str]:
        """Return the tables and partitions that somebody set to 0 and that are still there."""
        return self._zero.now()

    @property
    def most_at_zero(self) -> int:
        """Return the largest number of tables and partitions at 0 at one moment."""
        return self._zero.most

    def seconds_at_zero(self) -> dict[str, list[float]]:
        """Return how long each stood at 0, in real seconds, a spell that lasts included."""
        return self._zero.seconds()

    def _forget_dropped(self, schema: str, table: str) -> None:
        if (schema, table) not in self.world.tables:
            self._zero.forget(f"{schema}.{table}")

    def _exited(self, node: Node, code: int) -> None:
        for listener in self.on_exit:
            # A listener may well restart the node: not while the world is being moved.
            threading.Thread(target=listener, args=(node.name, code), daemon=True).start()


def _split(name: str) -> tuple[str, str]:
    schema, dot, table = name.partition(".")
    return (schema, table) if dot else ("doc", name)


def _split_grant(grant: str) -> tuple[str, str]:
    rights, on, where = grant.partition(" ON ")
    return rights, f"ON {where}" if on else ""


def _new_table(
    key: tuple[str, str],
    shards: int,
    text: str,
    partitioned_by: Sequence[tuple[str, str]],
    flush_threshold: str | None,
) -> Table:
    name = "translog.flush_threshold_size"
    settings = {name: accept(name, flush_threshold)} if flush_threshold else {}
    columns = [Column("id", "integer"), Column("payload", "text")]
    columns += [Column(column, TYPE_NAMES.get(kind, kind)) for column, kind in partitioned_by]
    return Table(
        *key, shards, replica_rules.accept(text), columns, [c for c, _ in partitioned_by], settings
    )


def _sick(
    handle: Handle,
    made: list[Handle],
    wanted: Iterable[Mapping[str, Any] | int] | None,
) -> list[Handle]:
    if wanted is None:
        return made or [handle]
    return [made[one] if isinstance(one, int) else handle.partition(one) for one in wanted]


def _tls_context(files: tuple[str, str] | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context
