"""The same job by Dagster's own command line, as CI uses it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.console.conftest import CHECKOUT, changes_of

SICK = 1840


@pytest.fixture
def dagster(caretaker):
    """Run `dagster ...` with the environment of the command."""

    def run(*arguments, folder=None):
        return subprocess.run(
            [sys.executable, "-m", "dagster", *arguments],
            cwd=folder or caretaker.folder,
            # Dagster's own way of showing logs loses the last ones (its issue 23336).
            env={
                **caretaker.process_environment,
                "DAGSTER_COMPUTE_LOG_TAIL_WAIT_AFTER_FINISH": "2",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_job_execute_does_what_autoexec_does(caretaker, lab, dagster):
    """The run config is flat, and its keys are those of --config."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    config = caretaker.config(percentage=150, table="doc.*")

    ended = dagster("job", "execute", "-m", "definitions", "-j", "translog_reset", "-c", config)

    assert ended.returncode == 0, ended.stderr
    assert table.number_of_replicas == "0-1"
    assert table.worst_mb < 1
    assert [stmt.split()[0] for stmt in changes_of(lab)] == ["ALTER", "OPTIMIZE", "ALTER"]


def test_job_execute_fails_where_the_reset_failed(caretaker, lab, dagster):
    """Exit code 1, the replicas back, and the sentence in what it says."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)

    ended = dagster(
        "job", "execute", "-m", "definitions", "-j", "translog_reset", "-c", caretaker.config()
    )

    assert ended.returncode == 1
    assert "conclude failed: 0 of 1 attempted tables completed, 1 failed" in ended.stderr, (
        ended.stderr
    )
    assert table.number_of_replicas == "0-1"


def test_job_execute_says_which_setting_is_wrong(caretaker, lab, dagster):
    """Dagster checks no ranges; the first step does, and its sentence is on stderr."""
    config = caretaker.config(percentage=0)

    ended = dagster("job", "execute", "-m", "definitions", "-j", "translog_reset", "-c", config)

    assert ended.returncode == 1
    assert "percentage: found 0, expected a number of at least 1" in ended.stderr
    assert len(lab.journal) == 0


def test_job_launch_is_accepted_and_waits_in_the_queue(caretaker, lab, dagster):
    """Who runs it is the daemon; that it does is the demo's test."""
    (caretaker.home / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
    lab.table("doc.metrics", sick_mb=SICK)

    ended = dagster(
        "job", "launch", "-w", "workspace.yaml", "-j", "translog_reset",
        "--config-json", json.dumps({"percentage": 300}), folder=CHECKOUT,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    with caretaker.instance() as instance:
        (run,) = instance.get_runs()
    assert run.job_name == "translog_reset"
    assert run.status.value in {"QUEUED", "NOT_STARTED"}
    assert not changes_of(lab)
