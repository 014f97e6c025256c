"""`caretaker tickets close r1`: what cannot be looked at is not taken for gone."""

from __future__ import annotations

import json
from dataclasses import replace

import dagster as dg
import pytest

from caretaker.decommission.cluster_settings import ALLOCATION, DEFAULTS, KEYS, TIMEOUT
from caretaker.decommission.model import ClusterRef, DecommissionStrategy
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.putting_back import remember
from caretaker.decommission.restart import begin
from caretaker.decommission.ticket import DecommissionState, Remembered
from lab.kubernetes.plane import LabPlane
from ops.decommission_way import Way, kube_again
from resources.clock import utc_now
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import KubernetesSettings
from resources.process import owner_of_run

CLOSE = ("tickets", "close", "r1", "--reason", "said the test")


@pytest.fixture(scope="module")
def shared(module_start):
    """One cluster: no pod of it is changed here."""
    return module_start()


@pytest.fixture(scope="module")
def staging(shared):
    """Another Kubernetes, which has that namespace and not that cluster."""
    with LabPlane() as plane:
        namespace = {"metadata": {"name": shared.pods.namespace}}
        plane.admin.ask("POST", "/api/v1/namespaces", namespace)
        yield plane


@pytest.fixture
def command(shared, caretaker):
    """`caretaker` for that cluster, by exec in its pods."""
    return caretaker(shared, address=False)


@pytest.fixture
def left(shared, command):
    """Leave ticket r1 of a restart that nobody works on: `left(name=...)`, `left(owes=False)`.

    `left(deleted=UID)`: it died behind the delete of its first pod, which a hook was to drain.
    """

    def leave(*, name=shared.name, cluster_id="", owes=True, deleted="", run_id="r", pid=1):
        settings = KubernetesSettings.from_environment(command.environment)
        with KubernetesClient(settings) as kube, command.store as store:
            seen = kube.seen(kube.cluster(shared.name))
            (own,) = shared.crate.sql("SELECT id FROM sys.cluster")["rows"]
            ref = ClusterRef(shared.pods.namespace, name, cluster_id or own[0])
            ticket = begin(ref, seen.pods, seen, RestartPolicy(), utc_now())
            if owes:
                owed = Remembered(ALLOCATION, "all", ours=("primaries",))
                ticket = replace(ticket, settings=(owed,))
            if deleted:
                pod = replace(
                    ticket.pods[0],
                    uid=deleted,
                    state=DecommissionState.DELETING,
                    strategy=DecommissionStrategy.KUBERNETES_MANAGED,
                    timeout_s=720.0,
                    deleted_at=utc_now(),
                )
                before = remember({**DEFAULTS, TIMEOUT: "900s"})
                ticket = replace(ticket.with_pod(pod), settings=before)
            way = Way().begun_with(kube).as_document()
            owner = owner_of_run(run_id, pid)
            held = store.open_restart(ticket, owner, purpose="rolling_restart", way=way)
            store.restart_failed(held, ticket, "said the test", utc_now())

    return leave


def is_open(command):
    with command.store as store:
        return [row.id for row in store.open_restarts()] == [1]


@pytest.mark.parametrize("word", [(), ("--gone",)], ids=["", "gone"])
def test_a_cluster_that_another_kubernetes_does_not_have_is_not_gone(
    shared, command, left, plane, staging, word
):
    left()
    command.environment["KUBECONFIG"] = str(staging.kubeconfig(shared.pods.namespace))

    ended = command(*CLOSE, *word)

    ended.refused("Cluster not found", staging.front.url, plane.front.url, code=3)
    assert is_open(command)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"name": "torn-down"}, "the cluster is gone; closed by an operator"),
        ({"cluster_id": "another"}, "the cluster is another one by now"),
    ],
    ids=["not found", "another"],
)
def test_what_is_owed_to_a_cluster_that_is_not_there_is_let_go_only_when_it_is_said_to_be_gone(
    command, left, one, said
):
    left(**one)

    command(*CLOSE).refused("--gone", f'RESET GLOBAL "{ALLOCATION}"', code=3)
    assert is_open(command)

    ended = command(*CLOSE, "--gone")
    assert ended.code == 0, ended
    assert said in ended.out
    assert not is_open(command)


