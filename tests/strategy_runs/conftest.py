"""A lab whose clock a test moves, the tables in it or in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.materialize import LabMaterialize
from lab.materialize.postgres import SHARED
from tests.strategy_runs.bench import Bench, Controller


@pytest.fixture(scope="session", autouse=True)
def _postgres() -> Iterator[None]:
    """One PostgreSQL for all labs of these tests; gone when they are over."""
    yield
    SHARED.close()


@pytest.fixture
def lab() -> Iterator[LabMaterialize]:
    """Online after 2 s, hydrated after 5; the clock stands still until a test moves it."""
    with LabMaterialize(boot_s=2, hydrate_s=5, restart_s=2, speed=0.0) as running:
        running.create_user("other", superuser=True)
        yield running


@pytest.fixture(params=["in_materialize", "in_postgresql"])
def bench(request: pytest.FixtureRequest, lab: LabMaterialize) -> Bench:
    """The strategy tables where a test wants them: each test runs with both."""
    return Bench(lab, elsewhere=request.param == "in_postgresql")


@pytest.fixture
def here(lab: LabMaterialize) -> Bench:
    """The strategy tables in Materialize."""
    return Bench(lab)


@pytest.fixture
def controller(bench: Bench) -> Controller:
    return bench.controller()
