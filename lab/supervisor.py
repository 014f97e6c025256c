"""Keeps the demo's processes running, and leaves none behind.

`dagster dev` does not bring back a code server that was killed, so the demo runs Dagster's
processes itself, each in a session of its own:

    make          the terminal's Ctrl-C reaches these three
    |__ keeper            sweeps up whatever is left, even after a kill -9 of the supervisor
        |__ supervisor    starts, watches, restarts, stops
            |__ laboratory, code server, webserver, daemon, ...   not reached by it

On Linux the keeper adopts orphans (a run's worker outlives its code server); elsewhere only the
children's own process groups are known.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

POLL_S = 0.1
FIRST_RESTART_AFTER_S = 0.5
RESTART_AT_MOST_EVERY_S = 15.0
DEATHS_BEFORE_READY = 3
# A child that has lived this long starts its back-off anew.
STABLE_AFTER_S = 30.0
ORPHANS_END_WITHIN_S = 5.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


# A proxy from the environment has no way to this machine's loopback.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotReadyError(Exception):
    """A child did not become ready; the message says what was waited for and where its log is."""


@dataclass(frozen=True)
class Child:
    """A process to keep running.

    Attributes:
        name: As people know it: "code server".
        command: Its arguments, the program first. Folder and environment are the supervisor's.
        is_ready: Asked every tenth of a second after a start; must not block for long.
        waits_for: What `is_ready` looks for, for the sentence when it never comes.
        ready_within_s: How long the first start may take.
        ends_within_s: Between SIGTERM and SIGKILL.
        spares_its_own: When it dies, leave what it started: a run's worker outlives its code
            server, and puts back what it changed. Otherwise that would hold ports and files.
        environment: What it gets besides the supervisor's own.

    """

    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]
    waits_for: str
    ready_within_s: float = 180.0
    ends_within_s: float = 10.0
    spares_its_own: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Life:
    """A child's present process, and what its restarts have come to."""

    child: Child
    process: subprocess.Popen[bytes]
    started_at: float
    restart_after_s: float = FIRST_RESTART_AFTER_S
    restart_at: float | None = None
    died_at: float | None = None
    deaths: int = 0
    last_code: int = 0


@dataclass
class Supervisor:
    """Starts children in order, restarts those that die, stops all in reverse order.

    Used from one thread: the kernel ties a child's parent-death signal to the thread that
    started it.
    """

    logs: Path
    say: Callable[[str], None]
    _lives: list[_Life] = field(default_factory=list)

    def start(self, child: Child) -> None:
        """Start `child` and return when it is ready, keeping those before it alive meanwhile.

        Raises:
            NotReadyError: It was not in time, or ended again and again.

        """
        self.launch(child)
        self.await_ready(child)

    def launch(self, child: Child) -> None:
        """Start `child` without waiting for it."""
        self._lives.append(_Life(child, self._spawn(child), time.monotonic()))

    def await_ready(self, child: Child) -> None:
        """Wait for a launched child; raises as `start` does."""
        life = next(life for life in self._lives if life.child is child)
        deadline = time.monotonic() + child.ready_within_s
        while not child.is_ready():
            if life.deaths >= DEATHS_BEFORE_READY:
                raise NotReadyError(
                    f"the {child.name} {_how_it_ended(life.last_code)} {life.deaths} times; "
                    f"its log is {self.log_of(child)}"
                )
            if time.monotonic() > deadline:
                raise NotReadyError(
                    f"the {child.name} is not ready: waited {child.ready_within_s:.0f} s for "
                    f"{child.waits_for}; its log is {self.log_of(child)}"
                )
            self.tick()
            time.sleep(POLL_S)
        life.deaths = 0

    def tick(self) -> None:
        """Look after every child once: notice a death, start again when its time has come."""
        for life in self._lives:
            self._look_after(life)

    def pid_of(self, name: str) -> int:
        """Return the process id of a child's present process."""
        return next(life.process.pid for life in self._lives if life.child.name == name)

    def log_of(self, child: Child) -> Path:
        """Return the file with what `child` printed, its restarts included."""
        return self.logs / f"{child.name.replace(' ', '-')}.log"

    def stop(self) -> None:
        """End all children, last started first; what does not end in time is killed."""
        while self._lives:
            life = self._lives.pop()
            _end_group(life.process, within_s=life.child.ends_within_s)

    def kill(self) -> None:
        """End all children at once."""
        while self._lives:
            _end_group(self._lives.pop().process, within_s=0.0)

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.log_of(child).open("ab") as log:
            return subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **child.environment},
                preexec_fn=_be_a_child,  # noqa: PLW1509 - it takes no lock, and we run one thread
            )

    def _look_after(self, life: _Life) -> None:
        now = time.monotonic()
        name = life.child.name
        if life.process.poll() is None:
            if life.died_at is not None and life.child.is_ready():
                self.say(f"the {name} is back after {now - life.died_at:.1f} s")
                life.died_at = None
            return
        if life.restart_at is None:
            if now - life.started_at > STABLE_AFTER_S:
                life.restart_after_s = FIRST_RESTART_AFTER_S
            life.restart_at = now + life.restart_after_s
            life.died_at = life.died_at or now
            life.deaths += 1
            life.last_code = life.process.returncode
            if not life.child.spares_its_own:
                _send_group(life.process.pid, signal.SIGKILL)
            self.say(
                f"the {name} {_how_it_ended(life.last_code)}; "
                f"starting it again in {life.restart_after_s:g} s"
            )
            return
        if now >= life.restart_at:
            life.process = self._spawn(life.child)
            life.started_at = now
            life.restart_at = None
            life.restart_after_s = min(life.restart_after_s * 2, RESTART_AT_MOST_EVERY_S)


