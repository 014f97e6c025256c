"""A lab cluster, a store in a file and a Dagster that materialises into a temporary folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from assets.translog import crate_tables, replicas_are_back, translog_backlog, translog_resets
from definitions.jobs import translog_report
from lab.cratedb import LabCrateDB
from resources.cratedb.resource import CrateDBResource
from resources.state_store import StateStore
from resources.state_store.resource import StateStoreResource


@pytest.fixture
def state_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'caretaker.db'}"


@pytest.fixture
def store(state_url) -> Iterator[StateStore]:
    with StateStore.open(state_url) as opened:
        yield opened


@pytest.fixture
def lab() -> Iterator[LabCrateDB]:
    with LabCrateDB() as cluster:
        yield cluster


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as made:
        yield made


@pytest.fixture
def report(lab, state_url, instance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Run the job `translog_report` with its options: `report(percentage=150)`."""

    def run(**options: Any) -> dg.ExecuteInProcessResult:
        definitions = dg.Definitions(
            assets=[crate_tables, translog_backlog],
            jobs=[translog_report],
            resources={
                "cratedb": CrateDBResource(hosts=lab.connection_string),
                "state": StateStoreResource(url=state_url),
            },
            loggers={"console": dg.colored_console_logger},
        )
        job = definitions.resolve_job_def("translog_report")
        return job.execute_in_process(options, instance=instance, raise_on_error=False)

    return run


@pytest.fixture
def resets(state_url, instance) -> Callable[[], dg.ExecuteInProcessResult]:
    """Materialise `translog_resets` and run its check."""

    def run() -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [translog_resets, replicas_are_back],
            instance=instance,
            resources={"state": StateStoreResource(url=state_url)},
        )

    return run


def metadata_of(result: dg.ExecuteInProcessResult, node: str) -> dict[str, Any]:
    """Return the values of an asset's metadata."""
    (event,) = result.asset_materializations_for_node(node)
    return {name: entry.value for name, entry in event.metadata.items()}
