"""Who asks, and whether RBAC lets them: tokens, roles and bindings as objects of the store."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

from lab.kubernetes.errors import ApiError
from lab.kubernetes.kinds import BY_KIND
from lab.kubernetes.store import Store

#: Who may do everything: the operator's own kubeconfig, and the parts of the control plane.
MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    """Who a token belongs to."""

    name: str
    groups: tuple[str, ...] = ()

    @property
    def is_system(self) -> bool:
        """A part of the control plane: no rule concerns it that does not name it."""
        return self.name.startswith("system:") and not self.name.startswith("system:serviceaccount")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request, as RBAC sees it."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        place = f" {self.namespace}/" if self.namespace else " "
        return f"{self.verb} {self.resource}{place}{self.name}".rstrip("/ ")


class Rights:
    """Tokens, and what their owners may do."""

    def __init__(self, store: Store) -> None:
        """Take the store that holds the roles."""
        self._store = store
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[User, float]] = {}

    def token(self, user: User, seconds: float = float("inf")) -> str:
        """Return a new token for somebody."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._tokens[token] = (user, time.time() + seconds)
        return token

    def user(self, header: str) -> User:
        """Return whose token an Authorization header carries; 401 for nobody's."""
        token = header.removeprefix("Bearer ").strip()
        with self._lock:
            found = self._tokens.get(token)
        if found is None or found[1] < time.time():
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return found[0]

    def expire(self, token: str) -> None:
        """Let a token be over."""
        with self._lock:
            user, _ = self._tokens[token]
            self._tokens[token] = (user, 0.0)

    def check(self, user: User, wanted: Wanted) -> None:
        """Raise 403 unless somebody may."""
        if self.allows(user, wanted):
            return
        scope = (
            f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
        )
        subject = wanted.resource + (f' "{wanted.name}"' if wanted.name else "")
        raise ApiError(
            403,
            "Forbidden",
            f'{subject} is forbidden: User "{user.name}" cannot {wanted.verb} resource '
            f'"{wanted.resource}" in API group "{wanted.group}" {scope}',
            details={"name": wanted.name, "group": wanted.group, "kind": wanted.resource},
        )

    def allows(self, user: User, wanted: Wanted) -> bool:
        """Return whether a role that is bound to somebody grants it."""
        if MASTERS in user.groups:
            return True
        # Everybody may ask about themselves (system:basic-user).
        if wanted.resource == "selfsubjectaccessreviews":
            return True
        return any(_grants(rule, wanted) for rule in self._rules(user, wanted.namespace))

    def _rules(self, user: User, namespace: str) -> list[dict[str, Any]]:
        store = self._store
        rules: list[dict[str, Any]] = []
        bindings = [("", each) for each in store.all(BY_KIND["ClusterRoleBinding"].key)]
        if namespace:
            bindings += [
                (namespace, each) for each in store.all(BY_KIND["RoleBinding"].key, namespace)
            ]
        for where, binding in bindings:
            if not any(_is(subject, user, where) for subject in binding.get("subjects") or []):
                continue
            reference = binding["roleRef"]
            inside = where if reference["kind"] == "Role" else ""
            role = store.find(BY_KIND[reference["kind"]].key, inside, reference["name"])
            rules += (role or {}).get("rules") or []
        return rules


def _is(subject: dict[str, Any], user: User, namespace: str) -> bool:
    if subject["kind"] == "ServiceAccount":
        where = subject.get("namespace") or namespace
        return user.name == f"system:serviceaccount:{where}:{subject['name']}"
    if subject["kind"] == "Group":
        return subject["name"] in user.groups
    return bool(user.name == subject["name"])


def _grants(rule: dict[str, Any], wanted: Wanted) -> bool:
    def has(name: str, value: str) -> bool:
        values = rule.get(name) or []
        return value in values or "*" in values

    names = rule.get("resourceNames")
    return (
        has("apiGroups", wanted.group)
        and has("resources", wanted.resource)
        and has("verbs", wanted.verb)
        and (not names or wanted.name in names)
    )