def keep(supervise: Callable[[], int]) -> int:
    """Run `supervise` in a child process; return its exit code once none of its processes is left.

    Whichever of the two is killed, the other one clears up. Call it before any thread is started.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    supervisor = os.fork()
    if supervisor == 0:
        # A group of its own: a terminal's Ctrl-C comes through us once, like anybody's SIGINT.
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        os._exit(_run(supervise))

    # SIGINT whatever was inherited: a script that starts us in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _frame: _send(supervisor, received))

    code = 1
    while True:
        # Adopted orphans end here too.
        pid, status = os.wait()
        if pid == supervisor:
            code = os.waitstatus_to_exitcode(status)
            break
    _sweep_up()
    return code if code >= 0 else 128 - code


def interrupt_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt.

    SIGINT too: a script that starts us in the background has it ignored, and so would we.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def accepts(host: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """Tell whether an HTTP GET is answered with success."""
    try:
        with _direct.open(url, timeout=2):
            return True
    except OSError:  # HTTPError and URLError among them
        return False


def descendants(pid: int) -> set[int]:
    """Return the processes below `pid`, zombies excepted; empty where there is no /proc."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command, in brackets, may contain anything, brackets and blanks too.
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                below.setdefault(int(parent), []).append(int(entry.parent.name))
    found: set[int] = set()
    frontier = [pid]
    while frontier:
        children = below.get(frontier.pop(), [])
        found.update(children)
        frontier.extend(children)
    return found


def _run(supervise: Callable[[], int]) -> int:
    """Call `supervise` as the whole life of this process: `os._exit` follows."""
    try:
        return supervise()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException:  # noqa: BLE001 - there is no caller to raise to
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()


def _be_a_child() -> None:
    """Between fork and exec: ask to be told of the supervisor's death, and take signals again."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # An ignored SIGINT is inherited, and Dagster then ignores SIGTERM as well.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end_group(process: subprocess.Popen[bytes], *, within_s: float) -> None:
    """End a child and everything in its process group: SIGTERM, and SIGKILL when time is up."""
    if within_s > 0:
        _send_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within_s)
    _send_group(process.pid, signal.SIGKILL)
    process.wait()


def _sweep_up() -> None:
    """End every process below this one."""
    deadline = time.monotonic() + ORPHANS_END_WITHIN_S
    told: set[int] = set()
    while left := descendants(os.getpid()):
        if time.monotonic() > deadline:
            _send_all(left, signal.SIGKILL)
        else:
            _send_all(left - told, signal.SIGTERM)
            told |= left
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(POLL_S)


def _send_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        _send(pid, number)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _send_group(group: int, number: int) -> None:
    # macOS answers EPERM for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _prctl(option: int, value: int) -> None:
    if _libc is not None:
        _libc.prctl(option, value, 0, 0, 0)


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        return f"was killed ({signal.Signals(-returncode).name})"
    return f"ended with exit code {returncode}"
