"""The shipped role is enough; each verb of it that is missing is named, with the rule to add."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from caretaker.errors import RefusedError
from lab.kubernetes.cluster import CratePods
from lab.kubernetes.rest import RestError
from resources.kubernetes.rights import needs
from resources.sql.cratedb import Statement

MANIFEST = Path(__file__).parents[2] / "deploy" / "rbac.yaml"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def governed(plane):
    """Two pods, and the shipped manifest in their namespace."""
    with CratePods(plane, name="governed", namespace="governed", nodes=2) as pods:
        for document in documents("governed"):
            apply(pods.rest, document)
        yield pods


@pytest.fixture
def caretaker(plane, governed, client_of):
    """A fresh client with a token of the service account, and nothing else."""
    return client_of(governed, token=plane.token("governed", "caretaker"))


def test_the_manifest_grants_what_the_code_says_it_needs_and_nothing_more():
    granted = {
        (verb, group, resource, bool(document["metadata"].get("namespace")))
        for document in documents("governed")
        if document["kind"] in {"Role", "ClusterRole"}
        for rule in document["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert granted == {
        (each.verb, each.group, each.resource, bool(each.namespace)) for each in needs("governed")
    }


def test_under_the_shipped_role_everything_works(caretaker, governed):
    assert caretaker.missing_rights() == ()
    cluster = caretaker.cluster("governed")
    with caretaker.look(cluster) as look:
        look.wait(0.5)
        seen = look.seen(fresh=True, events_of=governed.pods)
    assert len(seen.pods) == 2
    assert seen.nodes
    assert seen.budgets
    assert look.unreadable == {}
    assert caretaker.may_evict(governed.pods[1], "governed") == ""
    with caretaker.crate(governed.pods[0]) as crate:
        assert crate.read(Statement("SELECT 1")) == [(1,)]
    before = governed.uid(1)
    caretaker.delete_pod(governed.pods[1], "governed", uid=before, grace_s=30)
    governed.wait_for("a new pod", lambda: governed.is_ready(1) and governed.uid(1) != before)


def test_the_role_does_not_reach_what_is_not_asked_for(plane, governed):
    """No secrets, no other namespace, nothing changed but pods."""
    from lab.kubernetes.rest import Rest  # noqa: PLC0415

    rest = Rest(plane.front.url, plane.token("governed", "caretaker"))
    for method, path in (
        ("GET", "/api/v1/namespaces/kube-system/pods"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/namespaces/governed/serviceaccounts"),
        ("DELETE", f"/apis/apps/v1/namespaces/governed/statefulsets/{governed.statefulset}"),
        ("DELETE", f"/api/v1/nodes/{governed.machines[0]}"),
    ):
        with pytest.raises(RestError) as caught:
            rest.ask(method, path)
        assert caught.value.status == 403


#: What may be unknown, and is told apart.
UNKNOWN = {("list", "nodes"), ("list", "poddisruptionbudgets"), ("list", "events")}


#: What each need is for.
def exercise(client, governed, need) -> str:
    """Do what takes one need, and return how its absence is told."""
    namespace, pod = "governed", governed.pods[0]
    calls = {
        ("get", "pods"): lambda: client.pod(pod),
        ("list", "pods"): lambda: client.seen(client.cluster("governed")),
        ("watch", "pods"): lambda: watch(client),
        ("delete", "pods"): lambda: client.delete_pod(pod, namespace, uid="no", grace_s=1),
        ("get", "pods/exec"): lambda: client.exec(pod, namespace, ["true"]),
        ("create", "pods/exec"): lambda: client.exec(pod, namespace, ["true"]),
        ("create", "pods/eviction"): lambda: client.may_evict(pod, namespace),
        ("get", "statefulsets"): lambda: client.statefulset(governed.statefulset),
        ("list", "statefulsets"): client.clusters,
        ("watch", "statefulsets"): lambda: watch(client),
        ("list", "persistentvolumeclaims"): lambda: client.seen(client.cluster("governed")),
    }
    call = calls.get((need.verb, need.resource))
    if call is None:
        return unread(client, need)
    with pytest.raises(RefusedError) as caught:
        call()
    assert caught.value.status == 403
    return f"{caught.value}; {caught.value.hint}"


def watch(client) -> None:
    with client.look(client.cluster("governed")) as look:
        for _ in range(100):
            look.wait(0.3)
            look.seen()


def unread(client, need) -> str:
    """What may be unknown, or is not read alone: told by the look, or by the rights themselves."""
    if (need.verb, need.resource) in UNKNOWN:
        with client.look(client.cluster("governed")) as look:
            pod = look.seen().pods[0].name
            seen = look.seen(fresh=True, events_of=[pod])
            told = look.unreadable[need.resource]
        if need.resource == "events":
            (said,) = seen.pod(pod).events
            assert said == f"unknown: {told}"
        else:
            part = seen.nodes if need.resource == "nodes" else seen.budgets
            assert part is None, "unknown, and not none"
        return f"{told}; {told.hint}"
    (told,) = client.missing_rights("governed")
    return (
        f"Forbidden: system:serviceaccount:governed:caretaker may not {told.missing}; {told.hint}"
    )


@pytest.mark.parametrize("need", needs("governed"), ids=lambda need: f"{need.verb}-{need.resource}")
def test_each_missing_verb_gives_its_own_message(plane, governed, client_of, need):
    client = client_of(governed, token=plane.token("governed", "caretaker"))
    kind = "Role" if need.namespace else "ClusterRole"
    role = next(each for each in documents("governed") if each["kind"] == kind)
    try:
        put(governed.rest, without(role, need))
        settle(governed, client, missing={need})

        told = exercise(client, governed, need)

        if (need.verb, need.resource) != ("create", "pods/exec"):
            # Refused without a word, since 1.35.
            assert "system:serviceaccount:governed:caretaker" in told
        assert f"may not {need.missing}" in told
        assert f"add to {need.where}: {need.rule}" in told
        assert client.missing_rights("governed") == (need,)
    finally:
        put(governed.rest, role)
        settle(governed, client, missing=set())


def settle(governed, client, *, missing) -> None:
    """Return when the API server has noticed."""
    governed.wait_for("the role to be known", lambda: set(client.missing_rights()) == missing)


def without(role, need):
    """The role without one verb on one resource; the rest of its rule stays."""
    changed = copy.deepcopy(role)
    rules = []
    for rule in changed["rules"]:
        if need.resource not in rule["resources"] or need.verb not in rule["verbs"]:
            rules.append(rule)
            continue
        others = [each for each in rule["resources"] if each != need.resource]
        if others:
            rules.append({**rule, "resources": others})
        left = [verb for verb in rule["verbs"] if verb != need.verb]
        if left:
            rules.append({**rule, "resources": [need.resource], "verbs": left})
    changed["rules"] = rules
    return changed


def documents(namespace: str):
    """The manifest, as its first lines say to apply it."""
    text = MANIFEST.read_text().replace("namespace: crate\n", f"namespace: {namespace}\n")
    return list(yaml.safe_load_all(text))


def path_of(document) -> str:
    kind, meta = document["kind"], document["metadata"]
    base = "/api/v1" if kind == "ServiceAccount" else RBAC
    inside = f"/namespaces/{meta['namespace']}" if meta.get("namespace") else ""
    return f"{base}{inside}/{kind.lower()}s/{meta['name']}"


def apply(rest, document) -> None:
    try:
        rest.ask("POST", path_of(document).rpartition("/")[0], document)
    except RestError as error:
        if error.status != 409:
            raise
        put(rest, document)


def put(rest, document) -> None:
    rest.ask("PUT", path_of(document), document)
