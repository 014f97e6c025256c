"""The fuzz of the binlog's readers finds what it looks for, and nothing in what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proofs import binlog_fuzz

CHECKOUT = Path(__file__).resolve().parents[2]


def test_some_rounds_find_nothing(capsys):
    assert binlog_fuzz.main(["--seed", "1", "--rounds", "40"]) == 0
    assert "seed 1\n40 rounds: " in capsys.readouterr().out


def test_half_a_minute_of_it_finds_nothing():
    """As one types it; an hour is for whoever searches."""
    command = [sys.executable, "-m", "proofs", "binlog_fuzz", "--seconds", "30"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("caretaker.binlog.emission.checked", lambda raw: raw),
        ("caretaker.binlog.tablemap._text", lambda raw, _: raw.decode()),
        ("caretaker.binlog.decimals.decimal128", lambda *_, **__: bytes(16)),
    ],
    ids=["text that is no UTF-8", "a name that is no UTF-8", "the plain decoder alone is wrong"],
)
def test_a_reader_that_trusts_what_it_reads_is_found_out(broken, what, monkeypatch, capsys):
    monkeypatch.setattr(broken, what)
    assert binlog_fuzz.main(["--seed", "1", "--rounds", "300", "--stop"]) == 1
    told = capsys.readouterr().out
    assert "WRONG" in told
    assert "--rounds 1\nTraceback" in told


def test_a_round_can_be_had_again():
    first = binlog_fuzz.Corpus()
    ends = [first.round(seed) for seed in range(1, 12)]
    again = binlog_fuzz.Corpus()
    assert [again.round(seed) for seed in range(11, 0, -1)] == ends[::-1]
