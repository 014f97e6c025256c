"""A ticket survives the store as it is, and one that is not understood is not guessed at."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.steps import Conclude
from caretaker.decommission.ticket import (
    Drain,
    PodProgress,
    Remembered,
    RestartTicket,
    ticket_from,
)
from caretaker.errors import CaseError, InvalidSettingError
from tests.decommission.world import PROD, Runner, a_world

NOW = datetime(2026, 1, 15, 2, 0, tzinfo=UTC)

times = st.datetimes(timezones=st.just(UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.one_of(texts, st.booleans(), st.integers(-9, 10**6), st.floats(0, 1e6))
remembered = st.builds(
    Remembered,
    key=texts,
    before=st.none() | scalars,
    ours=st.lists(scalars, max_size=2).map(tuple),
    unanswered=st.booleans(),
    lost_at=st.none() | times,
)
drains = st.builds(Drain, sent_at=times, last_sent_at=times, returned_at=st.none() | times)
pods = st.builds(
    PodProgress,
    name=texts,
    uid=texts,
    restart_count=st.integers(0, 9),
    drain=st.none() | drains,
    out_at=st.none() | times,
    notes=st.lists(texts, max_size=2).map(tuple),
    exit_code=st.none() | st.integers(0, 255),
)


@given(st.lists(pods, max_size=3), st.lists(remembered, max_size=4), st.none() | times, texts)
def test_what_is_stored_is_read_back_the_same(each, settings, resumed_at, stop):
    ticket = RestartTicket(
        PROD,
        RestartPolicy.checked(delete_when="exited", timeout_s=90.5),
        tuple(each),
        expected_nodes=3,
        created_at=NOW,
        settings=tuple(settings),
        resumed_at=resumed_at,
        stop=stop,
    )
    assert ticket_from(ticket.to_json()) == ticket
    assert ticket_from(json.loads(json.dumps(ticket.as_document()))) == ticket


def stored() -> dict[str, Any]:
    runner = Runner(a_world())
    runner.start("crate-data-hot-prod-2")
    assert isinstance(runner.conclusion, Conclude)
    document: dict[str, Any] = json.loads(runner.stored)
    return document


def test_times_are_iso_and_utc_and_words_are_words():
    document = stored()
    assert document["version"] == 1
    assert document["created_at"] == "2026-01-15T02:00:00+00:00"
    [pod] = document["pods"]
    assert pod["state"] == "COMPLETED"
    assert pod["strategy"] == "manual"


def test_a_field_that_an_older_caretaker_did_not_know_has_its_default():
    document = stored()
    del document["pods"][0]["stuck_told"]
    assert ticket_from(document).pods[0].stuck_told is False


WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", r"no JSON"),
    "no object": ("[]", "expected a ticket"),
    "no version": ({"version": None}, "writes version 1"),
    "a newer version": ({"version": 2}, "writes version 1, found 2"),
    "a field of somebody else's": ({"surprise": 1}, "unknown surprise"),
    "a time without a zone": ({"created_at": "2026-01-15T02:00:00"}, "no time zone"),
    "a time that is none": ({"created_at": 5}, r"\$\.created_at"),
    "a word that is none": (
        {"pods": [{"name": "a", "uid": "b", "restart_count": 0, "state": "LOST"}]},
        r"\$\.pods\[0\]\.state",
    ),
    "a truth for a number": ({"expected_nodes": True}, r"\$\.expected_nodes"),
    "pods as text": ({"pods": "all"}, "expected a list"),
    "a pod without a uid": ({"pods": [{"name": "a"}]}, "uid, restart_count missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_ticket_that_is_not_understood_is_named_with_its_place(name):
    change, sentence = WRONG[name]
    document = change if isinstance(change, str) else stored() | change
    with pytest.raises(CaseError, match=sentence):
        ticket_from(document)


REFUSED: dict[str, dict[str, Any]] = {
    "an unknown key": {"grace": 1},
    "no drain at all": {"min_availability": "NONE"},
    "a word that is none": {"delete_when": "later"},
    "an allocation that is none": {"allocation_mode": "some"},
    "a time-out of nothing": {"timeout_s": 0},
    "an endless wait": {"timeout_s": float("inf")},
    "no number": {"settle_s": float("nan")},
    "a pattern that is none": {"dc_util_pattern": "("},
    "no node": {"expected_nodes": 0},
    "no container": {"container": ""},
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_cannot_work_is_named(name):
    [(key, _)] = REFUSED[name].items()
    with pytest.raises(InvalidSettingError, match=key):
        RestartPolicy.checked(**REFUSED[name])


def test_allocation_follows_what_must_stay_available():
    assert RestartPolicy.checked().allocation.value == "primaries"
    assert RestartPolicy.checked(min_availability="FULL").allocation.value == "all"
    assert RestartPolicy.checked(allocation_mode="all").allocation.value == "all"
