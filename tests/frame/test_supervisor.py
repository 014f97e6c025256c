"""What the demo's supervisor promises: it heals, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.supervisor import accepts, answers, descendants

PROGRAM = Path(__file__).with_name("supervised_children.py")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")

#: Where it has not by then, it never will; a busy machine takes its time.
ENDS_WITHIN_S = 60.0


class Demo:
    """A supervisor with three children, as `make` would start it: in the terminal's group."""

    def __init__(self, folder: Path, *arguments: str, ignores_sigint: bool = False) -> None:
        def ignore() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

        self.folder = folder
        self.output = folder / "output"
        self.read = 0
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(folder), *arguments],
                stdout=output,
                start_new_session=True,
                preexec_fn=ignore if ignores_sigint else None,  # noqa: PLW1509 - no threads here
            )

    def line(self, containing: str) -> str:
        """Return the next line that contains this, once it has been printed."""
        found: list[str] = []

        def look() -> bool:
            lines = self.output.read_text().splitlines()
            for number, line in enumerate(lines[self.read :], self.read + 1):
                if containing in line:
                    self.read = number
                    found.append(line)
                    break
            return bool(found)

        wait_until(look)
        return found[0]

    def pid(self, name: str) -> int:
        """Return what the process wrote about itself, once it has."""
        path = self.folder / name
        wait_until(lambda: path.exists() and path.read_text().isdigit())
        return int(path.read_text())

    def everything(self) -> set[int]:
        self.pid("escaped")
        return {self.process.pid, *descendants(self.process.pid)}


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(*arguments, **options):
        started.append(Demo(tmp_path, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        for pid in {each.process.pid, *descendants(each.process.pid)}:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        each.process.wait()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or ") Z " not in state.read_text()


def wait_until(condition, within_s: float = ENDS_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["first", "deaf", "last"])
def test_a_killed_child_comes_back(demo, name):
    """A kill -9 of any child is healed, and said."""
    demo = demo()
    demo.line("ready")
    killed = demo.pid(name)
    (demo.folder / name).unlink()

    os.kill(killed, signal.SIGKILL)

    assert "was killed (SIGKILL)" in demo.line(f"the {name} was")
    assert demo.line(f"the {name} is back after")
    assert demo.pid(name) != killed


def test_one_ctrl_c_ends_everything(demo):
    """A Ctrl-C reaches the terminal's group only; all children end all the same."""
    demo = demo()
    demo.line("ready")
    everything = demo.everything()

    os.killpg(demo.process.pid, signal.SIGINT)

    assert demo.process.wait(ENDS_WITHIN_S) == 0
    wait_until(lambda: not any(map(is_running, everything)))


def test_started_in_the_background_it_still_obeys(demo):
    """A script's `make demo &` ignores SIGINT; the supervisor and its children must not."""
    demo = demo(ignores_sigint=True)
    demo.line("ready")

    os.kill(demo.pid("first"), signal.SIGINT)
    assert demo.line("the first was killed (SIGINT)")
    os.kill(demo.process.pid, signal.SIGTERM)

    assert demo.process.wait(ENDS_WITHIN_S) == 0


@LINUX
@pytest.mark.parametrize("who", ["supervisor", "keeper"])
def test_even_kill_9_leaves_no_process_behind(demo, who):
    """Supervisor and keeper each clear up after the other, down to a daemonised grandchild."""
    demo = demo()
    demo.line("ready")
    everything = demo.everything()
    assert len(everything) == len(("keeper", "supervisor", "first", "deaf", "last", "escaped"))

    os.kill(demo.process.pid if who == "keeper" else demo.pid("supervisor"), signal.SIGKILL)

    if who == "supervisor":
        wait_until(lambda: not any(map(is_running, everything)))
    else:  # what had escaped into a session of its own has nobody left to adopt it
        wait_until(lambda: not any(map(is_running, everything - {demo.pid("escaped")})))
        os.kill(demo.pid("escaped"), signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("never", "the late one is not ready: waited 0 s for a miracle; its log is"),
        ("broken", "the broken one ended with exit code 1 3 times; its log is"),
    ],
)
def test_a_child_that_never_gets_ready_is_one_sentence(demo, how, sentence):
    """The wait is bounded, says what it was for, and clears up."""
    demo = demo(how)

    assert sentence in demo.line("error: ")
    assert demo.process.wait(ENDS_WITHIN_S) == 1


def test_what_a_child_prints_is_in_its_log(demo):
    """A traceback of a child is found in its own file."""
    demo = demo()
    demo.line("ready")

    os.kill(demo.pid("first"), signal.SIGINT)
    demo.line("the first was killed")

    assert "KeyboardInterrupt" in (demo.folder / "logs" / "first.log").read_text()


def test_probes_say_no_where_nobody_listens(unused_port):
    """A probe is a question, never an exception."""
    assert not accepts("127.0.0.1", unused_port)
    assert not answers(f"http://127.0.0.1:{unused_port}/")
