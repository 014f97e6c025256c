"""Statements about the cluster and its users: settings, privileges, snapshots, retries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lab.cratedb import allocation
from lab.cratedb.answers import Answer, CrateError, no_master, unknown_relation
from lab.cratedb.commands import Command
from lab.cratedb.rights import CLASSES, User
from lab.cratedb.snapshots import Snapshot
from lab.cratedb.world import World

Args = Sequence[Any]


def _require_master(world: World) -> None:
    if world.master is None:
        raise no_master()


def set_global(world: World, user: str, command: Command, args: Args) -> Answer:
    """SET GLOBAL [TRANSIENT|PERSISTENT]: transient where no level is named."""
    world.rights.require_cluster(user, "AL")
    _require_master(world)
    for name, value in command.properties:
        world.settings.set(name, value(args), persistent="persistent" in command.words)
    allocation.settle_all(world)
    return Answer()


def reset_global(world: World, user: str, command: Command, args: Args) -> Answer:
    """RESET GLOBAL: both levels, single settings or whole groups."""
    del args
    world.rights.require_cluster(user, "AL")
    _require_master(world)
    for name in command.names:
        world.settings.reset(name)
    allocation.settle_all(world)
    return Answer()


def retry_failed(world: World, user: str, command: Command, args: Args) -> Answer:
    """ALTER CLUSTER REROUTE RETRY FAILED: 0 where nothing has failed."""
    del command, args
    world.rights.require_cluster(user, "AL")
    allocation.settle_all(world)
    return Answer(rowcount=0)


def create_user(world: World, user: str, command: Command, args: Args) -> Answer:
    """CREATE USER name [WITH (password = ...)]."""
    world.rights.require_cluster(user, "AL")
    name = command.names[0]
    if name in world.rights.users:
        raise CrateError(4099, "RoleAlreadyExistsException", f"Role '{name}' already exists")
    given = {key: value(args) for key, value in command.properties}
    world.rights.users[name] = User(name, given.get("password"))
    return Answer()


def alter_user(world: World, user: str, command: Command, args: Args) -> Answer:
    """ALTER USER name SET (password = ...)."""
    name = command.names[0]
    if name != user:
        world.rights.require_cluster(user, "AL")
    given = {key: value(args) for key, value in command.properties}
    if "password" in given:
        world.rights.user(name).password = given["password"]
    return Answer()


def drop_user(world: World, user: str, command: Command, args: Args) -> Answer:
    """DROP USER [IF EXISTS] name."""
    del args
    world.rights.require_cluster(user, "AL")
    name = command.names[0]
    if name not in world.rights.users and "exists" in command.words:
        return Answer(rowcount=0)
    world.rights.user(name)
    del world.rights.users[name]
    return Answer()


def privilege(world: World, user: str, command: Command, args: Args) -> Answer:
    """GRANT, DENY, REVOKE; row count = privileges changed."""
    del args
    if not world.rights.users[user].superuser:
        world.rights.require_cluster(user, "AL")
    verb = command.kind.removesuffix("Privilege").upper()
    classes = [name.upper() for name in command.extra["classes"]] or list(CLASSES)
    if classes == ["ALL"]:
        classes = list(CLASSES)
    where = command.extra["on"][0] if command.extra["on"] else "CLUSTER"
    objects = list(command.extra["objects"]) or [""]
    if where == "TABLE":
        objects = [name if "." in name else f"doc.{name}" for name in objects]
        for name in objects:
            if verb == "GRANT" and tuple(name.split(".", 1)) not in world.tables:
                raise unknown_relation(name)
    count = sum(
        world.rights.change(verb, grantee, classes, where, ident)
        for grantee in command.names
        for ident in objects
    )
    return Answer(rowcount=count)


def create_snapshot(world: World, user: str, command: Command, args: Args) -> Answer:
    """CREATE SNAPSHOT: it is IN_PROGRESS until the lab ends it."""
    del args
    world.rights.require_cluster(user, "AL")
    world.snapshots.append(
        Snapshot("backups", f"snap{len(world.snapshots)}", world.ids.short(), "IN_PROGRESS",
                 world.time_ms)
    )  # fmt: skip
    del command
    return Answer()


def nothing(world: World, user: str, command: Command, args: Args) -> Answer:
    """Accept what has no effect here: SET SESSION, BEGIN, COMMIT, ANALYZE, KILL."""
    del world, user, command, args
    return Answer(rowcount=0)


ADMINISTRATION: dict[str, Callable[[World, str, Command, Args], Answer]] = {
    "SetGlobal": set_global,
    "ResetGlobal": reset_global,
    "AlterClusterRerouteRetryFailed": retry_failed,
    "CreateRole": create_user,
    "AlterRoleSet": alter_user,
    "DropRole": drop_user,
    "GrantPrivilege": privilege,
    "DenyPrivilege": privilege,
    "RevokePrivilege": privilege,
    "CreateSnapshot": create_snapshot,
    "Set": nothing,
    "SetSessionAuthorization": nothing,
    "Begin": nothing,
    "StartTransaction": nothing,
    "Commit": nothing,
    "Analyze": nothing,
    "Discard": nothing,
    "Deallocate": nothing,
    "Kill": nothing,
}
