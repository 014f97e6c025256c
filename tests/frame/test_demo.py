"""`make demo`: it says why it cannot start, heals what is killed, and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lab.supervisor import descendants


def demo(folder: Path, port: int, output: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start the demo as make does; its output goes to a file, so that nobody has to read along."""
    places = {"CARETAKER_DEMO_HOME": str(folder), "CARETAKER_UI_PORT": str(port)}
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "lab.demo"],
            env={**os.environ, **places, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.fixture
def refusal(tmp_path):
    """Return a function that starts a demo which cannot start, and returns its one sentence."""

    def start(folder: Path, port: int, **environment: str) -> str:
        output = tmp_path / "refusal"
        started = demo(folder, port, output, **environment)
        assert started.wait(120) == 1
        lines: list[str] = output.read_text().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return start


def test_a_taken_port_is_said_before_anything_is_started(tmp_path, refusal):
    """And the way out of it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = refusal(tmp_path / "demo", port)

    assert f"port {port} is taken" in said
    assert f"CARETAKER_UI_PORT={port % 65535 + 1} make demo" in said
    assert not (tmp_path / "demo").exists()


def test_a_port_that_is_none(tmp_path, unused_port, refusal):
    """The variable, what was found, and what is expected."""
    said = refusal(tmp_path / "demo", unused_port, CARETAKER_UI_PORT="http")
    assert "CARETAKER_UI_PORT is 'http'; a port is a number up to 65535" in said


def test_a_home_that_cannot_be_written(tmp_path, unused_port, refusal):
    """Root may write everywhere, so a file stands in the way instead."""
    (tmp_path / "file").write_text("")
    said = refusal(tmp_path / "file" / "demo", unused_port)
    assert f"cannot write to {tmp_path}/file" in said
    assert "CARETAKER_DEMO_HOME=/path make demo" in said


def test_a_folder_of_somebody_else_is_not_emptied(tmp_path, unused_port, refusal):
    """The demo empties its folder, so it must be the demo's."""
    precious = tmp_path / "demo" / "precious"
    precious.parent.mkdir()
    precious.write_text("")

    assert "would be emptied" in refusal(tmp_path / "demo", unused_port)
    assert precious.exists()


class World:
    """A demo that runs, and the questions a person would ask of its page."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.output = folder.with_name("output")
        self.process = demo(folder, port, self.output)

    def said(self, words: str, within_s: float = 240.0) -> str:
        """Return the line with these words, once it is there."""
        deadline = time.monotonic() + within_s
        while True:
            output = self.output.read_text()
            for line in output.splitlines():
                if words in line:
                    return line
            assert time.monotonic() < deadline, output + self.logs()
            assert self.process.poll() is None, output + self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        """Return the ends of the children's logs, for a failure."""
        logs = sorted((self.folder / "logs").glob("*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in logs)

    def kill(self, words: str) -> None:
        """Kill the process whose command line has these words."""
        for pid in descendants(self.process.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if words in command:
                os.kill(pid, signal.SIGKILL)
                return
        pytest.fail(f"no process with {words!r}")

    def ask(self, query: str) -> dict[str, Any]:
        """Send GraphQL to the page's server."""
        body = json.dumps({"query": query}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def latest(self, asset: str) -> dict[str, Any]:
        """Return the numbers and texts on an asset's page."""
        query = f"""{{ assetOrError(assetKey: {{path: ["{asset}"]}}) {{ ... on Asset {{
            assetMaterializations(limit: 1) {{ metadataEntries {{ label
                ... on IntMetadataEntry {{ intValue }}
                ... on TextMetadataEntry {{ text }}
                ... on MarkdownMetadataEntry {{ mdStr }} }} }} }} }} }}"""
        (newest,) = self.ask(query)["assetOrError"]["assetMaterializations"]
        return {
            each.pop("label"): next(iter(each.values()), None) for each in newest["metadataEntries"]
        }

    def run(self, job: str) -> str:
        """Launch a job as the page's button does, and return how it ended."""
        launch = f"""mutation {{ launchRun(executionParams: {{runConfigData: {{}},
            selector: {{repositoryName: "__repository__", repositoryLocationName: "caretaker",
                        pipelineName: "{job}"}} }})
            {{ __typename ... on LaunchRunSuccess {{ run {{ runId }} }} }} }}"""
        launched = self.ask(launch)["launchRun"]
        deadline = time.monotonic() + 120
        # The page looks for a code server that is back every few seconds, and knows no job before;
        # one that it still takes for there answers with an error of its own.
        while launched["__typename"] != "LaunchRunSuccess" and time.monotonic() < deadline:
            time.sleep(0.5)
            launched = self.ask(launch)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run = launched["run"]["runId"]
        query = f'{{ runOrError(runId: "{run}") {{ ... on Run {{ status }} }} }}'
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            status: str = self.ask(query)["runOrError"]["status"]
            if status in {"SUCCESS", "FAILURE", "CANCELED"}:
                return status
            time.sleep(0.3)
        return status


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Start one demo for this module's tests, in a folder with a blank in its name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = World(tmp_path_factory.mktemp("de mo") / "home", port)
    yield world
    if world.process.poll() is None:
        os.killpg(world.process.pid, signal.SIGINT)
        try:
            world.process.wait(60)
        except subprocess.TimeoutExpired:
            world.process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
class TestARunningDemo:
    """In this order: started, hurt, stopped."""

    def test_it_repairs_without_being_asked(self, running):
        """A sick table gets well, and the terminal says so."""
        assert running.url in running.said("ready after", within_s=180.0)
        assert running.said(": COMPLETED, ")

    def test_rows_flow_or_it_says_why_not(self, running):
        """Without a MySQL the rest of the demo runs, and one line tells the reason."""
        running.said("binlog: ", within_s=300.0)
        if "left out, for want of" in running.output.read_text():
            pytest.skip("this machine can have neither MySQL nor MariaDB")
        assert running.said("documents are in the audit trail", within_s=300.0)

    def test_a_query_finds_its_cluster_suspended_and_it_comes_back(self, running):
        """With the reason and the credits of each step, on the terminal and on the page."""
        failed = running.said("failed with 0A000", within_s=240.0)
        assert 'CLUSTER "dashboards" has no replicas' in failed
        assert "the same query succeeded after" in running.said("succeeded", within_s=240.0)
        # The terminal hears of an action a moment after it was done.
        running.said('CREATE CLUSTER REPLICA "dashboards"."dashboards_burst"')
        output = running.output.read_text()
        suspended = 'DROP CLUSTER REPLICA "dashboards"."r_50cc" (idle_suspend: no statement since'
        assert suspended in output
        _, _, woken = output.partition(failed)
        for action in ("r_50cc", "dashboards_burst"):
            assert f'CREATE CLUSTER REPLICA "dashboards"."{action}"' in woken
        assert "+4 credits/h)" in woken
        assert running.latest("cluster_actions")["24 h: executed"] >= 4

    def test_every_kind_of_strategy_has_done_something(self, running):
        """Sized up, sized down, burst and suspended."""
        running.said("shrink_to_fit: no replica: trying all sizes", within_s=120.0)
        running.said("out of memory", within_s=240.0)
        running.said('ALTER CLUSTER "nightly" SET (SIZE', within_s=120.0)
        running.said("(target_size: ", within_s=120.0)
        running.said("(burst: ", within_s=240.0)
        running.said("(idle_suspend: ", within_s=240.0)

    def test_pods_are_restarted_one_at_a_time_and_the_page_shows_how(self, running):
        """A run of the product's own job: no pod goes before the one before it is back."""
        ended = running.said("pods one by one in", within_s=400.0)
        assert "crate/plant: COMPLETED, 3 pods one by one" in ended
        output, _, _ = running.output.read_text().partition(ended)
        told = [line for line in output.splitlines() if "decommission: crate-data-hot-" in line]
        turns = [line.partition("decommission: ")[2].partition(":")[0] for line in told]
        assert len([pod for pod, _ in itertools.groupby(turns)]) == len(set(turns)) == 3
        assert all("allocation primaries" in line for line in told if "being drained" in line)
        health = running.latest("crate_cluster_health")
        assert "data:image/png" in next(v for k, v in health.items() if k.endswith("timeline"))
        assert running.latest("restarts")["count_manual"] >= 3

    @pytest.mark.parametrize(
        ("words", "name"),
        [
            ("dagster api grpc", "code server"),
            ("dagster_webserver", "web server"),
            ("dagster._daemon", "daemon"),
            ("lab.materialize", "Materialize"),
        ],
    )
    def test_a_killed_process_comes_back_and_works(self, running, words, name):
        """After kill -9 of any of these processes, a job can be launched and ends well."""
        running.kill(words)
        assert running.said(f"the {name} was killed (SIGKILL)")
        assert running.said(f"the {name} is back after")
        assert running.run("translog_restore") == "SUCCESS"

    def test_a_second_demo_in_the_same_folder_is_refused(self, running, unused_port, refusal):
        """It would empty the first one's folder."""
        assert "a demo is running in" in refusal(running.folder, unused_port)

    def test_ctrl_c_ends_all_of_it(self, running):
        """Runs put back what they changed, then nothing is left."""
        everything = {running.process.pid, *descendants(running.process.pid)}

        os.killpg(running.process.pid, signal.SIGINT)

        assert running.process.wait(120) == 0
        assert not [pid for pid in everything if Path(f"/proc/{pid}").exists()]
        assert "still without replicas" not in running.output.read_text()
