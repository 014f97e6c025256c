"""What the proof of the restarts counts as one: it judges by this."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from proofs.restart_witness import Witness

POD = "crate-0"


@pytest.fixture
def witness() -> Witness:
    pods: Any = SimpleNamespace(pods=[POD], namespace="prod")
    seen = Witness(pods)
    seen._see("SEEN", pod("a", 2))
    return seen


def pod(uid: str, restarts: int, *, deleted: bool = False) -> dict[str, Any]:
    """A pod whose container runs."""
    meta = {"name": POD, "uid": uid} | ({"deletionTimestamp": "now"} if deleted else {})
    container = {"restartCount": restarts, "state": {"running": {}}}
    ready = {"type": "Ready", "status": "True"}
    return {"metadata": meta, "status": {"containerStatuses": [container], "conditions": [ready]}}


def test_a_container_that_ran_again_and_was_deleted_was_restarted_twice(witness):
    witness._see("MODIFIED", pod("a", 3))
    witness._see("MODIFIED", pod("a", 3, deleted=True))
    witness._see("ADDED", pod("b", 0))

    assert witness.twice == [POD]


def test_one_that_the_kubelet_began_in_the_moment_of_the_delete_was_restarted_once(witness):
    """Its status came when the delete had been accepted: nobody could have known."""
    witness._see("MODIFIED", pod("a", 3, deleted=True))
    witness._see("ADDED", pod("b", 0))

    assert witness.again(POD)
    assert witness.twice == []


def test_a_node_that_went_twice_was_restarted_twice_whatever_its_pod_told(witness):
    witness._see("ADDED", pod("b", 0))
    witness.lives[POD].departures = 2

    assert witness.twice == [POD]
