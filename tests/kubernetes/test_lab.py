"""What only the lab's own control plane can be made to do, and the lab as a process."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from caretaker.errors import RefusedError
from lab.kubernetes.cluster import CratePods
from lab.kubernetes.plane import LabPlane
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import KubernetesSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lost():
    """Two pods, and machines that are given up after twenty silent seconds."""
    with LabPlane(node_grace_s=20.0) as plane, CratePods(plane, nodes=2, back_off_s=1.0) as pods:
        yield pods


def test_a_lost_machines_pod_is_not_ready_though_its_container_says_so(lost):
    """And deleted, it stays Terminating until somebody uses force."""
    settings = KubernetesSettings(kubeconfig=str(lost.plane.kubeconfig(lost.namespace)))
    with KubernetesClient(settings) as client:
        machine = client.pod(lost.pods[1]).kube_node
        before = lost.uid(1)
        lost.kubelet.silent.add(machine)

        lost.wait_for(
            "the machine to be given up", lambda: not client.pod(lost.pods[1]).ready, 120.0
        )

        status = lost.pod(1)["status"]["containerStatuses"][0]
        assert status["ready"] is True
        seen = client.seen(client.cluster("lab"))
        assert seen.nodes is not None
        taints = {node.name: node.taints for node in seen.nodes}
        assert "node.kubernetes.io/unreachable" in taints[machine]
        client.delete_pod(lost.pods[1], lost.namespace, uid=before, grace_s=1)
        lost.kubelet.container(lost.pods[1]).signal(9)
        assert lost.uid(1) == before

        lost.kubelet.silent.clear()
        lost.wait_for("the machine to be back", lambda: lost.uid(1) not in {before, ""})
        lost.wait_for("its new pod", lambda: lost.is_ready(1))


def test_a_machine_that_was_lost_for_a_moment_has_its_pod_ready_again(lost):
    before = lost.uid(1)
    lost.kubelet.silent.add(lost.pod(1)["spec"]["nodeName"])
    lost.wait_for("the machine to be given up", lambda: not lost.is_ready(1), 120.0)

    lost.kubelet.silent.clear()

    lost.wait_for("Ready as before", lambda: lost.is_ready(1))
    assert lost.uid(1) == before


def test_a_token_that_expires_under_a_client_is_told():
    with LabPlane() as plane, CratePods(plane, nodes=1) as pods:
        settings = KubernetesSettings(kubeconfig=str(plane.kubeconfig(pods.namespace)))
        with KubernetesClient(settings) as client:
            assert client.pod(pods.pods[0]).ready
            plane.rights.expire(plane.operator_token)

            with pytest.raises(RefusedError, match="token has expired"):
                client.pod(pods.pods[0])


def test_the_lab_runs_as_a_process_with_levers_and_leaves_nothing(tmp_path):
    config = tmp_path / "config"
    command = [sys.executable, "-m", "lab.kubernetes", "--nodes", "2", "--kubeconfig", str(config)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 120)[0]
            line = process.stdout.readline()
            found = re.match(r"lab Kubernetes ready: KUBECONFIG=(\S+) .* levers (\S+)$", line)
            assert found, line
            assert found[1] == str(config)
            with urllib.request.urlopen(f"{found[2]}/status", timeout=10) as answer:  # noqa: S310
                seen = json.loads(answer.read())
            assert [pod["ready"] for pod in seen["pods"]] == [True, True]
            with KubernetesClient(KubernetesSettings(kubeconfig=str(config))) as client:
                assert [str(each.ref) for each in client.clusters()] == ["crate/lab"]
            children = crates_of(process.pid)
            assert len(children) == 2
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def crates_of(parent: int) -> list[int]:
    """Pids of the processes that a lab's kubelet has started."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == parent:
            found.append(int(each.name))
    return found
