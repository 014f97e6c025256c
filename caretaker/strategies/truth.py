"""What is so: whether a cluster is as it was when it was judged, and whether an action happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from caretaker.strategies.model import Json
from caretaker.strategies.statements import factor_of


@dataclass(frozen=True, slots=True)
class ClusterNow:
    """A cluster at one moment; `replicas` are (name, size) by id."""

    name: str
    managed: bool
    size: str | None
    replication_factor: int | None
    replicas: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def as_judged(cluster: Json) -> ClusterNow:
    """Return the cluster of a case as it was when it was read."""
    return ClusterNow(
        name=cluster["name"],
        managed=bool(cluster.get("managed")),
        size=cluster.get("size"),
        replication_factor=cluster.get("replication_factor"),
        replicas={one["id"]: (one["name"], one["size"]) for one in cluster["replicas"]},
    )


def change_between(before: ClusterNow, now: ClusterNow | None) -> str:
    """Return what somebody else has changed, in words; '' where nothing was.

    Of a managed cluster the replicas are Materialize's own business.

    >>> one = ClusterNow("prod", False, None, None, {"u1": ("r1", "25cc")})
    >>> change_between(one, ClusterNow("prod", False, None, None))
    'r1 (25cc) is gone'
    """
    if now is None:
        return "the cluster is gone"
    if now.name != before.name:
        return f"it is called {now.name!r} now"
    if now.managed != before.managed:
        return "it is managed now" if now.managed else "it is not managed any more"
    if now.managed:
        if now.size != before.size:
            return f"its size is {now.size} now, and was {before.size}"
        if now.replication_factor != before.replication_factor:
            return (
                f"its replication factor is {now.replication_factor} now,"
                f" and was {before.replication_factor}"
            )
        return ""
    gone = [_named(one) for key, one in before.replicas.items() if now.replicas.get(key) != one]
    come = [_named(one) for key, one in now.replicas.items() if before.replicas.get(key) != one]
    if gone:
        return f"{', '.join(sorted(gone))} {'is' if len(gone) == 1 else 'are'} gone"
    if come:
        return f"{', '.join(sorted(come))} {'is' if len(come) == 1 else 'are'} there now"
    return ""


def _named(replica: tuple[str, str | None]) -> str:
    name, size = replica
    return f"{name} ({size})"


def context_of(action: Json, cluster: Json) -> Json:
    """Return what must be known later to tell whether an action happened."""
    replica_id = None
    if action["op"] == "drop":
        ids = {one["name"]: one["id"] for one in cluster["replicas"]}
        replica_id = ids.get(action["replica"])
    return {
        "op": action["op"],
        "replica": action["replica"],
        "replica_id": replica_id,
        "size": action["size"],
        "replication_factor": factor_of(action["sql"]),
    }


def has_happened(context: Json, now: ClusterNow | None) -> bool:
    """Return whether what an action wanted is so, by what `context_of` remembers of it."""
    op = context.get("op")
    if now is None:
        return op == "drop"
    if op == "create":
        return (context.get("replica"), context.get("size")) in now.replicas.values()
    if op == "drop":
        # By id: somebody may have made another one of the same name.
        return context.get("replica_id") not in now.replicas
    if context.get("size") is not None:
        return bool(now.size == context["size"])
    return bool(now.replication_factor == context.get("replication_factor"))
