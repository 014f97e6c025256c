"""Under exactly the shipped role a whole restart works; what is missing is told by the commands.

Each verb's own message is `tests/kubernetes/test_rights.py`'s; here is what an operator meets.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from caretaker.decommission.model import ClusterRef
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.ticket import RestartTicket
from ops.decommission_way import Way
from resources.clock import utc_now
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.rights import CRATEDBS, needs
from resources.kubernetes.settings import KubernetesSettings
from resources.process import owner_of_run
from tests.kubernetes.test_rights import apply, documents, put, without
from tests.planes import PLANES, plane_of
from tests.restarts.conftest import SETTINGS


@pytest.fixture(scope="module", params=PLANES)
def plane(request):
    """The lab's control plane, and a real one; none of them is broken here."""
    with plane_of(request, request.param) as found:
        yield found


@pytest.fixture(scope="module")
def governed(module_start):
    """Three pods, and the shipped manifest in their namespace."""
    world = module_start()
    for document in documents(world.pods.namespace):
        apply(world.pods.rest, document)
    return world


@pytest.fixture
def command(governed, caretaker, plane):
    """`caretaker` with a token of the service account; SQL by exec in the pods, or not at all."""
    found = caretaker(governed, address=False)
    token = plane.token(governed.pods.namespace, "caretaker")
    found.environment["KUBECONFIG"] = str(plane.kubeconfig(governed.pods.namespace, token))
    return found


@pytest.fixture
def missing(governed, command):
    """Take a right from the role, until the API server has noticed: `missing(need)`."""
    namespace = governed.pods.namespace
    roles = {each["kind"]: each for each in documents(namespace)}

    @contextmanager
    def take(need):
        role = roles["Role" if need.namespace else "ClusterRole"]
        try:
            put(governed.pods.rest, without(role, need))
            governed.pods.wait_for("the role to be known", lambda: rights(command) == {need})
            yield need
        finally:
            put(governed.pods.rest, role)
            governed.pods.wait_for("the role to be known", lambda: rights(command) == set())

    return take


def rights(command):
    """Return what the API server says is missing."""
    settings = KubernetesSettings.from_environment(command.environment)
    with KubernetesClient(settings) as client:
        return set(client.missing_rights())


def of(verb, resource):
    """One of caretaker's needs; its namespace is filled in later."""
    return next(each for each in needs("x") if (each.verb, each.resource) == (verb, resource))


#: Without these no restart can begin, and one that had begun could not go on.
NEEDED = [
    of("list", "statefulsets"),
    of("watch", "pods"),
    of("create", "pods/exec"),
    of("create", "pods/eviction"),
    of("list", "persistentvolumeclaims"),
    of("get", "pods"),
    of("delete", "pods"),
]


@pytest.mark.parametrize("need", NEEDED, ids=lambda need: f"{need.verb}-{need.resource}")
def test_a_restart_that_lacks_a_right_says_which_and_touches_nothing(
    governed, command, missing, need
):
    need = replace(need, namespace=governed.pods.namespace)
    changed = list(governed.changes)
    with missing(need):
        run = command.restart(governed)
        seen = command("doctor", "kubernetes", "--output", "json")

    assert run.code in {1, 3}, run.out
    assert f"may not {need.missing}" in run.err
    assert f"add to {need.where}: {need.rule}" in run.err
    assert governed.replaced == set()
    assert governed.changes == changed
    assert seen.code == 1
    found = [each["detail"] for each in seen.json["checks"] if each["check"] == "rights"]
    assert found == [f"may not {need.missing}; {need.hint}"]


def test_without_what_may_be_unknown_the_doctor_only_warns(governed, command, missing):
    need = next(n for n in needs(governed.pods.namespace) if n.resource == CRATEDBS)
    with missing(need):
        seen = command("doctor", "kubernetes", "--output", "json")

    assert seen.code == 0
    (found,) = [each for each in seen.json["checks"] if each["check"] == "rights"]
    assert found["status"] == "warn"
    assert f"may not {need.missing}" in found["detail"]


def test_without_exec_an_address_is_enough_for_the_doctor_and_to_close_a_ticket(
    governed, command, missing
):
    """The manifest's variant for `--sql address`."""
    command.environment["CRATE_CONNECTION_STRING"] = governed.crate.connection_string
    need = replace(of("create", "pods/exec"), namespace=governed.pods.namespace)
    ((own,),) = governed.crate.sql("SELECT id FROM sys.cluster")["rows"]
    cluster = ClusterRef(governed.pods.namespace, governed.name, own)
    ticket = RestartTicket(cluster, RestartPolicy(), (), expected_nodes=3, created_at=utc_now())
    way = Way(sql="address").as_document()
    with command.store as store:
        held = store.open_restart(ticket, owner_of_run("r", 1), purpose="rolling_restart", way=way)
        store.restart_failed(held, ticket, "said the test", utc_now())

    with missing(need):
        seen = command("doctor", "kubernetes", "--output", "json")
        closed = command("tickets", "close", "r1", "--reason", "put back by hand")

    assert seen.code == 0, seen.out
    (found,) = [each for each in seen.json["checks"] if each["check"] == "rights"]
    assert found["status"] == "warn"
    assert f"may not {need.missing}" in found["detail"]
    assert closed.code == 0, closed.err
    with command.store as store:
        assert store.open_restarts() == []


def test_a_restart_that_may_not_list_events_goes_on_and_says_so_once(governed, command, missing):
    need = replace(of("list", "events"), namespace=governed.pods.namespace)
    # Events say why a deleted pod does not come back; one that ended before is not deleted.
    governed.crate.world.exit_delay_s = 60.0
    with missing(need):
        run = command.restart(governed, "--pod", governed.pod(2))

    assert run.code == 0, run.err
    assert run.json["clusters"][0]["pods"][0]["success"]
    assert run.err.count(f"may not {need.missing}; {need.hint}") == 1, run.err
    assert governed.settings == SETTINGS


def test_under_the_shipped_role_a_whole_restart_works(governed, command):
    run = command.restart(governed)

    assert run.code == 0, run.err
    (cluster,) = run.json["clusters"]
    assert [pod["success"] for pod in cluster["pods"]] == [True] * 3
    for pod in cluster["pods"]:
        assert pod["uid_after"] != pod["uid_before"] or pod["restarted_in_place"]
    assert governed.settings == SETTINGS
    seen = command("doctor", "kubernetes")
    assert seen.code == 0
    assert "everything that a restart needs" in seen.out
