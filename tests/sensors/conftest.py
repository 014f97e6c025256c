"""A lab cluster, a store in a file and a Dagster in memory: what a sensor meets on a tick."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from caretaker.translog.model import Owner, ResetState, ResetTicket, TableRef
from lab.cratedb import LabCrateDB
from resources import process
from resources.cratedb.resource import CrateDBResource
from resources.state_store import StateStore
from resources.state_store.resource import StateStoreResource


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


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
def tick(instance, state_url) -> Callable[..., dg.SensorResult]:
    """Let a sensor tick: `tick(translog_sizes, url=lab.connection_string, cursor=...)`."""

    def one(
        sensor: dg.SensorDefinition,
        *,
        url: str | None = None,
        cursor: str | None = None,
        state: str = state_url,
    ) -> dg.SensorResult:
        resources: dict[str, Any] = {"state": StateStoreResource(url=state)}
        if url is not None:
            resources["cratedb"] = CrateDBResource(hosts=url)
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, resources=resources
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return result

    return one


@pytest.fixture
def dead() -> Callable[[str], Owner]:
    """Make an owner whose process, on this very host, is gone."""
    return lambda run_id: process.owner_of_run(run_id, 2**22 + 1)


@pytest.fixture
def alive() -> Callable[[str], Owner]:
    """Make an owner whose process is there, and not this one."""
    return lambda run_id: process.owner_of_run(run_id, os.getppid())


@pytest.fixture
def open_ticket(store) -> Callable[..., ResetTicket]:
    """Store a ticket of a table at 0 replicas."""

    def make(owner: Owner, table: str = "metrics", cluster_id: str = "c1") -> ResetTicket:
        now = datetime.now(UTC)
        ticket = store.open_ticket(
            ResetTicket(
                cluster_id=cluster_id,
                target=TableRef("doc", table),
                original_replicas="0-1",
                owner=owner,
                created_at=now - timedelta(seconds=20),
                threshold_bytes=590558003,
            )
        )
        drained: ResetTicket = store.advance(
            ticket,
            state=ResetState.MONITORING_LEASES,
            zero_sent=True,
            zero_acknowledged=True,
            zero_confirmed=True,
            zeroed_at=now,
        )
        return drained

    return make


@pytest.fixture
def run_of(instance) -> Callable[..., str]:
    """Leave a run of a job in the instance, in a status; return its id."""

    def make(job_name: str, status: dg.DagsterRunStatus) -> str:
        @dg.job(name=job_name)
        def stub() -> None:
            pass

        run = instance.create_run_for_job(stub, status=status)
        if status is dg.DagsterRunStatus.FAILURE:
            instance.report_run_failed(run)
        return str(run.run_id)

    return make
