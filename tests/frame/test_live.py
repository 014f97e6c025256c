"""Tests against real servers are run, or are named with the reason why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

SUITE = """
import pytest

@pytest.mark.live("crystal")
def test_against_a_real_one():
    pytest.skip("CRYSTAL_URL is not set")

def test_without_one():
    pass
"""


@pytest.fixture
def suite(checkout, tmp_path):
    """Return a function that runs a suite of two tests under our conftest.py."""
    shutil.copy(checkout / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_crystal.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = live(system): against a real one\n")

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_what_did_not_run_is_named_with_its_reason(suite):
    """Green, but not silently."""
    result = suite(CARETAKER_REQUIRE="")
    assert result.returncode == 0
    assert "crystal: 1 test: CRYSTAL_URL is not set" in result.stdout
    assert "1 passed, 1 skipped" in result.stdout.splitlines()[-1]


def test_where_a_server_is_required_its_absence_fails(suite):
    """CI names what it must have."""
    result = suite(CARETAKER_REQUIRE="mysql,crystal")
    assert result.returncode == 1
    assert "crystal: 1 test, and required here: CRYSTAL_URL is not set" in result.stdout
