"""Our top-level names are ours alone."""

from __future__ import annotations

import tomllib
from importlib.metadata import packages_distributions


def test_no_other_distribution_owns_one_of_our_names(checkout):
    """`ops`, `resources` and others exist as packages of strangers; importing theirs is silent."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    ours = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    owners = packages_distributions()
    assert {n: set(owners.get(n, [])) - {"caretaker-pipelines"} for n in ours} == {
        n: set() for n in ours
    }
