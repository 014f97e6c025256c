"""The fuzz of the binlog's readers finds what it looks for, and nothing in what there is."""

from __future__ import annotations

import pytest

from proofs import binlog_fuzz


def test_some_rounds_find_nothing(capsys):
    assert binlog_fuzz.main(["--seed", "1", "--rounds", "40"]) == 0
    assert "seed 1\n40 rounds: " in capsys.readouterr().out


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
