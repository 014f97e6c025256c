"""A lab over sockets, a Dagster home, and the command: here and now, or as a process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob

from console.main import main
from lab.cratedb import LabCrateDB
from lab.faults import Fault
from resources.state_store import StateStore, state_url

CHECKOUT = Path(__file__).parents[2]

#: Statements that change something in CrateDB.
CHANGING = re.compile(r"(?i)\s*(?!SELECT\b)\w+")

#: Two waits instead of ten minutes of them; YAML, as `--config` takes it.
IMPATIENT = {
    "max_wait_s": 0.2,
    "wait_ladder_s": [0.1],
    "restore_timeout_s": 1.0,
    "verify_timeout_s": 5.0,
    "settle_s": 0.3,
}


@dataclass(frozen=True)
class Ended:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, which must be one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Stderr, of which every line must be a JSON object."""
        return [json.loads(line) for line in self.err.splitlines()]

    @property
    def statements(self) -> list[str]:
        """Stdout as SQL to paste: one statement a line, comments left out."""
        lines = [line for line in self.out.splitlines() if line and not line.startswith("--")]
        assert all(line.endswith(";") for line in lines)
        return [line.removesuffix(";") for line in lines]

    def refused(self, *words: str, code: int = 1) -> str:
        """Check that this is one clear sentence, an exit code, and no traceback."""
        assert self.code == code, (self.code, self.out, self.err)
        assert self.out == ""
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        said = lines[-1]
        assert said.startswith("error: "), self.err
        # Before it only what the run noted.
        assert all(re.match(r"\d{4}-\d\d-\d\d .*\[(INFO|WARNING)\]", line) for line in lines[:-1])
        for word in words:
            assert word in said, (word, said)
        return said


@dataclass
class Caretaker:
    """`caretaker ...` with its own environment and working directory."""

    capsys: pytest.CaptureFixture[str]
    home: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, *arguments: str) -> Ended:
        """Run it in this process: the same main(), without the seconds of a start."""
        forget_definitions()
        before, folder = dict(os.environ), Path.cwd()
        self.capsys.readouterr()
        code: Any = 0
        try:
            os.environ.update(self.environment)
            os.chdir(self.folder)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                main(list(arguments))
        except SystemExit as end:
            code = end.code
        finally:
            os.environ.clear()
            os.environ.update(before)
            os.chdir(folder)
        out, err = self.capsys.readouterr()
        return Ended(int(code or 0), out, err)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start it as a process of its own."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(
            [sys.executable, "-m", "console.main", *arguments],
            cwd=self.folder,
            env=self.process_environment,
            text=True,
            start_new_session=True,
            **pipes,
        )
        self.running.append(process)
        return process

    def wait(self, process: subprocess.Popen[str]) -> Ended:
        """Wait until a started one has ended."""
        out, err = process.communicate(timeout=120)
        return Ended(process.returncode, out, err)

    def process(self, *arguments: str) -> Ended:
        """Run it as a process of its own."""
        return self.wait(self.start(*arguments))

    def config(self, **options: Any) -> str:
        """Write a config file and return its path; JSON is YAML."""
        path = self.folder / "options.yaml"
        path.write_text(json.dumps({**IMPATIENT, **options}))
        return str(path)

    @property
    def process_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "PYTHONPATH": str(CHECKOUT)}

    @property
    def store(self) -> StateStore:
        """The state store that the command used; whoever asks closes it."""
        return StateStore.open(state_url(self.environment))

    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance that the command used; whoever asks closes it."""
        return dg.DagsterInstance.from_config(str(self.home))


def forget_definitions() -> None:
    """Have the definitions loaded again: they bind what the environment has at that moment."""
    for name in [n for n in sys.modules if n == "definitions" or n.startswith("definitions.")]:
        del sys.modules[name]
    ReconstructableJob.get_definition.cache_clear()
    ReconstructableJob.get_repository_definition.cache_clear()


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose databases exist already: making them takes a second each time."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs(limit=1)
        instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION), limit=1
        )
    StateStore.open(f"sqlite:///{home / 'caretaker.db'}").close()
    return home


@pytest.fixture
def home(tmp_path: Path, empty_home: Path) -> Path:
    """A DAGSTER_HOME of the test's own."""
    return Path(shutil.copytree(empty_home, tmp_path / "home"))


@pytest.fixture
def lab() -> Iterator[LabCrateDB]:
    """Three nodes that recover at once."""
    with LabCrateDB(nodes=3, recovery_s=0.02) as running:
        yield running


@pytest.fixture
def caretaker(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, lab: LabCrateDB
) -> Iterator[Caretaker]:
    """The command, set up for the lab."""
    folder = tmp_path / "here"
    folder.mkdir()
    environment = {
        "DAGSTER_HOME": str(home),
        "CRATE_CONNECTION_STRING": lab.connection_string,
    }
    command = Caretaker(capsys, home, folder, environment)
    yield command
    for process in command.running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries and retries of a command in this process follow at once; their number stays."""
    monkeypatch.setattr("resources.cratedb.retries.connect_pauses", lambda: (0.0,) * 4)
    monkeypatch.setattr("resources.cratedb.retries.retrying.__defaults__", ((0.0, 0.0),))


@pytest.fixture
def changes(lab: LabCrateDB) -> Callable[[], list[str]]:
    """Return the statements received that change something."""
    return lambda: changes_of(lab)


def changes_of(lab: LabCrateDB) -> list[str]:
    """Return the statements a lab received that change something."""
    return [entry.stmt for entry in lab.journal if CHANGING.match(entry.stmt)]


def on_first(lab: LabCrateDB, statement: str, act: Callable[[], None], **rule: Any) -> Fault:
    """Act when a statement that matches arrives for the first time, before it is answered."""
    return lab.faults.add(Fault(match=statement, times=1, before=lambda _: act(), **rule))


@pytest.fixture
def die_with_a_table_at_zero(caretaker: Caretaker, lab: LabCrateDB) -> Callable[..., Any]:
    """Kill -9 a run while its table is at 0 replicas, and return the table."""

    def die(name: str, replicas: str) -> Any:
        table = lab.table(name, replicas=replicas, sick_mb=1840, leases_stuck=True)
        process = caretaker.start("translogs", "--autoexec")
        wait_for_line(process, "MONITORING_LEASES (attempt 1")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        table.leases_stuck = False
        return table

    return die


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> str:
    """Read stderr until a line says what is waited for, and return all that was read."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if wanted in line:
            return read
    raise AssertionError(f"{wanted!r} was never said, but: {read}")
