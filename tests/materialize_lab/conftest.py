"""A lab Materialize a test, and connections that are closed when the test is over."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from lab.materialize import LabMaterialize
from lab.materialize.postgres import SHARED

REAL = "CARETAKER_TEST_MATERIALIZE_URL"
_names = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _postgres() -> Iterator[None]:
    """One PostgreSQL for all labs of these tests; gone when they are over."""
    yield
    SHARED.close()


@pytest.fixture
def lab() -> Iterator[LabMaterialize]:
    """Replicas come up in a tenth of a second."""
    with LabMaterialize(boot_s=0.05, hydrate_s=0.05, restart_s=0.05) as running:
        yield running


@pytest.fixture
def still() -> Iterator[LabMaterialize]:
    """A clock that stands still until a test pushes it: online after 2 s, hydrated after 5."""
    with LabMaterialize(boot_s=2, hydrate_s=5, restart_s=2, speed=0.0) as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Callable[..., psycopg.Connection]]:
    """Make connections: `connect(lab)`, `connect(url, autocommit=False)`."""
    made: list[psycopg.Connection] = []

    def open_one(where: LabMaterialize | str, **options: Any) -> psycopg.Connection:
        url = where if isinstance(where, str) else where.url
        options = {"autocommit": True, "connect_timeout": 20, **options}
        made.append(psycopg.connect(url, **options))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


class Bench:
    """A server of either kind, and names that are nobody else's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True, application_name="caretaker-tests")
        self._clusters: list[str] = []

    def name(self) -> str:
        """Return the name of a cluster that is dropped in the end, whoever makes it."""
        self._clusters.append(f"ct_{os.getpid()}_{next(_names)}")
        return self._clusters[-1]

    def run(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(sql.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def refused(self, sql: str, *parameters: Any) -> tuple[str, str]:
        """Return SQLSTATE and message of what must be refused."""
        with pytest.raises(psycopg.Error) as caught:
            self.run(sql, *parameters)
        return str(caught.value.diag.sqlstate), str(caught.value.diag.message_primary)

    def unmanaged(self, **replicas: str) -> str:
        name = self.name()
        inside = ", ".join(f"{replica} (SIZE '{size}')" for replica, size in replicas.items())
        self.run(f"CREATE CLUSTER {name} REPLICAS ({inside})")
        return name

    def managed(self, size: str = "25cc", factor: int = 1) -> str:
        name = self.name()
        self.run(f"CREATE CLUSTER {name} (SIZE = '{size}', REPLICATION FACTOR = {factor})")
        return name

    def replicas(self, cluster: str) -> dict[str, str]:
        return dict(
            self.run(
                "SELECT r.name, r.size FROM mz_catalog.mz_cluster_replicas r "
                "JOIN mz_catalog.mz_clusters c ON c.id = r.cluster_id WHERE c.name = %s",
                cluster,
            )
        )

    def cluster(self, name: str) -> tuple[Any, ...]:
        return self.run(
            "SELECT managed, size, replication_factor::bigint FROM mz_catalog.mz_clusters "
            "WHERE name = %s",
            name,
        )[0]

    def close(self) -> None:
        for name in self._clusters:
            self.run(f"DROP CLUSTER IF EXISTS {name} CASCADE")
        self.connection.close()


@pytest.fixture(
    params=["lab", pytest.param("real", marks=pytest.mark.live("materialize"))], scope="module"
)
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "real":
        if not os.environ.get(REAL):
            pytest.skip(f"not run: {REAL} is not set")
        yield os.environ[REAL]
        return
    with LabMaterialize(boot_s=0.05, hydrate_s=0.05, restart_s=0.05) as running:
        yield running.url


@pytest.fixture
def bench(server_url: str) -> Iterator[Bench]:
    made = Bench(server_url)
    yield made
    made.close()


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until something is so: `eventually(lambda: ...)`, at most 20 s."""

    def wait(condition: Callable[[], object], within_s: float = 20.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "it never came to be"
            time.sleep(0.02)

    return wait
