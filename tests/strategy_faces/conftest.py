"""A lab Materialize with the strategy tables in it, a store in a file and a Dagster in memory."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from lab.materialize import LabMaterialize
from lab.materialize.postgres import SHARED
from resources.materialize.resource import MaterializeResource
from resources.state_store import StateStore
from resources.state_store.resource import StateStoreResource
from tests.strategy_runs.bench import Bench


@pytest.fixture(scope="session", autouse=True)
def _postgres() -> Iterator[None]:
    """One PostgreSQL for all labs of these tests; gone when they are over."""
    yield
    SHARED.close()


@pytest.fixture
def lab() -> Iterator[LabMaterialize]:
    """Online after 2 s, hydrated after 5; the clock stands still until a test moves it."""
    with LabMaterialize(boot_s=2, hydrate_s=5, restart_s=2, speed=0.0) as running:
        yield running


@pytest.fixture
def bench(lab) -> Bench:
    return Bench(lab)


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as made:
        yield made


@pytest.fixture
def state_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'caretaker.db'}"


@pytest.fixture
def store(state_url) -> Iterator[StateStore]:
    with StateStore.open(state_url) as opened:
        yield opened


@pytest.fixture
def resources(lab, state_url) -> dict[str, object]:
    return {
        "materialize": MaterializeResource(url=lab.url),
        "state": StateStoreResource(url=state_url),
    }
