"""A lab Materialize in a process of its own, and labs of this process where levers are needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from lab.materialize import LabMaterialize
from lab.materialize.postgres import SHARED
from lab.materialize.process import MaterializeProcess
from resources.materialize.client import Materialize
from resources.materialize.look import Look, Looker
from resources.materialize.settings import DatabaseSettings

_names = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _postgres() -> Iterator[None]:
    """One PostgreSQL for all labs of this process; gone when the tests are over."""
    yield
    SHARED.close()


@pytest.fixture(scope="session")
def served() -> Iterator[MaterializeProcess]:
    """`python -m lab.materialize`: another process at the other end of the socket."""
    with MaterializeProcess("--boot-s", "0.05", "--hydrate-s", "0.05", ready_within_s=120) as lab:
        yield lab


@pytest.fixture
def lab() -> Iterator[LabMaterialize]:
    """Online after 2 s, hydrated after 5; the clock stands still until a test moves it."""
    with LabMaterialize(boot_s=2, hydrate_s=5, restart_s=2, speed=0.0) as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Callable[..., Materialize]]:
    """Make clients that are closed in the end: `connect(url, timeout_s=1)`."""
    with ExitStack() as opened:

        def one(url: str, timeout_s: float = 30.0) -> Materialize:
            settings = DatabaseSettings.from_url(url, timeout_s=timeout_s)
            return opened.enter_context(Materialize(settings))

        yield one


@pytest.fixture
def look(lab: LabMaterialize, connect: Callable[..., Materialize]) -> Callable[..., Look]:
    """Look at the lab once: `look(user="reader", lookback_s=60)`."""

    def once(user: str = "materialize", crash_lookback_s: float = 3600.0) -> Look:
        source = connect(lab.url_for(user))
        return Looker(
            source,
            now=datetime.fromtimestamp(lab.now(), tz=UTC),
            crash_lookback_s=crash_lookback_s,
            activity_lookback_s=86400.0,
            sleep=lambda _: None,
        ).look()

    return once


@pytest.fixture
def postgres_url(lab: LabMaterialize) -> str:
    """An empty database of a PostgreSQL that is no Materialize."""
    name = f"plain_{next(_names)}"
    with lab.postgres.admin("postgres") as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    server = lab.postgres.socket
    port, folder = server.rpartition(".")[2], Path(server).parent
    return f"postgresql://postgres@/{name}?host={folder}&port={port}"


@pytest.fixture
def plain(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection to that one, past the product."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection
