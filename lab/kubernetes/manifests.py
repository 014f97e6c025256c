"""The manifests of a CrateDB cluster, as its operator and most charts write them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

#: Label of the machines of a cluster's kubelet.
MACHINES = "lab.caretaker/cluster"

#: The hook of the CrateDB operator's clusters.
DC_UTIL = ("/bin/sh", "-c", "dc_util -min-availability PRIMARIES -timeout 720s")


def statefulset(
    cluster: str,
    namespace: str,
    *,
    replicas: int = 3,
    prestop: tuple[str, ...] | None = None,
    grace_s: int | None = None,
    update: str = "OnDelete",
    claims: bool = True,
    name: str = "",
    labels: dict[str, str] | None = None,
) -> Json:
    """Return a StatefulSet of data nodes."""
    own = {
        "app.kubernetes.io/name": cluster,
        "app.kubernetes.io/component": "cratedb",
        "app.kubernetes.io/part-of": "cratedb",
    }
    container: Json = {
        "name": "crate",
        "image": "crate:6.4.3",
        "command": ["crate"],
        "ports": [{"name": "http", "containerPort": 4200}],
        "readinessProbe": {
            "httpGet": {"path": "/", "port": 4200},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
    }
    if prestop is not None:
        container["lifecycle"] = {"preStop": {"exec": {"command": list(prestop)}}}
    # On the machines of its own kubelet: another one's may be silent, and nobody noticed yet.
    spec: Json = {"containers": [container], "nodeSelector": {MACHINES: cluster}}
    if grace_s is not None:
        spec["terminationGracePeriodSeconds"] = grace_s
    found: Json = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": name or f"crate-data-hot-{cluster}",
            "namespace": namespace,
            "labels": {**own, **(labels or {})},
        },
        "spec": {
            "replicas": replicas,
            "serviceName": f"crate-{cluster}",
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": update},
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own}, "spec": spec},
        },
    }
    if claims:
        found["spec"]["volumeClaimTemplates"] = [
            {
                "metadata": {"name": "data0"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
        ]
    return found


def budget(cluster: str, namespace: str, max_unavailable: int = 1) -> Json:
    """Return the operator's PodDisruptionBudget."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"crate-{cluster}", "namespace": namespace},
        "spec": {
            "maxUnavailable": max_unavailable,
            "selector": {"matchLabels": {"app.kubernetes.io/name": cluster}},
        },
    }


def volume(claim: str, namespace: str) -> Json:
    """Return a volume for one claim: nobody here makes them on demand."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": f"/lab/{namespace}/{claim}"},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    }


def kubeconfig(url: str, token: str, namespace: str, ca_cert: str = "") -> Json:
    """Return a kubeconfig with one context, `lab`."""
    cluster: Json = {"server": url}
    if ca_cert:
        cluster["certificate-authority"] = ca_cert
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [
            {"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": namespace}}
        ],
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": token}}],
    }
