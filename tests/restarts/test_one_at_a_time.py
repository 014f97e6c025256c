"""A restart and a reset of translogs never work on one cluster at the same time."""

from __future__ import annotations

import os
import signal

from tests.console.conftest import wait_for_line
from tests.restarts.conftest import SETTINGS


def test_no_reset_begins_while_a_cluster_is_restarted(start, caretaker):
    world = start()
    world.crate.table("doc.sick", sick_mb=1840)
    command = caretaker(world)
    process = command.start("restart", world.name, "--config", command.config(settle_s=60))
    wait_for_line(process, "at rest between two pods")

    run = command("translogs", "--autoexec")

    run.refused("is being restarted", code=1)
    os.killpg(process.pid, signal.SIGINT)
    command.wait(process)
    assert not [stmt for stmt in world.changes if stmt.startswith("ALTER TABLE")]


def test_no_reset_begins_while_a_dead_restart_waits_to_be_finished(start, caretaker):
    """Its lock can be had: its ticket cannot."""
    world = start()
    world.crate.table("doc.sick", sick_mb=1840)
    command = caretaker(world)
    process = command.start("restart", world.name, "--config", command.config())
    wait_for_line(process, "Executing manual decommission SQL 2/")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    command("translogs", "--autoexec").refused("is being restarted", code=1)

    assert not [stmt for stmt in world.changes if stmt.startswith("ALTER TABLE")]


def test_no_restart_begins_while_a_table_waits_for_its_replicas(start, caretaker):
    world = start()
    world.crate.table("doc.metrics", replicas="1", sick_mb=1840, leases_stuck=True)
    command = caretaker(world)
    process = command.start("translogs", "--autoexec")
    wait_for_line(process, "MONITORING_LEASES (attempt 1")
    before = world.versions()

    run = command.restart(world)

    assert run.code == 3, run.err
    assert "locked by" in run.err
    assert world.versions() == before
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    run = command.restart(world)

    assert run.code == 3, run.err
    assert "translog ticket" in run.out + run.err
    assert world.settings == SETTINGS
    assert world.replaced == set()
