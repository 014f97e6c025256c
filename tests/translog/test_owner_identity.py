"""A pid means something only where it was given: on one boot, in one namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import dagster as dg
import pytest

from caretaker.translog.model import Owner
from ops.owners import death_seen_from
from resources import process
from resources.clock import utc_now
from tests.world import ROOT

NOBODY = 2**22 + 1

_IN_A_CONTAINER = """
import json, os
from dataclasses import asdict
from resources.process import owner_of_run
print(json.dumps(asdict(owner_of_run("run-1", os.getpid()))))
"""


@pytest.fixture
def seen_dead():
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda owner: death_seen_from(instance)(owner, utc_now())


@pytest.fixture
def me():
    return process.owner_of_run("run-1", os.getpid())


def ended_process():
    """The owner record of a process that was there and is not."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        owner = process.owner_of_run("run-1", child.pid)
        child.communicate()
    return owner


def test_a_process_of_ours_that_ended_is_dead(seen_dead):
    owner = ended_process()
    assert process.is_here(owner)
    assert seen_dead(owner)


def test_a_pid_that_another_process_has_now_is_no_sign_of_life(me):
    place, _, _ = me.boot_id.rpartition("/")
    assert process.is_alive(replace(me, boot_id=f"{place}/1")) is False


@pytest.mark.parametrize("part", [0, 1], ids=["another machine or boot", "another container"])
@pytest.mark.parametrize("pid", [os.getpid(), NOBODY], ids=["a pid that lives", "nobody"])
def test_the_same_host_name_elsewhere_is_unknown_and_not_dead(me, seen_dead, part, pid):
    parts = me.boot_id.split("/")
    parts[part] = "7"
    owner = replace(me, pid=pid, boot_id="/".join(parts))

    assert not process.is_here(owner)
    assert not seen_dead(owner)


def test_a_process_in_a_pid_namespace_of_its_own_is_not_taken_for_one_of_ours(seen_dead):
    """As in a container of the same host name: its pid 2 is not ours."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    try:
        done = subprocess.run(
            [*unshare, sys.executable, "-c", _IN_A_CONTAINER],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode != 0:
        pytest.skip(f"no namespaces for us here: {done.stderr[:200]}")
    owner = Owner(**json.loads(done.stdout))

    assert owner.host == process.owner_of_run("x", os.getpid()).host
    assert not process.is_here(owner)
    assert not seen_dead(owner)


def test_a_process_that_proc_hides_from_us_is_unknown_and_not_dead(seen_dead, monkeypatch):
    """Mounted with hidepid: it is there, and not to be seen."""
    other = process.owner_of_run("run-1", os.getppid())
    monkeypatch.setattr(process, "_stat", lambda _: [])

    assert process.is_here(other)
    assert process.is_alive(other) is None
    assert not seen_dead(other)


def test_where_there_is_no_proc_the_pid_itself_tells(me):
    assert process.is_alive(replace(me, boot_id="")) is True
    assert process.is_alive(replace(me, boot_id="", pid=NOBODY)) is False
