"""The world with rules is worth its time: the four breaks that it must notice turn it red."""

from __future__ import annotations

import pytest

from proofs.translog_mutants import FOUR, MORE, ROOT, main


@pytest.mark.parametrize("mutant", FOUR + MORE, ids=lambda mutant: mutant.name)
def test_every_break_is_still_one(mutant, tmp_path):
    """What it replaces is there, exactly once: a break of nothing would prove nothing."""
    for edit in mutant.edits:
        copy = tmp_path / edit.file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / edit.file).read_text())
        edit.apply(tmp_path)
        assert copy.read_text() != (ROOT / edit.file).read_text()


def test_the_four_breaks_are_noticed_by_the_world_with_rules(capsys):
    code = main(["--short"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert said.count("rules RED") == len(FOUR), said
