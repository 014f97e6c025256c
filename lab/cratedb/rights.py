"""Users and privileges: who sees what, and what a refusal looks like."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.cratedb.answers import CrateError, unknown_relation, unknown_schema

CLASSES = ("AL", "DQL", "DML", "DDL")


@dataclass(slots=True)
class User:
    """A user; `password` None is trusted on loopback without one."""

    name: str
    password: str | None = None
    superuser: bool = False
    #: (class, CLUSTER/SCHEMA/TABLE, ident) -> GRANT or DENY.
    grants: dict[tuple[str, str, str], str] = field(default_factory=dict)


class Rights:
    """The users of the cluster. `crate` is the superuser and needs no password."""

    def __init__(self) -> None:
        """Start with `crate` alone."""
        self.users: dict[str, User] = {"crate": User("crate", superuser=True)}

    def user(self, name: str) -> User:
        """Return a user or raise 404/40410."""
        try:
            return self.users[name]
        except KeyError:
            raise CrateError(40410, "RoleUnknownException", f"Role '{name}' does not exist") \
                from None  # fmt: skip

    def authenticate(self, name: str, password: str | None) -> bool:
        """Return whether this name and password may come in."""
        user = self.users.get(name)
        return user is not None and (user.password is None or user.password == password)

    def may(self, user: str, right: str, schema: str, table: str | None = None) -> bool:
        """Return whether the nearest grant or denial of `right` allows it."""
        who = self.users.get(user)
        if who is None:
            return False
        if who.superuser:
            return True
        for kind, ident in _scopes(schema, table):
            state = who.grants.get((right, kind, ident))
            if state is not None:
                return state == "GRANT"
        return False

    def any_right(self, user: str, schema: str, table: str | None = None) -> bool:
        """Return whether `user` has any privilege here: only then does it exist for them."""
        return any(self.may(user, right, schema, table) for right in CLASSES)

    def knows_schema(self, user: str, schema: str) -> bool:
        """Return whether `user` has a privilege on the schema or on something in it."""
        who = self.users.get(user)
        if who is None:
            return False
        if self.any_right(user, schema):
            return True
        return any(
            state == "GRANT" and kind == "TABLE" and ident.startswith(f"{schema}.")
            for (_, kind, ident), state in who.grants.items()
        )

    def require(self, user: str, right: str, schema: str, table: str) -> None:
        """Raise what CrateDB answers when `user` lacks `right` on a table.

        No right at all is 404 ("unknown"), another right than the one needed 401/4011: a dropped
        table and a removed privilege look alike, and that is CrateDB's own doing.
        """
        if self.may(user, right, schema, table):
            return
        if self.any_right(user, schema, table):
            raise missing(right, user)
        if self.knows_schema(user, schema):
            raise unknown_relation(f"{schema}.{table}")
        raise unknown_schema(schema)

    def require_cluster(self, user: str, right: str) -> None:
        """Raise 401/4011 when `user` lacks `right` on the cluster."""
        who = self.users.get(user)
        if who is None or not (who.superuser or who.grants.get((right, "CLUSTER", "")) == "GRANT"):
            raise missing(right, user)

    def require_superuser(self, user: str) -> None:
        """Raise 401/4010 for everybody but a superuser."""
        who = self.users.get(user)
        if who is None or not who.superuser:
            raise CrateError(
                4010,
                "UnauthorizedException",
                f'User "{user}" is not authorized to execute the statement. '
                "Superuser permissions are required",
            )

    def change(self, verb: str, user: str, classes: list[str], kind: str, ident: str) -> int:
        """GRANT, DENY or REVOKE, and return how many entries that changed."""
        grants = self.user(user).grants
        before = dict(grants)
        for right in classes:
            if verb == "REVOKE":
                grants.pop((right, kind, ident), None)
            else:
                grants[right, kind, ident] = verb
        return sum(before.get(key) != grants.get(key) for key in before.keys() | grants.keys())


def missing(right: str, user: str) -> CrateError:
    """401/4011."""
    return CrateError(
        4011, "MissingPrivilegeException", f"Missing '{right}' privilege for user '{user}'"
    )


def _scopes(schema: str, table: str | None) -> list[tuple[str, str]]:
    wide = [("SCHEMA", schema), ("CLUSTER", "")]
    return wide if table is None else [("TABLE", f"{schema}.{table}"), *wide]
