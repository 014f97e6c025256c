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

WANTS_MYSQL = """
def test_against_the_real_one(mysql_server):
    pass

def test_with_one_of_its_own(start_mysql):
    start_mysql()
"""


@pytest.fixture
def suite(checkout, tmp_path):
    """Return a function that runs a suite of two tests under our conftest.py."""
    shutil.copy(checkout / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_crystal.py").write_text(SUITE)
    (tmp_path / "test_mysql.py").write_text(WANTS_MYSQL)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = live(system): against a real one\n")

    def run(
        which: str = "crystal", *options: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"test_{which}.py"]
        return subprocess.run(
            [*command, *options],
            env={**os.environ, "PYTHONPATH": str(checkout), **environment},
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


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_where_a_server_is_required_its_absence_fails(suite, options):
    """CI names what it must have; whichever process would have run the test."""
    result = suite("crystal", *options, CARETAKER_REQUIRE="mysql,crystal")
    assert result.returncode == 1
    assert "crystal: 1 test, and required here: CRYSTAL_URL is not set" in result.stdout


def test_a_server_that_this_machine_cannot_have_is_named_with_its_reason(suite):
    """By the fixture that would have started it."""
    nowhere = {"CARETAKER_SERVER_CACHE": "/dev/null", "CARETAKER_TEST_MYSQL_URL": ""}
    result = suite("mysql", CARETAKER_REQUIRE="", **nowhere)
    assert result.returncode == 0
    assert "mysql: 2 tests: no cache in /dev/null" in result.stdout

    required = suite("mysql", CARETAKER_REQUIRE="mysql", **nowhere)
    assert required.returncode == 1
    assert "mysql: 2 tests, and required here: no cache in /dev/null" in required.stdout
