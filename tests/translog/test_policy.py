"""A setting that cannot work is refused before anything is touched, and named."""

from __future__ import annotations

from dataclasses import fields

import pytest

from caretaker.errors import InvalidSettingError
from caretaker.translog.model import Remedy
from caretaker.translog.policy import ResetPolicy

NAN = float("nan")

WRONG = {
    "percentage": [0, -1],
    "size_mb": [-0.1, NAN],
    "max_wait_s": [-1, NAN],
    "concurrent": [0, 9, -1],
    "remedy": ["flush", "", "REPLICAS"],
    "table": ["(", "doc.**"],
    "expected_nodes": [0, -3],
    "max_tables": [0, -1],
    "retry_after_s": [-1, NAN],
    "set_aside_after": [0],
    "restore_timeout_s": [0, 0.9, NAN],
    "verify_timeout_s": [-0.1, NAN],
    "settle_s": [-1, NAN],
    "wait_ladder_s": [[], [0], [10, -1], [NAN]],
}

RIGHT = {
    "percentage": [1, 200, 10_000],
    "size_mb": [0, 0.5],
    "max_wait_s": [0, 0.1],
    "concurrent": [1, 8],
    "remedy": ["replicas", "flush_first"],
    "nudge": [True, False],
    "table": ["", "doc\\..*"],
    "expected_nodes": [1],
    "max_tables": [1],
    "retry_after_s": [0],
    "set_aside_after": [1],
    "restore_timeout_s": [1],
    "verify_timeout_s": [0],
    "settle_s": [0],
    "wait_ladder_s": [[0.1], [10, 15]],
}

#: What a value should have been, as the message says it.
ALLOWED = {
    "percentage": "at least 1",
    "size_mb": "at least 0",
    "max_wait_s": "at least 0",
    "concurrent": "from 1 to 8",
    "remedy": "replicas or flush_first",
    "table": "a regular expression",
    "expected_nodes": "at least 1",
    "max_tables": "at least 1",
    "retry_after_s": "at least 0",
    "set_aside_after": "at least 1",
    "restore_timeout_s": "at least 1",
    "verify_timeout_s": "at least 0",
    "settle_s": "at least 0",
    "wait_ladder_s": "each above 0",
}

KEYS = {field.name for field in fields(ResetPolicy)}


def pairs(values):
    return [(key, value) for key, several in values.items() for value in several]


def test_every_key_has_its_wrong_and_its_right_values_here():
    """A key that the policy gains must say what it may hold."""
    assert KEYS - {"nudge"} == WRONG.keys() == ALLOWED.keys()
    assert RIGHT.keys() == KEYS


@pytest.mark.parametrize(("key", "value"), pairs(WRONG))
def test_what_cannot_work_is_refused_by_key_value_and_what_is_allowed(key, value):
    with pytest.raises(InvalidSettingError) as refused:
        ResetPolicy.checked(**{key: value})
    assert refused.value.key == key
    for words in (key, repr(value), ALLOWED[key]):
        assert words in str(refused.value)


@pytest.mark.parametrize(("key", "value"), pairs(RIGHT))
def test_what_can_work_is_taken_as_it_stands(key, value):
    kept = getattr(ResetPolicy.checked(**{key: value}), key)
    assert (list(kept) if key == "wait_ladder_s" else kept) == value


@pytest.mark.parametrize("key", sorted(KEYS))
def test_an_empty_setting_means_the_default(key):
    assert ResetPolicy.checked(**{key: None}) == ResetPolicy()


def test_the_defaults_are_the_documented_ones():
    policy = ResetPolicy()
    assert (policy.percentage, policy.max_wait_s, policy.concurrent) == (200, 720, 1)
    assert (policy.restore_timeout_s, policy.verify_timeout_s, policy.settle_s) == (300, 300, 60)
    assert (policy.retry_after_s, policy.set_aside_after) == (21_600, 3)
    assert (policy.remedy, policy.nudge) == (Remedy.REPLICAS, True)


def test_a_misspelt_key_is_refused_and_the_known_ones_listed():
    with pytest.raises(InvalidSettingError, match=r"percent.*percentage"):
        ResetPolicy.checked(percent=200)
