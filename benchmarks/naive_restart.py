"""A rolling restart as a script has it: set, decommission, delete, and ask again every second.

Of the seeds and of what people paste into runbooks, with allocation put back so that it ends. No
ticket, no checks, no precondition, one pod after the other. Here to be measured against, never to
be run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from crate.client import connect
from kubernetes import client, config

_EVERY_S = 1.0
_WITHIN_S = 600.0

_SETTINGS = (
    ("cluster.graceful_stop.timeout", "720s"),
    ("cluster.graceful_stop.force", True),
    ("cluster.graceful_stop.min_availability", "PRIMARIES"),
    ("cluster.routing.allocation.enable", "primaries"),
)


def main(kubeconfig: str, namespace: str, statefulset: str, address: str, pods: int) -> None:
    """Restart the first `pods` pods."""
    config.load_kube_config(kubeconfig)
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    with connect(address.split(",")) as connection:
        cursor = connection.cursor()

        def healthy() -> bool:
            cursor.execute("SELECT health FROM sys.cluster_health")
            if cursor.fetchone()[0] != "GREEN":
                return False
            status = apps.read_namespaced_stateful_set(statefulset, namespace).status
            return bool(status.ready_replicas == status.replicas)

        for number in range(pods):
            name = f"{statefulset}-{number}"
            before = core.read_namespaced_pod(name, namespace).metadata.uid
            for key, value in _SETTINGS:
                cursor.execute(f'SET GLOBAL "{key}" = ?', (value,))
            cursor.execute(f"ALTER CLUSTER DECOMMISSION 'data-hot-{number}'")
            core.delete_namespaced_pod(name, namespace)
            _poll(partial(_is_another, core, name, namespace, before))
            cursor.execute('RESET GLOBAL "cluster.graceful_stop"')
            cursor.execute('RESET GLOBAL "cluster.routing.allocation.enable"')
            _poll(healthy)


def _is_another(core: client.CoreV1Api, name: str, namespace: str, before: str) -> bool:
    for pod in core.list_namespaced_pod(namespace).items:
        if pod.metadata.name == name and pod.metadata.uid != before:
            conditions = pod.status.conditions or []
            return any(each.type == "Ready" and each.status == "True" for each in conditions)
    return False


def _poll(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {_WITHIN_S:g} s")
        time.sleep(_EVERY_S)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
