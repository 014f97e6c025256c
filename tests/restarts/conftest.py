"""A CrateDB in pods on the lab's Kubernetes, a Dagster home, and `caretaker` set up for both.

The namespace and cluster are each test's own; the control plane is shared. What the lab is asked
goes past the API server that caretaker uses.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lab.cratedb import LabCrateDB
from lab.faults import Action, Fault
from lab.kubernetes import manifests
from lab.kubernetes.cluster import CratePods
from lab.kubernetes.plane import Plane
from resources.state_store import StateStore
from tests.console.conftest import Caretaker, Ended
from tests.planes import plane_of

_numbers = itertools.count(1)

#: Waits short enough for a test; everything else is what an operator gets who says nothing.
IMPATIENT = {
    "settle_s": 0.5,
    "stable_s": 1.0,
    "hang_after_s": 15.0,
    "statement_timeout_s": 12.0,
    "prepare_timeout_s": 60.0,
    "rest_timeout_s": 90.0,
    "ready_margin_s": 120.0,
}

SETTINGS = {
    "cluster.graceful_stop.timeout": "7200000ms",
    "cluster.graceful_stop.force": False,
    "cluster.graceful_stop.min_availability": "PRIMARIES",
    "cluster.routing.allocation.enable": "all",
}

#: What one wait here takes at most, on a machine that is busy with other things.
PATIENCE_S = 240.0


@pytest.fixture(scope="session")
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    """A control plane for the whole session: the lab's, unless `--restarts-on real`."""
    with plane_of(request, request.config.getoption("--restarts-on")) as found:
        yield found


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME whose databases are made, to be copied."""
    home = tmp_path_factory.mktemp("restarts-home")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.get_run_records(limit=1)
            instance.event_log_storage.get_event_records(
                dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION), limit=1
            )
    StateStore.open(f"sqlite:///{home / 'caretaker.db'}").close()
    return home


@pytest.fixture
def home(tmp_path: Path, empty_home: Path) -> Path:
    """A DAGSTER_HOME of the test's own."""
    return Path(shutil.copytree(empty_home, tmp_path / "home"))


class World:
    """One cluster in pods, and how it stands."""

    def __init__(self, pods: CratePods) -> None:
        self.pods = pods
        self.crate = pods.crate
        self.before = {name: pods.uid(name) for name in pods.pods}

    @property
    def name(self) -> str:
        """Of the cluster."""
        return self.pods.name

    @property
    def replaced(self) -> set[str]:
        """Numbers of the pods that are other ones now."""
        changed = (name for name, uid in self.before.items() if self.pods.uid(name) != uid)
        return {name.rpartition("-")[2] for name in changed}

    @property
    def restarted(self) -> set[str]:
        """Numbers of the pods that are other ones now, or whose container is.

        A busy machine misses the seconds in which a drained pod is deleted.
        """
        in_place = {name for name in self.pods.pods if restarts_of(self.pods.pod(name)) > 0}
        return self.replaced | {name.rpartition("-")[2] for name in in_place}

    @property
    def settings(self) -> dict[str, Any]:
        """The four settings as CrateDB shows them."""
        rows = self.crate.sql(
            "SELECT settings['cluster']['graceful_stop'], "
            "settings['cluster']['routing']['allocation']['enable'] FROM sys.cluster"
        )["rows"]
        graceful, allocation = rows[0]
        return {
            **{f"cluster.graceful_stop.{key}": value for key, value in graceful.items()},
            "cluster.routing.allocation.enable": allocation,
        }

    @property
    def changes(self) -> list[str]:
        """Every statement that CrateDB received from outside and that is no query."""
        return [
            entry.stmt
            for entry in self.crate.journal
            if not entry.stmt.lstrip().upper().startswith("SELECT")
        ]

    @property
    def master(self) -> str:
        """Number of the elected master's pod."""
        master = self.crate.world.master
        node = next(each for each in self.crate.world.nodes if each.id == master)
        return node.hostname.rpartition("-")[2]

    def versions(self) -> dict[str, str]:
        """Resource versions of every pod and of the StatefulSet."""
        found = {name: self.pods.pod(name) for name in self.pods.pods}
        versions = {
            name: str(pod["metadata"]["resourceVersion"]) for name, pod in found.items() if pod
        }
        path = (
            f"/apis/apps/v1/namespaces/{self.pods.namespace}/statefulsets/{self.pods.statefulset}"
        )
        statefulset = self.pods.rest.ask("GET", path)
        return versions | {"statefulset": str(statefulset["metadata"]["resourceVersion"])}

    def pod(self, number: int) -> str:
        """Name of a pod."""
        return self.pods.pods[number]


