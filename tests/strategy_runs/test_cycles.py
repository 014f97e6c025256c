"""What clusters are like after some cycles."""

from __future__ import annotations

import pytest

from tests.strategy_runs.bench import settle
from tests.strategy_runs.scenes import SCENES


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_each_strategy_arrives_and_then_leaves_the_cluster_alone(bench, controller, scene):
    """And the audit says what was done, no more and no less."""
    scene.prepare(bench)

    cycles = settle(bench, controller)

    assert bench.lab.replicas("prod") == scene.wanted
    assert 0 < cycles <= 6
    assert bench.done() == bench.said()
    assert {executed for _, executed, _ in bench.audit()} == {True}
