"""Dagster as an operator has it, in processes of its own, and what the web page asks of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.dagster_api import DagsterAPI, DagsterAPIError
from lab.supervisor import accepts
from tests.waiting import in_time
from tests.world import ROOT

LOCATION = "caretaker"
ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})

_LAUNCH = """
mutation ($job: String!, $config: RunConfigData!) {
  launchRun(executionParams: {runConfigData: $config, selector: {
    repositoryName: "__repository__", repositoryLocationName: "caretaker", pipelineName: $job}})
  { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
_STATUS = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
_RUNS = """
query ($job: String!) {
  runsOrError(filter: {pipelineName: $job}) { ... on Runs { results { runId status } } }
}
"""
_TERMINATE = """
mutation ($runs: [String!]!, $policy: TerminateRunPolicy!) {
  terminateRuns(runIds: $runs, terminatePolicy: $policy) { __typename }
}
"""


class Page:
    """What a person does in the web page, by the API that it uses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.api = DagsterAPI(url, LOCATION)

    def launch(self, job: str, **config: Any) -> str:
        """Press "Launch run", and return the run's id."""
        answer = self._ask(_LAUNCH, job=job, config=config)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        run: str = answer["run"]["runId"]
        return run

    def terminate(self, run: str) -> None:
        """Press "Terminate"."""
        self.api.ask_to_end([run])

    def force_termination(self, run: str) -> None:
        """The same with "Force termination immediately" ticked."""
        self._ask(_TERMINATE, runs=[run], policy="MARK_AS_CANCELED_IMMEDIATELY")

    def status(self, run: str) -> str:
        """Return a run's status, as its page shows it."""
        status: str = self._ask(_STATUS, run=run)["runOrError"]["status"]
        return status

    def ended(self, run: str) -> str:
        """Return a run's last status once it has one."""
        in_time(lambda: self.status(run) in ENDED)
        return self.status(run)

    def runs_of(self, job: str) -> list[dict[str, str]]:
        """Return the runs of a job, newest first."""
        runs: list[dict[str, str]] = self._ask(_RUNS, job=job)["runsOrError"]["results"]
        return runs

    def is_served(self) -> bool:
        """Whether the page answers and its code location and daemons are there."""
        try:
            return self.api.daemons_are_healthy() and self.runs_of("translog_reset") == []
        except DagsterAPIError:
            return False

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
            document = json.load(answer)
        assert not document.get("errors"), document
        data: dict[str, Any] = document["data"]
        return data


@contextmanager
def dagster_in(home: Path, **environment: str) -> Iterator[Page]:
    """Serve our definitions from this home, with the `dagster.yaml` that ships."""
    code, web = _free_ports(2)
    shutil.copy(ROOT / "dagster.yaml", home)
    workspace = home / "workspace.yaml"
    workspace.write_text(
        f"load_from:\n  - grpc_server:\n      host: 127.0.0.1\n      port: {code}\n"
        f"      location_name: {LOCATION}\n"
    )
    environ = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT), **environment}
    started: list[subprocess.Popen[bytes]] = []
    log = (home / "dagster.log").open("ab")

    def start(*command: str) -> None:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=home,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )

    page = Page(f"http://127.0.0.1:{web}")
    grpc = ("dagster", "api", "grpc", "-m", "definitions", "-h", "127.0.0.1", "-p", str(code))
    try:
        start(*grpc, "--location-name", LOCATION)
        in_time(lambda: accepts("127.0.0.1", code))
        start("dagster_webserver", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(web))
        start("dagster._daemon", "run", "-w", str(workspace))
        in_time(lambda: accepts("127.0.0.1", web) and page.is_served())
        yield page
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
