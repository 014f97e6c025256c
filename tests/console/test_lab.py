"""`caretaker lab`: up, status, break, down, and what goes wrong with them."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import psycopg
import pytest

_OOM = """
SELECT 1 FROM mz_internal.mz_cluster_replica_status_history WHERE reason = 'oom-killed'
"""


@pytest.fixture
def port():
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def up(caretaker):
    """Start a lab on free ports in the working directory; it ends with the test."""

    def start(*flags):
        ports = ("--port", "--control-port", "--materialize-port", "--materialize-control-port")
        return caretaker("lab", "up", *(word for port in ports for word in (port, "0")), *flags)

    yield start
    handle = caretaker.folder / ".caretaker" / "lab.json"
    if handle.exists() and (text := handle.read_text()):
        found = json.loads(text)
        for pid in (found["pid"], found["materialize"]["pid"]):
            if b"-m\0lab." in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def test_a_round_trip(caretaker, up):
    """Up, up again, status, break, reset, heal, down, down again."""
    started = up("--output", "json")
    assert started.code == 0, started.err
    handle = started.json
    assert up("--output", "json").json == handle
    assert up("--print-env").out.splitlines() == [
        f"export CRATE_CONNECTION_STRING={handle['connection_string']}",
        f"export DATABASE_URL={handle['materialize']['url']}",
    ]
    caretaker.environment["CRATE_CONNECTION_STRING"] = handle["connection_string"]

    shown = caretaker("lab", "status")
    assert "GREEN" in shown.out
    assert "doc.metrics" in shown.out
    assert "r1 (25cc)" in shown.out
    status = caretaker("lab", "status", "--output", "json").json
    assert status["at_zero"] == []
    assert status["materialize"]["clusters"]["quickstart"]["replicas"]

    assert caretaker("lab", "break", "sick", "doc.users").out == "sick doc.users: done\n"
    assert caretaker("lab", "break", "slow", "--output", "json").json == {
        "broke": "slow", "target": None
    }  # fmt: skip
    assert "rule 1: latency on everything" in caretaker("lab", "status").out
    assert caretaker("lab", "break", "heal").code == 0
    assert caretaker("translogs", "--dry-run", "--table", "doc.users").code in {0, 1}

    stopped = caretaker("lab", "down")
    assert (stopped.code, stopped.out) == (0, "The lab has stopped.\n")
    again = caretaker("lab", "down")
    assert (again.code, again.out) == (0, "No lab was started from this folder.\n")
    assert caretaker("lab", "down", "--output", "json").json == {"stopped": False}


def test_every_kind_of_breaking_is_possible(caretaker, up):
    """And whatever was broken, heal lifts it."""
    up()
    for what, target in (
        ("no-master", None), ("snapshot", None), ("stuck-leases", "doc.users"),
        ("lose-primary", "doc.users"), ("refuse-optimize", None), ("hang-alter", None),
        ("late-alter", None), ("reset-alter", None), ("html", None), ("half", None),
        ("huge", None), ("refuse", None), ("oom", "quickstart"), ("no-statement-log", None),
        ("hang-ddl", None), ("reset-ddl", None), ("slow-catalog", None),
    ):  # fmt: skip
        ended = caretaker("lab", "break", what, *([target] if target else []))
        assert ended.code == 0, (what, ended.err)
        assert caretaker("lab", "break", "heal").code == 0
    status = caretaker("lab", "status", "--output", "json").json
    assert status["faults"] == status["materialize"]["faults"] == []
    assert status["materialize"]["statement_logging"] is True


def test_a_replica_of_the_lab_runs_out_of_memory_on_demand(caretaker, up):
    """What an operator of Materialize would see: its replica restarts."""
    url = up("--output", "json").json["materialize"]["url"]

    assert caretaker("lab", "break", "oom", "quickstart").code == 0

    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while not connection.execute(_OOM).fetchall():
            assert time.monotonic() < deadline, "no replica was killed"
            time.sleep(0.1)


@pytest.mark.parametrize("flag", ["--port", "--materialize-port"])
def test_a_port_that_is_taken_is_one_sentence(caretaker, up, port, flag):
    """And nothing of the lab is left running."""
    with socket.create_server(("127.0.0.1", port)):
        up(flag, str(port)).refused(str(port), "ports")
    assert caretaker("lab", "down").out == "No lab was started from this folder.\n"
    here = [each for each in Path("/proc").glob("[0-9]*/cwd") if _leads_to(each, caretaker.folder)]
    assert here == []


def _leads_to(link, folder):
    try:
        return link.resolve() == folder.resolve()
    except OSError:
        return False


def test_without_a_lab_it_is_said_how_to_start_one(caretaker, port, monkeypatch):
    nobody = f"http://127.0.0.1:{port}"
    monkeypatch.setattr("lab.control.LabControl.__init__.__defaults__", (nobody,))
    for verb in (["status"], ["break", "heal"]):
        caretaker("lab", *verb).refused("caretaker lab up")


def test_a_handle_of_another_process_is_not_believed(caretaker):
    """After a reboot the pid is anybody's: `down` must not stop them."""
    folder = caretaker.folder / ".caretaker"
    folder.mkdir()
    for text in ("", "[]", "{}", "nonsense", json.dumps({
        "pid": os.getpid(), "incarnation": "another boot", "control": "http://127.0.0.1:1",
        "connection_string": "http://127.0.0.1:1", "materialize": {"pid": os.getpid(),
        "incarnation": "another boot", "control": "http://127.0.0.1:1", "url": "postgresql://"},
    })):  # fmt: skip
        (folder / "lab.json").write_text(text)
        assert caretaker("lab", "down").out == "No lab was started from this folder.\n"


def test_usage_errors_end_with_2(caretaker):
    caretaker("lab", "break", "nonsense").refused("nonsense", code=2)
    caretaker("lab", "up", "--nodes", "0").refused("--nodes", code=2)
    caretaker("lab", "up", "--port", "70000").refused("--port", code=2)
    caretaker("lab", "up", "--port", "many").refused("--port", code=2)


def test_a_folder_that_cannot_be_written_is_one_sentence(caretaker):
    (caretaker.folder / ".caretaker").write_text("in the way")

    caretaker("lab", "up").refused(".caretaker")
