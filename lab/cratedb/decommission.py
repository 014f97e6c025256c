"""ALTER CLUSTER DECOMMISSION: the drain, the wait for requests, the exit five seconds later."""

from __future__ import annotations

from lab.cratedb import allocation, health
from lab.cratedb.answers import Answer, CrateError, invalid
from lab.cratedb.model import STARTED, Node
from lab.cratedb.world import World

_FIRST_TO_HONOUR_FORCE = (6, 4, 4)
_REREAD_S = 5.0


def decommission(world: World, user: str, name: object) -> Answer:
    """Drain a node, return, and let it exit later; the caller must not hold the world's lock.

    Blocks until the drain is through or graceful_stop.timeout has passed. The row count is 1
    whatever came of it, and the drain goes on when the client has gone.
    """
    with world.lock:
        world.rights.require_superuser(user)
        node = world.node(str(name))
        if node is None:
            raise invalid(f"Node: '{name}' could not be found")
        if node.draining:
            return Answer()
        node.draining = True
        world.drained.discard(node.id)
        world.drains[node.id] = world.drains.get(node.id, 0) + 1
        mine = world.drains[node.id]
        since = world.time
        need = str(world.settings.get("cluster.graceful_stop.min_availability")).upper()
        if need in {"FULL", "PRIMARIES"}:
            _move_away(world, node, everything=need == "FULL")
        while not _drained(world, need):
            if world.closed or not node.alive or world.drains.get(node.id) != mine:
                raise CrateError(5000, "NodeDisconnectedException", f"[{node.name}] disconnected")
            timeout_s = world.settings.ms("cluster.graceful_stop.timeout") / 1000
            if world.time - since >= timeout_s:
                if not _exits_on_timeout(world):
                    node.draining = False
                    world.drained.add(node.id)
                    return Answer()
                break
            world.changed.wait(0.02)
            world.advance()
            if need in {"FULL", "PRIMARIES"}:
                _move_away(world, node, everything=need == "FULL")
        world.drained.add(node.id)
        _wait_for_requests(world, node, mine, world.time)
        return Answer()


def _exits_on_timeout(world: World) -> bool:
    """Return whether the node exits although it is not drained.

    Before 6.4.4 force = false was not honoured for the drain (commit e965006931).
    """
    version = tuple(int(part) for part in world.version.split(".")[:3])
    return bool(world.settings.get("cluster.graceful_stop.force")) or (
        version < _FIRST_TO_HONOUR_FORCE
    )


def _move_away(world: World, node: Node, *, everything: bool) -> None:
    for relation in world.relations():
        moved = False
        for shard in relation.shards:
            copy = shard.on(node.id)
            if copy is not None and copy.state == STARTED and (copy.primary or everything):
                moved |= allocation.move(world, relation, shard, copy)
        if moved:
            allocation.settle(world, relation)


def _drained(world: World, need: str) -> bool:
    """Return what the node asks for: a colour and nothing on the move, not that it is empty.

    That is why new_primaries (nothing may move) or FULL under `primaries` succeed at once.
    """
    if need not in {"FULL", "PRIMARIES"}:
        return True
    word = health.of_cluster(world).word
    colour = word == "GREEN" or (need == "PRIMARIES" and word == "YELLOW")
    return colour and health.relocating(world) == 0


def _wait_for_requests(world: World, node: Node, drain: int, since: float) -> None:
    """Look every five seconds whether requests still run on the node, then exit five later."""
    if world.drains.get(node.id) != drain or not node.draining:
        return
    busy = node.id in world.hung or any(
        job.node.id == node.id and "decommission" not in job.stmt.lower()
        for job in world.jobs.values()
    )
    if not busy:
        world.after(world.exit_delay_s, lambda: leave(world, node, drain))
        return
    timeout_s = world.settings.ms("cluster.graceful_stop.timeout") / 1000
    if world.time - since >= timeout_s:
        if world.settings.get("cluster.graceful_stop.force"):
            leave(world, node, drain)
        else:
            node.draining = False
            allocation.settle_all(world, everything=True)
        return
    world.after(_REREAD_S, lambda: _wait_for_requests(world, node, drain, since))


def leave(world: World, node: Node, drain: int) -> None:
    """Let a drained node's process end with code 0."""
    if world.drains.get(node.id) != drain or not node.draining or not node.alive:
        return
    stop(world, node)
    for listener in world.on_exit:
        listener(node, 0)


def stop(world: World, node: Node) -> None:
    """Take a node out gracefully: the master knows at once."""
    _out(world, node)
    allocation.node_left(world, node)
    _elect(world)


def kill(world: World, node: Node) -> None:
    """Let a node's process die: the master notices a moment later, and says GREEN until then."""
    _out(world, node)
    world.drains[node.id] = world.drains.get(node.id, 0) + 1
    world.after(world.detection_s, lambda: notice(world))


def _out(world: World, node: Node) -> None:
    node.alive = node.serving = False
    world.hung.discard(node.id)
    world.most_out = max(world.most_out, world.out)


def notice(world: World) -> None:
    """Let the master see who is dead; without a quorum there is no master who could.

    The cluster then still shows what it showed last, master_node NULL apart.
    """
    if 2 * sum(node.alive for node in world.nodes) <= len(world.nodes) and len(world.nodes) > 1:
        if world.master is not None:
            world.master, world.masterless_since = None, world.time
        return
    for node in world.nodes:
        if node.member and not node.alive:
            allocation.node_left(world, node)
    if world.master is None and world.master_dropped:
        return
    _elect(world)


def _elect(world: World) -> None:
    living = [node for node in world.members if node.alive]
    if all(node.id != world.master for node in living):
        world.master = living[-1].id if living else None
    if world.master is not None:
        world.masterless_since = None


def join(world: World, node: Node) -> None:
    """Let a node that has booted in again; with it there may be a quorum again."""
    if node.member:
        allocation.node_left(world, node)
    node.alive = True
    allocation.node_joined(world, node)
    notice(world)
