"""A stop that came before a step's process was there: several tables at once, a process a step."""

from __future__ import annotations

import dagster as dg
import pytest

from caretaker.translog.model import TableRef
from ops.reset import Reset
from ops.stops import stopped_before
from tests.translog.steps import STEPS, hands_in, journey_to

METRICS = TableRef("doc", "metrics")
LAST_TO_CHANGE = STEPS.index(Reset.restore)


@pytest.mark.parametrize("steps_before", range(LAST_TO_CHANGE + 1))
def test_the_step_stops_before_its_work_and_the_table_is_back(world, steps_before):
    """The executor has scheduled it and starts it all the same; nobody else will tell it."""
    table = world.table("doc.metrics", replicas="1")
    with hands_in(world) as hands:
        journey = journey_to(world, METRICS)
        for step in STEPS[:steps_before]:
            journey = step(Reset(hands, journey))
        changed = len(world.altered)
        hands.guard.told_before = True

        with pytest.raises(dg.DagsterExecutionInterruptedError):
            STEPS[steps_before](Reset(hands, journey))

    assert table.number_of_replicas == "1"
    assert world.open_tickets == []
    assert [replicas for _, replicas in world.altered[changed:]] == ["1"] * (steps_before > 1)


@dg.op
def ends_at_once() -> None:
    """Do nothing."""


@dg.job
def quiet() -> None:
    """Run it."""
    ends_at_once()


def test_a_run_that_nobody_stopped_was_not_stopped():
    with dg.DagsterInstance.ephemeral() as instance:
        run = quiet.execute_in_process(instance=instance)

        assert run.success
        assert not stopped_before(instance, run.run_id)
