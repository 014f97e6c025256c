"""A privilege that was taken away during a reset is given back: the sensor's run restores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import sensors.translog
from caretaker.translog.model import ResetState
from definitions import defs
from resources.cratedb.resource import CrateDBResource
from resources.state_store.resource import StateStoreResource
from sensors.translog import translog_open_tickets

RIGHT = "DDL ON SCHEMA doc"
ZERO = 'ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = 0)'


@pytest.fixture
def run(lab, state_url, instance):
    """Run the job that a request asks for, as the user `caretaker`, in the sensor's instance."""

    def one(request):
        job = defs.resolve_job_def("translog_restore")
        return job.execute_in_process(
            instance=instance,
            run_config={**request.run_config, "verify_timeout_s": 0, "settle_s": 0},
            resources={
                "cratedb": CrateDBResource(hosts=lab.connection_string, username="caretaker"),
                "state": StateStoreResource(url=state_url),
            },
            raise_on_error=False,
        )

    return one


def test_a_table_is_restored_once_its_privilege_is_back(
    lab, tick, open_ticket, dead, store, run, monkeypatch
):
    table = lab.table("doc.metrics", replicas="0-1")
    lab.create_user("caretaker", None, "DQL ON SCHEMA sys")
    lab.sql(ZERO)
    ticket = open_ticket(dead("run-1"), cluster_id=lab.world.cluster_id)

    (request,) = tick(translog_open_tickets).run_requests
    assert not run(request).success
    assert store.ticket(ticket.id).state is ResetState.FAILED
    assert table.number_of_replicas == "0"

    lab.sql(f'GRANT {RIGHT} TO "caretaker"')
    assert tick(translog_open_tickets).run_requests == []
    moment = datetime.now(UTC) + timedelta(seconds=31)
    monkeypatch.setattr(sensors.translog, "utc_now", lambda: moment)
    (again,) = tick(translog_open_tickets).run_requests

    assert again.run_key != request.run_key
    assert run(again).success
    assert table.number_of_replicas == "0-1"
    assert store.ticket_row(ticket.id).closed_at is not None
    assert tick(translog_open_tickets).skip_reason.skip_message == "no ticket is open"