def test_a_ticket_that_owes_nothing_to_a_cluster_that_is_gone_is_closed(command, left):
    left(name="torn-down", owes=False)

    ended = command(*CLOSE)

    assert ended.code == 0, ended
    assert not is_open(command)


def test_what_an_operator_has_put_back_himself_lets_his_ticket_be_closed(shared, command, left):
    left()
    sql = shared.crate.sql
    sql(f"SET GLOBAL TRANSIENT \"{ALLOCATION}\" = 'primaries'")
    try:
        command(*CLOSE).refused("promised back", f'RESET GLOBAL "{ALLOCATION}"', code=3)
    finally:
        sql(f'RESET GLOBAL "{ALLOCATION}"')

    ended = command(*CLOSE)

    assert ended.code == 0, ended
    assert not is_open(command)


def test_a_pod_that_is_still_on_its_way_out_keeps_its_ticket_open(shared, command, left):
    """Its hook drains it, and has not set yet what it will leave behind."""
    name = shared.pod(2)
    left(deleted=shared.pods.uid(name))

    command(*CLOSE).refused(f"pod {name}", "not out yet", "caretaker tickets restore r1", code=3)

    assert is_open(command)


def test_what_dc_util_has_left_behind_keeps_a_ticket_open_until_it_is_put_back(
    shared, command, left
):
    left(deleted="the one before")
    sql = shared.crate.sql
    sql("SET GLOBAL TRANSIENT \"cluster.graceful_stop.timeout\" = '720s'")
    sql('SET GLOBAL TRANSIENT "cluster.graceful_stop.force" = true')
    try:
        reset = 'RESET GLOBAL "cluster.graceful_stop.timeout", "cluster.graceful_stop.force"'
        again = "SET GLOBAL PERSISTENT \"cluster.graceful_stop.timeout\" = '900s'"
        command(*CLOSE).refused("promised back", f"{reset}; {again}", code=3)
        assert is_open(command)

        sql(reset)
        sql(again)
        ended = command(*CLOSE)
    finally:
        sql("RESET GLOBAL " + ", ".join(f'"{key}"' for key in KEYS))

    assert ended.code == 0, ended
    assert not is_open(command)


def test_what_dc_util_may_have_left_in_a_cluster_that_is_not_there_is_let_go_only_when_it_is_gone(
    command, left
):
    left(name="torn-down", deleted="the one before")

    command(*CLOSE).refused("--gone", "PERSISTENT", "900s", code=3)
    assert is_open(command)

    assert command(*CLOSE, "--gone").code == 0


@pytest.mark.parametrize("dry_run", [True, False], ids=["asked", "done"])
def test_a_dead_run_whose_restart_is_closed_is_no_longer_at_work_in_dagster(command, left, dry_run):
    """It would take one of `max_concurrent_runs` for ever."""

    @dg.job(name="rolling_restart")
    def stub() -> None:
        pass

    at_work, failed = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
    with command.instance() as instance:
        run = instance.create_run_for_job(stub, status=at_work)
        left(name="torn-down", owes=False, run_id=run.run_id, pid=2**22 + 1)

        ended = command(*CLOSE, *["--dry-run"] * dry_run)

        assert ended.code == 0, ended
        assert instance.get_run_by_id(run.run_id).status is (at_work if dry_run else failed)


def test_gone_is_said_of_clusters_and_not_of_tables(command):
    ended = command("tickets", "close", "12", "--reason", "x", "--gone")

    assert ended.code == 2
    assert "--gone" in ended.err


def test_whoever_takes_over_goes_by_the_context_of_the_restart_where_it_has_one(tmp_path):
    """And in a pod, where there is none of that name, by what it has."""
    contexts = {"staging": "http://staging:1", "prod": "http://prod:1"}
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "staging",
                "contexts": [
                    {"name": name, "context": {"cluster": name, "user": "u"}} for name in contexts
                ],
                "clusters": [
                    {"name": name, "cluster": {"server": server}}
                    for name, server in contexts.items()
                ],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    here = KubernetesSettings(kubeconfig=str(path))
    with KubernetesClient(replace(here, context="prod")) as prod:
        kept = Way.of(Way().begun_with(prod).as_document())

    with kube_again(kept, here) as kube:
        assert (kube.context, kube.server) == ("prod", "http://prod:1")
    with kube_again(replace(kept, context="of another file"), here) as kube:
        assert (kube.context, kube.server) == ("staging", "http://staging:1")
