"""`python -m lab.materialize` starts, says so, is driven from outside, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from pathlib import Path

import psutil
import psycopg
import pytest

from lab.control import LabControl, LabUnreachableError
from lab.faults import Action, Fault
from lab.materialize.control import control
from lab.materialize.process import LabDidNotStartError, MaterializeProcess


def underneath(pid: int) -> tuple[list[psutil.Process], list[Path]]:
    """Return the PostgreSQL of a lab's process, and its folder, by what its watcher was told."""
    watchers = [child for child in psutil.Process(pid).children() if "watch" in child.cmdline()]
    words = [child.cmdline() for child in watchers]
    return [psutil.Process(int(w[-2])) for w in words], [Path(w[-1]) for w in words]


def test_it_serves_until_sigterm_and_takes_its_postgresql_with_it():
    with MaterializeProcess("--boot-s", "0.05", ready_within_s=120) as running:
        with psycopg.connect(running.connection_string, autocommit=True) as connection:
            connection.execute("CREATE CLUSTER c SIZE '25cc'")
        seen = running.control.status()
        assert seen["clusters"]["c"]["replicas"][0]["name"] == "r1"
        servers, folders = underneath(running.pid)
        assert len(servers) == 1
        assert running.stop(30) == 0
        assert not psutil.wait_procs(servers, timeout=20)[1]
        assert not any(folder.exists() for folder in folders)


def test_killed_with_9_it_leaves_nothing_behind(eventually):
    with MaterializeProcess(ready_within_s=120) as running:
        servers, folders = underneath(running.pid)
        running.kill()
        assert not psutil.wait_procs(servers, timeout=20)[1]
        eventually(lambda: not any(folder.exists() for folder in folders))


def test_a_taken_port_is_one_sentence_and_exit_code_1():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        second = MaterializeProcess(port_base=port, ready_within_s=120)
        with pytest.raises(LabDidNotStartError, match=f"cannot listen .* {port}.*running already"):
            second.start()
        assert second.stop(30) == 1


@pytest.fixture
def levers(still):
    served = control(still).start()
    yield LabControl(served.url)
    served.stop()


def test_every_lever_moves_what_it_says(still, levers, connect):
    levers.pull("cluster", name="c", replicas={"r": "25cc"})
    levers.pull("object", cluster="c", name="i", kind="index", hydrate_s=5)
    assert levers.status()["clusters"]["c"]["replicas"] == [
        {"id": still.replica_id("c", "r"), "name": "r", "size": "25cc", "ready": False}
    ]
    levers.pull("clock", advance=6)
    assert levers.status()["clusters"]["c"]["replicas"][0]["ready"] is True
    levers.pull("oom", cluster="c", after_s=1, times=1)
    levers.pull("clock", advance=1.5)
    assert levers.status()["clusters"]["c"]["replicas"][0]["ready"] is False
    levers.pull("heal")
    levers.pull("logging", on=False)
    levers.pull("ran", cluster="c", seconds_ago=60)
    levers.pull("system", max_replicas_per_cluster=1)
    levers.pull("user", name="reader", roles=["mz_monitor"])
    with pytest.raises(psycopg.Error, match="limit: 1"):
        connect(still).execute("CREATE CLUSTER REPLICA c.x (SIZE '25cc')")
    seen = levers.status()
    assert (seen["statement_logging"], seen["connections"], seen["speed"]) == (False, 1, 0.0)
    assert levers.journal()[0]["code"] == "53000"
    assert json.dumps(levers.journal())


def test_faults_are_set_and_lifted_from_outside(still, levers, connect):
    levers.add_fault(Fault(match="SELECT 5", action=Action.ERROR, sqlstate="53200", message="no"))
    connection = connect(still)
    with pytest.raises(psycopg.errors.OutOfMemory):
        connection.execute("SELECT 5")
    levers.clear_faults()
    assert connection.execute("SELECT 5").fetchone() == (5,)
    levers.pull("crash")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 5")
    levers.pull("restart")
    assert connect(still).execute("SELECT 5").fetchone() == (5,)


def test_a_lever_that_is_none_is_named(levers):
    with pytest.raises(LabUnreachableError, match="there are faults, clock, cluster"):
        levers.pull("nosuch")
    with pytest.raises(LabUnreachableError, match="name is missing"):
        levers.pull("cluster")
    with pytest.raises(LabUnreachableError, match="no cluster nosuch"):
        levers.pull("load", cluster="nosuch")


def test_the_cratedb_levers_are_none_of_its(levers):
    with urllib.request.urlopen(f"{levers.url}/status", timeout=5) as answer:  # noqa: S310 - loopback
        assert "clusters" in json.loads(answer.read())
    with pytest.raises(LabUnreachableError):
        levers.pull("drop-master")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_starts_for_a_user_who_is_not_root():
    """The same, not as root: the server then runs as whoever started it."""
    nobody = 65534
    program = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from lab.materialize import LabMaterialize\n"
        "import psycopg\n"
        "with LabMaterialize(keep=False) as lab, psycopg.connect(lab.url, autocommit=True) as c:\n"
        "    print(os.geteuid(), c.execute('SELECT count(*) FROM mz_clusters').fetchone()[0])\n"
    )
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "HOME": "/tmp", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # noqa: S108
    )  # fmt: skip

    assert (done.returncode, done.stdout.split()) == (0, [str(nobody), "6"]), done.stderr