@pytest.fixture
def start(plane: Plane) -> Iterator[Callable[..., World]]:
    """Start a cluster of one's own."""
    with ExitStack() as started:
        yield _starter(plane, started)
    plane.front.faults.clear()


@pytest.fixture(scope="module")
def module_start(plane: Plane) -> Iterator[Callable[..., World]]:
    """Start a cluster that several tests look at and none changes."""
    with ExitStack() as started:
        yield _starter(plane, started)


def _starter(plane: Plane, started: ExitStack) -> Callable[..., World]:
    def begin(
        *, managed: bool = False, tables: bool = True, seed: int = 0, **options: Any
    ) -> World:
        number = next(_numbers)
        # Not those of tests/kubernetes, whose control plane may be the same.
        name = options.pop("name", f"r{number}")
        nodes = options.pop("nodes", 3)
        options.setdefault("back_off_s", 1.0)
        options.setdefault("namespace", f"ns-{name}")
        prestop = manifests.DC_UTIL if managed else None
        crate = LabCrateDB(nodes, cluster_name=name, recovery_s=0.3, seed=seed or number)
        started.enter_context(crate)
        pods = CratePods(plane, crate=crate, name=name, nodes=nodes, prestop=prestop, **options)
        started.enter_context(pods)
        if tables:
            pods.crate.table("doc.readings", shards=4, replicas="1")
        return World(pods)

    return begin


@pytest.fixture
def caretaker(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, plane: Plane
) -> Iterator[Callable[..., Caretaker]]:
    """Set the command up for a cluster: `caretaker(world)`."""
    made: list[Caretaker] = []

    def of(world: World, *, address: bool = True) -> Caretaker:
        folder = tmp_path / f"here-{len(made)}"
        folder.mkdir()
        environment = {
            "DAGSTER_HOME": str(home),
            "KUBECONFIG": str(plane.kubeconfig(world.pods.namespace)),
        }
        if address:
            environment["CRATE_CONNECTION_STRING"] = world.crate.connection_string
        command = Restarter(capsys, home, folder, environment)
        made.append(command)
        return command

    yield of
    for command in made:
        for process in command.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


class Restarter(Caretaker):
    """`caretaker restart` and its kin, with a test's patience."""

    def config(self, **options: Any) -> str:
        """Write a config file and return its path; JSON is YAML."""
        path = self.folder / "options.yaml"
        path.write_text(json.dumps({**IMPATIENT, **options}))
        return str(path)

    def restart(self, world: World, *arguments: str, **options: Any) -> Ended:
        """Restart a cluster, here, and return what was said."""
        config = self.config(**options)
        return self("restart", world.name, "--config", config, "--output", "json", *arguments)

    def decommission(self, pod: str, *arguments: str, **options: Any) -> Ended:
        """Take a pod's node out, here."""
        config = self.config(**options)
        return self("decommission", pod, "--config", config, "--output", "json", *arguments)

    def assert_stopped(self, process: subprocess.Popen[str], world: World) -> None:
        """A restart that was told to stop says so, and what it had set is as before."""
        ended = self.wait(process)
        assert ended.code == 1, ended.err
        (cluster,) = ended.json["clusters"]
        assert cluster["outcome"] == "STOPPED", ended.err
        assert world.settings == SETTINGS
        with self.store as store:
            assert store.open_restarts() == []


@contextmanager
def held_before_its_drain(world: World, *, drained: bool) -> Iterator[None]:
    """Let no drain begin within: what is done to a run then does not come too late on a busy day.

    Behind it what has waited is `drained`, or was never asked for.
    """
    done = threading.Event()

    def hold(_: object) -> None:
        done.wait(PATIENCE_S)

    action = Action.WATCH if drained else Action.RESET_BEFORE
    world.crate.faults.add(Fault("^ALTER CLUSTER DECOMMISSION", action, before=hold))
    try:
        yield
    finally:
        done.set()


def restarts_of(pod: dict[str, Any] | None) -> int:
    """How often the pod's container was started again."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or [{}]
    return int(statuses[0].get("restartCount") or 0)


def wait_until(what: str, holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Return when it holds; a bounded wait that says what it waited for."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {within_s:g} s for {what}"
        time.sleep(0.1)
