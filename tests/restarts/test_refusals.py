"""Reasons not to begin: exit code 3, one clear reason, and nothing touched anywhere."""

from __future__ import annotations

import pytest

from lab.kubernetes import manifests
from tests.restarts.conftest import SETTINGS


@pytest.fixture(scope="module")
def shared(module_start):
    """One cluster for all refusals: none of them changes it."""
    return module_start()


def _refused(world, caretaker, *arguments, words, **options):
    """Try a restart, which must be refused for this reason and leave all as it was."""
    before, changed = world.versions(), list(world.changes)
    command = caretaker(world)

    run = command.restart(world, *arguments, **options)

    assert run.code == 3, (run.code, run.out, run.err)
    said = run.out + run.err
    for word in words:
        assert word in said, (word, said)
    assert world.versions() == before
    assert world.changes == changed
    assert world.settings["cluster.graceful_stop.timeout"] == "7200000ms"
    with command.store as store:
        assert store.open_restarts() == []
        assert store.held_locks() == []
    return run


def test_a_cluster_that_is_yellow(shared, caretaker):
    shared.crate.table("doc.lonely", replicas="5")
    try:
        _refused(shared, caretaker, words=["YELLOW", "must be GREEN"])
    finally:
        shared.crate.sql("DROP TABLE doc.lonely")


def test_another_number_of_nodes_than_expected(shared, caretaker):
    _refused(shared, caretaker, "--expected-nodes", "5", words=["3 nodes are present, 5"])


def test_allocation_that_somebody_else_restricts(shared, caretaker):
    shared.crate.sql("SET GLOBAL TRANSIENT \"cluster.routing.allocation.enable\" = 'primaries'")
    try:
        _refused(shared, caretaker, words=["somebody restricts allocation already"])
        assert shared.settings["cluster.routing.allocation.enable"] == "primaries"
    finally:
        shared.crate.sql('RESET GLOBAL "cluster.routing.allocation.enable"')


def test_a_snapshot_that_is_being_written(shared, caretaker):
    shared.crate.start_snapshot()
    try:
        _refused(shared, caretaker, words=["snapshot"])
    finally:
        shared.crate.end_snapshots()


def test_a_budget_that_is_used_up(shared, caretaker):
    path = f"/apis/policy/v1/namespaces/{shared.pods.namespace}/poddisruptionbudgets"
    budget = manifests.budget(shared.name, shared.pods.namespace, 0)
    budget["metadata"]["name"] = "tight"
    shared.pods.rest.ask("POST", path, budget)
    try:
        _refused(shared, caretaker, words=["PodDisruptionBudget"])
    finally:
        shared.pods.rest.ask("DELETE", f"{path}/tight")


@pytest.fixture(scope="module")
def only_here(shared):
    """Shards of which each node has the only copy of one."""
    shared.crate.table("doc.only_here", shards=3, replicas="0")
    yield
    shared.crate.sql("DROP TABLE doc.only_here")


@pytest.mark.usefixtures("only_here")
@pytest.mark.parametrize("percent", [88, 95], ids=["above low", "above high"])
def test_a_shard_that_no_other_node_can_take(shared, caretaker, percent):
    for node in shared.crate.nodes:
        shared.crate.fill_disk(node, percent)
    try:
        _refused(shared, caretaker, words=["no other node can take"])
    finally:
        for node in shared.crate.nodes:
            shared.crate.fill_disk(node, 20)


@pytest.mark.usefixtures("only_here")
def test_a_shard_that_the_cluster_lets_nobody_else_have(shared, caretaker):
    names = ",".join(shared.crate.nodes)
    key = '"cluster.routing.allocation.exclude._name"'
    shared.crate.sql(f"SET GLOBAL TRANSIENT {key} = '{names}'")
    try:
        _refused(shared, caretaker, words=["no other node can take"])
    finally:
        shared.crate.sql(f"RESET GLOBAL {key}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{name}]\n[[{name}.windows]]\ntime = "00:00-00:01"\nweekdays = ["{other}"]\n', "closed"),
        ('[{set}]\n[[{set}.windows]]\ntime = "00:00-00:01"\nweekdays = ["{other}"]\n', "closed"),
        ('[{name}]\nwindow = "x"\n', "window"),
        ("[{name}\n", "no TOML"),
    ],
    ids=["closed", "closed for its StatefulSet", "unknown key", "broken"],
)
def test_a_maintenance_window_that_does_not_let_through(shared, caretaker, tmp_path, text, words):
    path = tmp_path / "windows.toml"
    day = "mon" if _weekday() != 0 else "thu"
    text = text.replace("{name}", shared.name).replace("{set}", shared.pods.statefulset)
    path.write_text(text.replace("{other}", day))

    _refused(shared, caretaker, "--windows", str(path), words=[words])


def test_a_windows_file_without_an_entry_for_the_cluster_is_said_so_once(
    shared, caretaker, tmp_path
):
    path = tmp_path / "windows.toml"
    path.write_text('[prdo]\n[[prdo.windows]]\ntime = "22:00-02:00"\n')

    run = _refused(shared, caretaker, "--windows", str(path), "--expected-nodes", "5", words=["5"])

    place = f"{shared.pods.namespace}/{shared.name}"
    assert run.err.count(f"the windows file has no entry for {place} (there: prdo)") == 1


def test_a_cluster_without_a_window_where_one_is_required(shared, caretaker):
    _refused(shared, caretaker, "--require-window", words=["no maintenance window is configured"])


def test_an_address_of_another_cluster(shared, caretaker, module_start):
    """The pods' own CrateDB is asked, too: nobody drains one cluster and deletes another's pods."""
    other = module_start()
    command = caretaker(shared)
    command.environment["CRATE_CONNECTION_STRING"] = other.crate.connection_string

    run = command.restart(shared, "--sql", "address")

    assert run.code == 3, run.err
    assert "leads to cluster" in run.err
    assert shared.changes == []
    assert other.changes == []


def test_a_cluster_of_a_single_node(start, caretaker):
    world = start(nodes=1, tables=False)

    _refused(world, caretaker, words=["single"])
    assert world.settings == SETTINGS


def _weekday():
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.now(UTC).weekday()
