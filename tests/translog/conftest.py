"""The world a whole job runs in."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from lab.cratedb import LabCrateDB
from resources.state_store import StateStore
from tests.world import World


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes tens of seconds; leave out with -m 'not slow'")


@pytest.fixture
def lab() -> Iterator[LabCrateDB]:
    """Three nodes that recover, and forget leases, in a moment."""
    with LabCrateDB(nodes=3, recovery_s=0.04, lease_tick_s=0.3) as running:
        yield running


@pytest.fixture
def world(lab, tmp_path, monkeypatch, capsys) -> Iterator[World]:
    """A cluster, an instance that forgets, and a store in a file of this test's own."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("CARETAKER_LOG_FORMAT", "json")
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        StateStore.open(f"sqlite:///{tmp_path / 'caretaker.db'}") as store,
    ):
        yield World(lab, tmp_path, instance, store, said=lambda: capsys.readouterr().err)
