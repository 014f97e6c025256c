"""What cannot work is told in one sentence that names what to change."""

from __future__ import annotations

import base64
import json
import socket
import traceback
from pathlib import Path

import pytest
import yaml

from caretaker.errors import (
    InvalidSettingError,
    RefusedError,
    TransientError,
    UnknownResultError,
)
from lab.kubernetes import manifests
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.resource import KubernetesResource
from resources.kubernetes.rights import Need
from resources.kubernetes.settings import KubernetesSettings


def client_from(path, **settings) -> KubernetesClient:
    return KubernetesClient(KubernetesSettings(kubeconfig=str(path), **settings))


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 400
    assert "Traceback" not in text
    return text


def test_no_kubeconfig_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(InvalidSettingError, match="KUBECONFIG: found None, expected") as caught:
        KubernetesClient(KubernetesSettings())

    assert "~/.kube/config" in one_sentence(caught.value)


def test_a_kubeconfig_that_is_not_there(tmp_path):
    with pytest.raises(InvalidSettingError, match=r"KUBECONFIG: found '.*/nowhere'") as caught:
        client_from(tmp_path / "nowhere")

    one_sentence(caught.value)


@pytest.mark.parametrize(
    "text", ["", "a: [", "42", "{}", "clusters: 7", '{"current-context": "x", "contexts": []}']
)
def test_a_kubeconfig_that_is_none(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)

    with pytest.raises(InvalidSettingError, match="KUBECONFIG") as caught:
        client_from(path)

    one_sentence(caught.value)


def test_an_unknown_context_names_the_known_ones(plane):
    with pytest.raises(InvalidSettingError, match="CARETAKER_KUBE_CONTEXT: found 'prod'") as caught:
        client_from(plane.kubeconfig(), context="prod")

    assert one_sentence(caught.value).endswith(": lab")


def test_an_expired_token(pods, client_of):
    client = client_of(pods, token="not-a-token-any-more")

    with pytest.raises(RefusedError, match="token has expired or is wrong") as caught:
        client.pod(pods.pods[0])
    assert caught.value.status == 401
    one_sentence(caught.value)
    with pytest.raises(RefusedError, match="token has expired or is wrong"):
        client.exec(pods.pods[0], "steady", ["true"])


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_a_token_with_the_line_break_of_a_block_is_the_token(pods, client_of, plane, line_break):
    client = client_of(pods, token=f"{plane.operator_token}{line_break}")

    for _ in range(2):
        assert client.pod(pods.pods[0]).name == pods.pods[0]
        assert client.exec(pods.pods[0], "steady", ["true"]).exit_code == 0


@pytest.mark.parametrize("token", ["top\nsecret", "top secret", "topsecret\n\n", "top\x00secret"])
def test_a_token_that_cannot_be_sent_is_told_by_where_it_is_and_not_by_its_value(client_of, token):
    with pytest.raises(InvalidSettingError) as caught:
        client_of("steady", token=token)

    said = one_sentence(caught.value)
    assert "KUBECONFIG" in said
    assert "expected a token for context lab without blanks or control characters" in said
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_what_nobody_foresaw_is_told_by_its_class_and_not_by_what_was_sent(
    pods, client_of, monkeypatch
):
    """Whatever is wrong with a header, http.client quotes it."""

    def broken(*_, **__):
        raise ValueError("Invalid header value b'Bearer secret'")

    client = client_of(pods)
    monkeypatch.setattr(client.requests.wire, "ask", broken)
    monkeypatch.setattr("websocket.WebSocket.connect", broken)

    with pytest.raises(TransientError, match="an unexpected ValueError") as caught:
        client.requests.change(Need("get", "pods"), "GET", "/", {}, target="a pod", changes=False)
    with pytest.raises(UnknownResultError, match="an unexpected ValueError") as by_exec:
        client.exec(pods.pods[0], "steady", ["true"])

    for each in (caught, by_exec):
        assert "secret" not in "".join(traceback.format_exception(each.value))


def test_an_unknown_namespace(client_of):
    client = client_of("no-such-namespace")

    with pytest.raises(RefusedError, match="Namespace not found: no-such-namespace") as caught:
        client.cluster("steady")

    one_sentence(caught.value)


