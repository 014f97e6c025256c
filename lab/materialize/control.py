"""The levers of a lab Materialize for another process: see lab.control for how they are pulled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.control import Body, ControlServer
from lab.materialize.laboratory import LabMaterialize


def control(lab: LabMaterialize, port: int = 0) -> ControlServer:
    """Serve this lab's levers on a port (0: any free one), which may raise OSError."""
    return ControlServer(lab, port, status=status, levers=LEVERS)


def status(lab: LabMaterialize) -> dict[str, Any]:
    """Return the clusters with their replicas, and what is wrong on purpose."""
    rows = lab.sql(
        "SELECT c.id, c.name, c.managed, c.size, c.replication_factor::bigint, r.id, "
        "r.name, r.size, lab.ready(r.id) FROM mz_catalog.mz_clusters c "
        "LEFT JOIN mz_catalog.mz_cluster_replicas r "
        "ON r.cluster_id = c.id ORDER BY c.name, r.name"
    )
    clusters: dict[str, dict[str, Any]] = {}
    for cluster, name, managed, size, factor, replica, replica_name, replica_size, ready in rows:
        found = clusters.setdefault(name, {
            "id": cluster, "managed": managed, "size": size, "replication_factor": factor,
            "replicas": [],
        })  # fmt: skip
        if replica is not None:
            found["replicas"].append(
                {"id": replica, "name": replica_name, "size": replica_size, "ready": ready}
            )
    return {
        "url": lab.url,
        "clusters": clusters,
        "connections": lab.connections,
        "statements": len(lab.journal),
        "statement_logging": lab.statement_logging,
        "faults": lab.faults.shown(),
        "now": lab.now(),
        "speed": lab.speed,
        "postgres": {"pid": lab.postgres.pid, "folder": str(lab.postgres.folder)},
    }


def _clock(lab: LabMaterialize, body: Body) -> None:
    if "speed" in body:
        lab.speed = float(body["speed"])
    if "advance" in body:
        lab.advance(float(body["advance"]))


def _logging(lab: LabMaterialize, body: Body) -> None:
    lab.statement_logging = bool(body.get("on", True))


def _cluster(lab: LabMaterialize, body: Body) -> None:
    if "size" in body:
        factor = int(body.get("replication_factor", 1))
        lab.managed_cluster(body["name"], body["size"], factor)
    else:
        lab.cluster(body["name"], body.get("replicas"))


def _object(lab: LabMaterialize, body: Body) -> None:
    make = {"index": lab.index, "materialized-view": lab.materialized_view, "sink": lab.sink}
    kind, cluster, name = body.get("kind", "index"), body["cluster"], body["name"]
    seconds = body.get("hydrate_s")
    if kind in make:
        make[kind](cluster, name, hydrate_s=seconds)
    else:
        lab.source(cluster, name, kind, hydrate_s=seconds)


#: POST /<name> with a JSON object does this.
LEVERS: dict[str, Callable[[Any, Body], object]] = {
    "clock": _clock,
    "cluster": _cluster,
    "object": _object,
    "logging": _logging,
    "oom": lambda lab, body: lab.oom(**body),
    "heal": lambda lab, body: lab.heal(),  # noqa: ARG005 - one shape for all
    "crash-replica": lambda lab, body: lab.crash_replica(**body),
    "load": lambda lab, body: lab.load(**body),
    "ran": lambda lab, body: lab.statement_ran(**body),
    "subscribe": lambda lab, body: lab.subscribe(body["cluster"]),
    "user": lambda lab, body: lab.create_user(
        body["name"],
        *body.get("roles", ()),
        password=body.get("password"),
        superuser=bool(body.get("superuser")),
    ),
    "system": lambda lab, body: lab.set_system(**body),
    "drop-relation": lambda lab, body: lab.drop_relation(body["name"]),
    "crash": lambda lab, body: lab.crash(),  # noqa: ARG005
    "restart": lambda lab, body: lab.restart(),  # noqa: ARG005
}
