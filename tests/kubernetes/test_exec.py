"""A command in a pod ends with its own exit code, or with "unknown": never with a false success."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from caretaker.errors import RefusedError, TransientError, UnknownResultError
from lab.faults import Action, Fault
from lab.kubernetes import manifests
from lab.kubernetes.websocket import WebSocket, accept_key
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import KubernetesSettings


@pytest.mark.parametrize("code", [0, 1, 3, 42, 127, 255])
def test_the_exit_code_is_the_commands_own(client, pods, code):
    done = client.exec(pods.pods[0], "steady", ["sh", "-c", f"exit {code}"])

    assert done.exit_code == code


def test_output_and_errors_come_apart_and_whole(client, pods):
    script = "echo out; echo err >&2; head -c 3000000 /dev/zero; exit 5"

    done = client.exec(pods.pods[0], "steady", ["sh", "-c", script])

    assert (done.exit_code, done.stderr) == (5, b"err\n")
    assert done.stdout == b"out\n" + bytes(3_000_000)


def test_words_arrive_as_they_were(client, pods):
    words = ["", "a b", "$HOME", "qu\"o'tes", "Täb ☃", "line\nline", "&=%?#"]

    done = client.exec(pods.pods[0], "steady", ["printf", "%s|", *words])

    assert done.stdout.decode() == "".join(f"{word}|" for word in words)


def test_a_killed_command_does_not_pass_for_a_success(client, pods):
    done = client.exec(pods.pods[0], "steady", ["sh", "-c", "kill -9 $$"])

    assert done.exit_code == 137


def test_a_missing_program_was_certainly_not_run(client, pods):
    with pytest.raises(RefusedError, match="not started"):
        client.exec(pods.pods[0], "steady", ["/no/such/program"])


def test_a_missing_pod_and_a_missing_container_are_told(client, pods):
    with pytest.raises(RefusedError, match="not found"):
        client.exec(f"{pods.statefulset}-9", "steady", ["true"])
    with pytest.raises(RefusedError, match="sidecar"):
        client.exec(pods.pods[0], "steady", ["true"], container="sidecar")


def test_a_channel_cut_mid_way_is_unknown(client, plane, pods):
    plane.front.faults.add(Fault("pods/exec", Action.RESET_AFTER, seconds=30))

    with pytest.raises(UnknownResultError, match="the command may have run"):
        client.exec(pods.pods[0], "steady", ["sh", "-c", "echo begun; sleep 30"])


def test_a_channel_cut_after_the_command_ended_is_unknown_too(client, plane, pods):
    """Its output has begun, its exit code never came."""
    plane.front.faults.add(Fault("pods/exec", Action.RESET_AFTER, seconds=30))

    with pytest.raises(UnknownResultError, match="the command may have run"):
        client.exec(pods.pods[0], "steady", ["echo", "done"])


def test_a_command_that_never_ends_is_not_waited_for(client, pods):
    with pytest.raises(UnknownResultError, match="no exit code within 1 s"):
        client.exec(pods.pods[0], "steady", ["sleep", "600"], timeout_s=1.0)


def test_an_api_server_that_goes_away_meanwhile_leaves_it_unknown(client, plane, pods):
    caught: list[BaseException] = []

    def run() -> None:
        try:
            client.exec(pods.pods[0], "steady", ["sh", "-c", "echo; sleep 600"], timeout_s=60)
        except UnknownResultError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    asked = execs(plane)
    thread.start()
    pods.wait_for("the exec to have begun", lambda: execs(plane) > asked)
    thread.join(1.0)
    plane.front.drop_connections()
    thread.join(60)

    assert caught
    assert "cut" in str(caught[0]) or "no answer" in str(caught[0])


def test_the_end_of_a_container_under_an_exec_is_no_success(client_of, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    results: list[object] = []

    def run() -> None:
        try:
            results.append(client.exec(pods.pods[0], pods.namespace, ["sleep", "600"]).exit_code)
        except UnknownResultError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    container = pods.kubelet.container(pods.pods[0])
    pods.wait_for("the exec to have begun", lambda: bool(container._guests))
    container.signal(9)
    thread.join(60)

    assert results
    assert results[0] != 0


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_channel_that_is_refused_for_the_moment_started_nothing(client, plane, pods, status):
    plane.front.faults.add(Fault("pods/exec", Action.ERROR, status=status, message="not now"))

    with pytest.raises(TransientError, match="not now"):
        client.exec(pods.pods[0], "steady", ["true"])


@pytest.mark.parametrize("status", [502, 504])
def test_a_proxy_that_did_not_hear_the_end_says_nothing_of_a_beginning(client, plane, pods, status):
    """It had asked the API server: a DECOMMISSION may be under way, and is not to be forgotten."""
    page = "<html>upstream timed out</html>"
    plane.front.faults.add(Fault("pods/exec", Action.ERROR, status=status, message=page))

    with pytest.raises(UnknownResultError, match="may have been started"):
        client.exec(pods.pods[0], "steady", ["true"])


def test_an_exec_in_a_container_that_is_down_is_refused_or_comes_later(client_of, start_pods):
    pods = start_pods(nodes=1, back_off_s=30.0)
    client = client_of(pods)
    pods.nodes.fail_starts(pods.pods[0], times=100)
    pods.kubelet.container(pods.pods[0]).signal(9)
    # Until then one that fails at once lives for a moment, now and then.
    pods.wait_for("CrashLoopBackOff", lambda: _waiting(client, pods.pods[0]) == "CrashLoopBackOff")

    with pytest.raises((RefusedError, TransientError)):
        client.exec(pods.pods[0], pods.namespace, ["true"])


@pytest.mark.parametrize("last", ["goodbye", "nothing"])
def test_a_channel_that_ends_politely_without_an_exit_code_is_unknown(tmp_path, last):
    """Output came, and even a goodbye: all that is missing is how the command ended."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            found = [line.strip().partition(b": ") for line in iter(lines.readline, b"\r\n")]
            head = {name.lower(): value.decode() for name, _, value in found}
            key = accept_key(head[b"sec-websocket-key"])
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n"
                b"Sec-WebSocket-Accept: " + key.encode() + b"\r\n\r\n"
            )
            channel = WebSocket(connection)
            channel.send(b"\x01all went well\n")
            if last == "goodbye":
                channel.close()

    thread = threading.Thread(target=serve)
    thread.start()
    path = tmp_path / "config"
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    path.write_text(json.dumps(manifests.kubeconfig(url, "token", "default")))
    try:
        with (
            KubernetesClient(KubernetesSettings(kubeconfig=str(path))) as client,
            pytest.raises(UnknownResultError, match="before the exit code came"),
        ):
            client.exec("pod", "default", ["true"], timeout_s=20)
    finally:
        thread.join(20)
        listener.close()


def _waiting(client, pod: str) -> str:
    container = client.pod(pod).container
    return "" if container is None else container.waiting


def execs(plane) -> int:
    return sum("pods/exec" in each.stmt for each in plane.front.journal)