def test_an_unknown_cluster_names_the_known_ones(client):
    with pytest.raises(RefusedError, match="Cluster not found: prod") as caught:
        client.cluster("prod")

    assert "steady/steady" in one_sentence(caught.value)


def test_an_unknown_pod(client):
    with pytest.raises(RefusedError, match="Pod not found: crate-data-hot-x-0") as caught:
        client.cluster_of_pod("crate-data-hot-x-0")

    assert caught.value.status == 404
    one_sentence(caught.value)


@pytest.mark.parametrize("name", ["", "../nodes", "a/b", "pod?x=1", "Ünïcode", "x" * 300, "a b"])
def test_a_name_that_is_none_is_not_found(client, name):
    """And asks for nothing else than a pod of that name."""
    with pytest.raises(RefusedError) as caught:
        client.pod(name)

    assert caught.value.status in {400, 404}


def test_two_clusters_of_one_name(client_of, start_pods):
    pods = start_pods(nodes=1)
    other = manifests.statefulset("other", pods.namespace, replicas=0, claims=False)
    other["metadata"] = {
        "name": f"crate-data-cold-{pods.name}",
        "namespace": pods.namespace,
        "labels": {},
    }
    pods.rest.ask("POST", f"/apis/apps/v1/namespaces/{pods.namespace}/statefulsets", other)

    with pytest.raises(RefusedError, match=f"2 clusters are called {pods.name}") as caught:
        client_of(pods).cluster(pods.name)

    text = one_sentence(caught.value)
    assert pods.statefulset in text
    assert f"crate-data-cold-{pods.name}" in text


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    path = tmp_path / "config"
    path.write_text(json.dumps(manifests.kubeconfig(url, "token", "default")))

    with client_from(path) as client, pytest.raises(TransientError) as caught:
        client.version()

    assert one_sentence(caught.value) == f"{url}: Connection refused"


def test_a_name_that_nobody_knows(tmp_path):
    path = tmp_path / "config"
    path.write_text(json.dumps(manifests.kubeconfig("https://api.invalid:6443", "t", "default")))

    with (
        client_from(path) as client,
        pytest.raises(TransientError, match=r"api\.invalid") as caught,
    ):
        client.version()

    one_sentence(caught.value)


@pytest.mark.live("kubernetes")
def test_a_certificate_of_another_authority(control_plane, tmp_path):
    path = tmp_path / "config"
    document = manifests.kubeconfig(control_plane.url, control_plane.operator_token, "default")
    path.write_text(yaml.safe_dump(document))

    with (
        client_from(path) as client,
        pytest.raises(RefusedError, match="certificate is not trusted") as caught,
    ):
        client.version()
    one_sentence(caught.value)
    with client_from(path) as client, pytest.raises(RefusedError, match="not trusted"):
        client.exec("pod", "default", ["true"])


@pytest.mark.live("kubernetes")
def test_a_kubeconfig_for_the_real_one_works_over_tls(control_plane, tmp_path):
    path = tmp_path / "config"
    document = manifests.kubeconfig(control_plane.url, control_plane.operator_token, "default")
    authority = base64.b64encode(Path(control_plane._certificate).read_bytes()).decode()
    document["clusters"][0]["cluster"]["certificate-authority-data"] = authority
    path.write_text(yaml.safe_dump(document))

    with client_from(path) as client:
        assert client.version() == "v1.35.4"
        assert client.namespace == "default"


def test_the_resource_takes_the_very_texts_of_the_variables(plane, monkeypatch, pods):
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig("steady")))
    monkeypatch.setenv("CARETAKER_KUBE_CONTEXT", "lab")

    resource = KubernetesResource.from_variables().process_config_and_initialize()

    with resource.client() as client:
        assert client.context == "lab"
        assert client.pod(pods.pods[0]).uid == pods.uid(0)


def test_a_client_never_uses_another_ones_token(pods, client_of):
    """The official client's default configuration keeps a hook of the kubeconfig loaded before."""
    first = client_of(pods)
    assert first.pod(pods.pods[0]).uid
    second = client_of(pods, token="nobody")

    with pytest.raises(RefusedError, match="token"):
        second.pod(pods.pods[0])
    assert first.pod(pods.pods[0]).uid
