"""`make demo` and `make test` on machines that lack something: one sentence, and exit code 1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


class Clone:
    """What bootstrap.sh needs of a checkout, in a folder with a blank in its name."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.folder = folder
        (folder / "scripts").mkdir(parents=True)
        for name in (
            "scripts/bootstrap.sh",
            "pyproject.toml",
            "requirements.lock",
            "requirements-dev.lock",
        ):
            shutil.copy(checkout / name, folder / name)

    def bootstrap(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it with little more than a PATH: no cache, no settings of this machine's pip."""
        return subprocess.run(
            [self.folder / "scripts/bootstrap.sh", "lab"],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def pretend_it_is_made(self) -> None:
        """Put there what bootstrap.sh leaves when it is done."""
        (self.folder / ".venv/bin").mkdir(parents=True)
        (self.folder / ".venv/bin/python").symlink_to(sys.executable)
        content = (self.folder / "requirements.lock").read_bytes()
        content += (self.folder / "pyproject.toml").read_bytes()
        check = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout
        stamp = f"lab {self.folder} {check.decode()}"
        (self.folder / ".venv/caretaker.stamp").write_text(stamp)


@pytest.fixture
def clone(checkout, tmp_path):
    return Clone(checkout, tmp_path / "a clone")


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a failure."""
    assert result.returncode == 1
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("installing ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_an_old_python_is_told_apart(clone, tmp_path):
    """Which one it is, what is needed, and how to name another."""
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\ncase $2 in *exit*) exit 1 ;; *) echo 3.9 ;; esac\n")
    old.chmod(0o755)

    said = sentence(clone.bootstrap(PYTHON=str(old)))

    assert "Python 3.11 to 3.14 is needed" in said
    assert f"{old} is Python 3.9" in said
    assert "make demo PYTHON=" in said


def test_no_python_at_all(clone):
    """A name that does not run is not called old."""
    said = sentence(clone.bootstrap(PYTHON="/nowhere/python3"))
    assert "/nowhere/python3 is missing or does not run" in said


def test_no_network(clone, unused_port):
    """A dead proxy stands for a dead network."""
    proxy = f"http://127.0.0.1:{unused_port}"

    said = sentence(clone.bootstrap(PYTHON=sys.executable, HTTPS_PROXY=proxy, HTTP_PROXY=proxy))

    assert "could not be downloaded: check the network" in said
    assert not (clone.folder / ".venv/caretaker.stamp").exists()


def test_a_folder_that_cannot_be_written(clone):
    """Root may write everywhere, so a file stands in the way instead."""
    (clone.folder / ".caretaker").write_text("")
    assert "cannot write to" in sentence(clone.bootstrap(PYTHON=sys.executable))


def test_the_second_call_does_nothing(clone):
    """Nothing installed, nothing asked of the network, nothing said."""
    clone.pretend_it_is_made()
    result = clone.bootstrap()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (clone.folder / ".caretaker").exists()


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_is_installed(clone, changed):
    """Here it cannot be, for want of a network; it is tried."""
    clone.pretend_it_is_made()
    with (clone.folder / changed).open("a") as file:
        file.write("# changed\n")
    (clone.folder / ".caretaker").write_text("")

    assert "cannot write to" in sentence(clone.bootstrap())
