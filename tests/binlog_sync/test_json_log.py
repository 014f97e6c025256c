"""`--log-format json` of `binlog run`: each line is an event with a name."""

from __future__ import annotations

import json

import pytest


@pytest.mark.usefixtures("rows")
def test_every_line_is_an_event_and_stdout_stays_the_result(caretaker, bench):
    bench.setup()

    ran = caretaker.run("--until-current", "--log-format", "json", "--output", "json")

    lines = [json.loads(line) for line in ran.err.splitlines()]
    ours = {line["event"] for line in lines}
    assert ran.code == 0, ran.err
    assert ran.json["seq"] == len(bench.documents())
    assert {"binlog_starting", "binlog_connected", "binlog_stopped"} <= ours
    assert all(line.keys() >= {"event", "level", "timestamp"} for line in lines)


def test_a_refusal_is_one_such_line(caretaker, bench):
    bench.setup()
    caretaker("pause", "--source", bench.name, "--reason", "tonight")

    refused = caretaker.run("--until-current", "--log-format", "json")

    last = json.loads(refused.err.splitlines()[-1])
    assert refused.code == 3
    assert "tonight" in json.dumps(last)
