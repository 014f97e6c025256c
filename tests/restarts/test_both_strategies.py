"""Both strategies from the command line to the pods, on the lab's and on a real control plane."""

from __future__ import annotations

import pytest

from tests.planes import PLANES, plane_of
from tests.restarts.conftest import SETTINGS
from tests.restarts.witness import Witness


@pytest.fixture(scope="module", params=PLANES)
def plane(request):
    """None of them is broken here."""
    with plane_of(request, request.param) as found:
        yield found


@pytest.mark.parametrize("strategy", ["manual", "kubernetes_managed"])
def test_each_pod_is_restarted_once_and_nothing_that_was_set_stays(
    module_start, caretaker, strategy
):
    world = module_start(managed=strategy == "kubernetes_managed")

    with Witness(world.pods) as witness:
        run = caretaker(world, address=False).restart(world)

    assert run.code == 0, run.err
    (cluster,) = run.json["clusters"]
    assert cluster["outcome"] == "COMPLETED"
    assert {pod["strategy_used"] for pod in cluster["pods"]} == {strategy}
    assert [pod["success"] for pod in cluster["pods"]] == [True] * 3
    assert witness.most_out == 1
    # Another pod or, where a busy machine misses the seconds before the exit, started in place.
    assert set(witness.restarts.values()) == {1}
    assert world.settings == SETTINGS
