"""The examples in `--help` of the verbs about pods, as they are printed."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.console.examples import all_examples

#: As in README.md.
WINDOWS = """
[prod]
timezone = "Europe/Vienna"
min_window_duration = 30

[[prod.windows]]
time = "22:00-02:00"
weekdays = ["mon", "tue", "wed", "thu"]
description = "nights"
"""


@pytest.fixture(scope="module")
def prod(module_start):
    """The cluster of the examples; none of them changes it."""
    return module_start(name="prod")


@pytest.mark.parametrize(
    "example", [each for each in all_examples() if re.match("caretaker (decomm|restart)", each)]
)
def test_the_examples_work(prod, caretaker, example, monkeypatch):
    command = caretaker(prod)
    (command.folder / "windows.toml").write_text(WINDOWS)
    monkeypatch.chdir(command.folder)

    ended = command(*shlex.split(example)[1:])

    assert ended.code == 0, ended
    assert "prod" in ended.out
    assert prod.changes == []
    assert prod.replaced == set()
