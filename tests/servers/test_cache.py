"""What is fetched once is whole, whoever else fetches it, and whatever was cut off before."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab.servers import cache, debian
from lab.servers.errors import ServerUnavailableError

ROOT = Path(__file__).resolve().parents[2]

#: Prepares something slowly, and leaves a mark each time that it had to.
MAKER = """
import sys, time
from pathlib import Path
from lab.servers.cache import once

def make(folder):
    with open(sys.argv[1], "a") as marks:
        marks.write("made\\n")
    (folder / "first").write_text("1")
    print("half", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "second").write_text("2")

print(sorted(each.name for each in once("thing", make).iterdir()), flush=True)
"""


@pytest.fixture
def marks(tmp_path, monkeypatch):
    monkeypatch.setenv("CARETAKER_SERVER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "marks"


def maker(marks: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(marks), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_two_processes_at_once_prepare_it_once(marks):
    """The second waits, and finds all of it."""
    both = [maker(marks, 0.5), maker(marks, 0.5)]
    said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in both]
    assert said == ["['first', 'second']"] * 2
    assert marks.read_text() == "made\n"


def test_what_a_killed_process_left_half_made_is_made_again(marks):
    """Nobody takes it for whole."""
    with maker(marks, 60) as cut_off:
        assert cut_off.stdout is not None
        assert cut_off.stdout.readline() == "half\n"
        cut_off.kill()
    with maker(marks, 0) as next_one:
        assert next_one.communicate(timeout=60)[0].splitlines()[-1] == "['first', 'second']"
    assert marks.read_text() == "made\nmade\n"


def test_what_could_not_be_made_is_tried_again(marks):
    """A mirror that was away once is no verdict."""

    def fail(folder: Path) -> None:
        (folder / "first").touch()
        raise ServerUnavailableError("no network")

    with pytest.raises(ServerUnavailableError, match="no network"):
        cache.once("thing", fail)
    assert cache.once("thing", lambda folder: (folder / "whole").touch()).joinpath("whole").exists()
    assert not marks.exists()


def test_a_cache_that_cannot_be_is_a_reason(monkeypatch):
    """Not an error of the suite's."""
    monkeypatch.setenv("CARETAKER_SERVER_CACHE", "/dev/null/cache")
    with pytest.raises(ServerUnavailableError, match="no cache in /dev/null/cache: Not a dir"):
        cache.once("thing", lambda _: None)


def test_threads_of_one_process_wait_for_each_other_too(marks):
    """Fixtures of a parallel suite may ask at the same time."""
    made: list[int] = []
    threads = [
        threading.Thread(target=cache.once, args=("thing", lambda _, n=n: made.append(n)))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1
    assert not marks.exists()


def test_a_machine_without_apt_says_so(marks, monkeypatch):
    """The reason that the account of the suite then gives."""
    monkeypatch.setenv("PATH", str(marks.parent))
    with pytest.raises(ServerUnavailableError, match="this machine has no apt-get"):
        debian.unpacked("thing", ["mysql-server-core"], ["sid"])


def test_another_distribution_says_so(marks, monkeypatch):
    """Its mirror has none of Debian's suites."""
    monkeypatch.setattr(debian, "_os_release", lambda: {"ID": "ubuntu"})
    with pytest.raises(ServerUnavailableError, match="this machine is ubuntu, no Debian"):
        debian.unpacked("thing", ["mysql-server-core"], ["sid"])
    assert not marks.exists()
