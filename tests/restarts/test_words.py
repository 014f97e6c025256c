"""Plans that write nothing, explanations, and bad input in one sentence."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import replace

import pytest

from caretaker.decommission.model import ClusterRef
from caretaker.decommission.outcome import not_found
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.ticket import RestartTicket
from caretaker.errors import TransientError
from ops import decommission
from ops.decommission_loop import Restart
from ops.decommission_run import ClusterReport
from resources.clock import utc_now
from resources.kubernetes.client import KubernetesClient
from resources.process import owner_of_run


@pytest.fixture(scope="module")
def shared(module_start):
    """One cluster: nothing here changes it."""
    return module_start()


def test_a_dry_run_prints_the_whole_plan_in_order_and_writes_nothing(shared, caretaker):
    before = shared.versions()
    command = caretaker(shared)

    run = command.restart(shared, "--dry-run")

    assert run.code == 0, run.err
    (cluster,) = run.json["clusters"]
    pods = [pod["pod_name"][-1] for pod in cluster["plan"]]
    others = [number for number in "210" if number != shared.master]
    assert pods == [*others, shared.master]
    for pod in cluster["plan"]:
        words = " ".join(pod["actions"])
        order = ["SET GLOBAL", "ALTER CLUSTER DECOMMISSION", "delete pod", "RESET GLOBAL", "Ready"]
        places = [words.index(word) for word in order]
        assert places == sorted(places)
    assert shared.versions() == before
    assert shared.changes == []
    with command.store as store:
        assert store.restarts(include_closed=True) == []
        assert store.held_locks() == []
        assert store.decommissions(10) == []


def test_explain_names_the_strategy_and_why(shared, caretaker):
    command = caretaker(shared)
    for name in (shared.name, shared.pods.statefulset, shared.pod(0)):
        run = command("decommission", "--explain", name, "--output", "json")
        assert run.code == 0, run.err
        assert {pod["strategy"] for pod in run.json["pods"]} == {"manual"}
        assert any("no preStop hook" in line for line in run.json["pods"][0]["explanation"])


@pytest.mark.parametrize("of", ["cluster", "StatefulSet"])
def test_explain_says_that_there_is_no_pod(shared, caretaker, monkeypatch, of):
    seen = KubernetesClient.seen
    monkeypatch.setattr(
        KubernetesClient, "seen", lambda *a, **options: replace(seen(*a, **options), pods=())
    )
    name = shared.name if of == "cluster" else shared.pods.statefulset

    run = caretaker(shared)("decommission", "--explain", name)

    assert run.code == 0, run.err
    assert run.out == f"{name}: no pod is there to be drained\n"


def test_the_clusters_may_be_named_by_the_file(shared, caretaker):
    command = caretaker(shared)
    options = ["--config", command.config(clusters=[shared.name], dry_run=True), "--output", "json"]

    run = command("restart", *options)

    assert run.code == 0, run.err
    assert [each["cluster"] for each in run.json["clusters"]] == [shared.name]
    command("restart", "--config", command.config(clusters=["all"])).refused("--yes", code=2)
    for verb, missing in (("restart", "CLUSTER"), ("decommission", "POD")):
        command(verb, "--config", command.config()).refused(f"name the {missing}", code=2)


@pytest.mark.parametrize("word", [(), ("--dry-run",)], ids=["restart", "dry run"])
def test_a_store_that_is_not_there_is_one_plain_error_and_nothing_was_touched(
    shared, caretaker, word
):
    command = caretaker(shared)
    command.environment["CARETAKER_STATE_URL"] = "postgresql+psycopg://u:p@127.0.0.1:1/x"

    run = command("restart", shared.name, *word)

    assert run.refused("the state store", "is not available")
    assert "what it did" not in run.err
    assert shared.changes == []


def test_a_store_that_is_lost_behind_the_beginning_cannot_say_what_was_done(
    shared, caretaker, monkeypatch
):
    @contextlib.contextmanager
    def away():
        raise TransientError("the store is away")
        yield

    def lost(_):
        monkeypatch.setattr("console.decommission.open_store", away)
        raise TransientError("the store was lost")

    monkeypatch.setattr(Restart, "run", lost)
    run = caretaker(shared)("restart", shared.name)

    run.refused("the store was lost", "what it did cannot be read: the store is away")


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["restart", "nowhere"], ["Cluster not found: nowhere"], 1),
        (["decommission", "nobody-0"], ["Pod not found: nobody-0"], 1),
        (["restart", "NAME", "--pod", "nobody-0"], ["Pod not found: nobody-0"], 1),
        (
            ["restart", "NAME", "--context", "moon"],
            ["--context: found 'moon'", "one of the contexts"],
            1,
        ),
        (["restart", "NAME", "-n", "empty"], ["Namespace not found: empty"], 1),
        (["restart", "NAME", "--allocation-mode", "some"], ["--allocation-mode", "some"], 1),
        (["restart", "NAME", "--timeout", "-3"], ["--timeout"], 1),
        (["restart", "NAME", "--dc-util-pattern", "("], ["--dc-util-pattern"], 1),
        (["restart", "NAME", "--windows", "/no/such.toml"], ["/no/such.toml"], 3),
        (["restart", "all"], ["--yes"], 2),
        (["restart"], ["CLUSTER"], 2),
        (["decommission"], ["POD"], 2),
        (["tickets", "show", "r99"], ["there is no ticket r99"], 1),
        (["tickets", "show", "abc"], ["r3"], 2),
    ],
)
def test_bad_input_is_one_sentence(shared, caretaker, arguments, words, code):
    given = [shared.name if word == "NAME" else word for word in arguments]

    run = caretaker(shared)(*given)

    run.refused(*words, code=code)
    assert shared.changes == []


@pytest.mark.parametrize(
    ("verb", "key", "value"),
    [
        ("restart", "pod", "crate-2"),
        ("restart", "ticket_id", 3),
        ("decommission", "pods", ["crate-2"]),
        ("decommission", "only_cordoned", True),
        ("--explain", "clusters", ["all"]),
    ],
)
def test_a_key_of_another_verb_is_refused_by_name_and_not_passed_over(
    shared, caretaker, verb, key, value
):
    """`pod` for a restart would otherwise restart every pod."""
    command = caretaker(shared)
    verbs = ["decommission", verb] if verb == "--explain" else [verb]
    name = shared.pod(2) if verb == "decommission" else shared.name

    run = command(*verbs, name, "--config", command.config(**{key: value}), "--dry-run")

    run.refused(f"options.yaml: {key}: found {value!r}", code=1)


@pytest.fixture(scope="module")
def second(shared, module_start):
    """Another cluster beside it."""
    names = {"namespace": shared.pods.namespace, "name": f"{shared.name}-second"}
    return module_start(**names, tables=False, seed=77)


@pytest.mark.parametrize("turn", [1, -1], ids=["the second", "the first"])
def test_what_becomes_of_a_cluster_is_told_though_another_one_cannot_be_begun(
    shared, second, caretaker, turn
):
    command = caretaker(shared, address=False)
    _under_way_elsewhere(command, second)

    names = [shared.name, second.name][::turn]
    options = ["--config", command.config(), "--dry-run", "--output", "json"]
    run = command("restart", *names, *options)

    assert run.code == 3, run.err
    assert [each["cluster"] for each in run.json["clusters"]] == names
    found, refused = run.json["clusters"][::turn]
    assert found["outcome"] == "PLANNED"
    assert len(found["plan"]) == 3
    assert refused["outcome"] == "REFUSED"
    assert "open restart already" in refused["reason"]


def test_a_dry_run_of_which_all_clusters_are_refused_is_a_dry_run(shared, second, caretaker):
    command = caretaker(shared, address=False)
    for world in (shared, second):
        _under_way_elsewhere(command, world)

    run = command("restart", shared.name, second.name, "--dry-run", "--output", "json")

    assert run.code == 3, run.err
    assert run.json["dry_run"] is True
    assert [each["outcome"] for each in run.json["clusters"]] == ["REFUSED", "REFUSED"]
    assert [each["plan"] for each in run.json["clusters"]] == [[], []]


def _under_way_elsewhere(command, world):
    """Open a ticket of another run for a cluster."""
    cluster_id = str(world.crate.sql("SELECT id FROM sys.cluster")["rows"][0][0])
    cluster = ClusterRef(world.pods.namespace, world.name, cluster_id)
    ticket = RestartTicket(cluster, RestartPolicy(), (), expected_nodes=3, created_at=utc_now())
    with command.store as store:
        store.open_restart(ticket, owner_of_run("other", 1), purpose="rolling_restart", way={})


@pytest.fixture
def suspended(shared):
    """A cluster beside it that is scaled to 0; its name."""
    name, namespace = f"{shared.name}-asleep", shared.pods.namespace
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    found = shared.pods.rest.ask("GET", f"{path}/{shared.pods.statefulset}")
    found["metadata"] = {"name": f"crate-{name}", "namespace": namespace}
    found["spec"] |= {"replicas": 0, "selector": {"matchLabels": {"app": name}}}
    found["spec"]["template"]["metadata"] = {"labels": {"app": name}}
    found.pop("status", None)
    shared.pods.rest.ask("POST", path, found)
    yield name
    shared.pods.rest.ask("DELETE", f"{path}/crate-{name}")


@pytest.mark.parametrize("dry_run", [True, False], ids=["planned", "done"])
@pytest.mark.parametrize("address", [True, False], ids=["by its address", "by exec"])
def test_a_cluster_that_is_scaled_to_0_has_no_pod_to_restart_and_stops_nobody(
    shared, suspended, caretaker, dry_run, address
):
    command = caretaker(shared, address=address)
    options = ["--output", "json", "--expected-nodes", "5", *["--dry-run"] * dry_run]

    run = command("restart", suspended, shared.name, *options)

    assert run.code == 3, run.err
    asleep, asked = run.json["clusters"]
    assert asleep["outcome"] == ("PLANNED" if dry_run else "COMPLETED")
    assert asleep["reason"] == "no pod is to be restarted: it is scaled to 0"
    assert asleep["plan" if dry_run else "pods"] == []
    assert "5 are expected" in asked["reason"]
    assert shared.changes == []


@pytest.mark.parametrize(
    ("outcome", "others", "code"),
    [("REFUSED", "COMPLETED", 1), ("FAILED", "LEFT", 1), ("LEFT_OPEN", "LEFT", 1)],
)
def test_only_a_cluster_that_was_touched_stops_the_ones_behind_it(
    shared, second, caretaker, monkeypatch, outcome, others, code
):
    def one(_context, _kube, found, *_):
        became = outcome if found.ref.name == shared.name else "COMPLETED"
        pods = (not_found("crate-2", found.ref.namespace),) if became == "COMPLETED" else ()
        return ClusterReport(found.ref.namespace, found.ref.name, "id", became, results=pods)

    monkeypatch.setattr(decommission, "_one", one)
    run = caretaker(shared)("restart", shared.name, second.name, "--output", "json")

    assert run.code == code, run.err
    assert [each["outcome"] for each in run.json["clusters"]] == [outcome, others]


def test_ctrl_c_before_the_next_cluster_is_begun_keeps_what_became_of_the_first(
    shared, second, caretaker, monkeypatch
):
    command = caretaker(shared, address=False)
    done = ClusterReport(shared.pods.namespace, shared.name, "id", "COMPLETED")

    def one(_context, _kube, found, *_):
        if found.ref.name == second.name:
            signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(decommission, "_one", one)
    run = command("restart", shared.name, second.name, "--output", "json")

    assert run.code == 1, run.err
    first, stopped = run.json["clusters"]
    assert first["outcome"] == "COMPLETED"
    assert (stopped["cluster"], stopped["outcome"]) == (second.name, "STOPPED")
    assert stopped["reason"] == "stopped before it was begun"


@pytest.mark.parametrize("found", ["/no/such/kubeconfig", "broken"])
def test_a_kubeconfig_that_cannot_be_used_is_named(shared, caretaker, tmp_path, found):
    command = caretaker(shared)
    if found == "broken":
        found = str(tmp_path / "kubeconfig")
        (tmp_path / "kubeconfig").write_text("contexts: [\n")
    command.environment["KUBECONFIG"] = found

    command("restart", shared.name).refused("KUBECONFIG", found)


def test_the_doctor_says_that_a_restart_may_begin(shared, caretaker):
    run = caretaker(shared)("doctor", "kubernetes", "--output", "json")

    assert run.code == 0, run.out
    said = {check["detail"] for check in run.json["checks"]}
    assert "a restart may begin" in said


def test_the_doctor_names_a_restart_that_is_open_and_blames_nobody_else(shared, caretaker):
    command = caretaker(shared)
    (own,) = shared.crate.sql("SELECT id FROM sys.cluster")["rows"]
    cluster = ClusterRef(shared.pods.namespace, shared.name, own[0])
    ticket = RestartTicket(cluster, RestartPolicy(), (), expected_nodes=3, created_at=utc_now())
    with command.store as store:
        store.open_restart(ticket, owner_of_run("other", 1), purpose="rolling_restart", way={})

    run = command("doctor", "--output", "json")

    (state,) = (each for each in run.json["checks"] if each["check"] == "tickets")
    assert state["detail"] == "1 open: caretaker tickets"
    (_, said) = (each for each in run.json["checks"] if each["check"] == str(cluster))
    assert said["status"] == "warn"
    assert "an open restart already" in said["detail"]
    assert "caretaker tickets restore r1" in said["detail"]
