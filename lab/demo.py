"""`make demo`: the laboratories, Dagster against them, and the wings at work, on one machine.

Nothing here reaches anybody's own systems: the connections in the environment are dropped, and
the working directory is the demo's own, where there is no `.env`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from caretaker.errors import CaretakerError
from lab.cluster_sizes import ClusterSizes
from lab.control import LabControl, LabUnreachableError
from lab.dagster_api import DagsterAPI, DagsterAPIError
from lab.pod_restarts import PodRestarts
from lab.row_changes import RowChanges
from lab.supervisor import (
    Child,
    NotReadyError,
    Supervisor,
    accepts,
    answers,
    interrupt_on_signals,
    keep,
)
from resources.state_store.address import state_url
from resources.state_store.store import StateStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from resources.state_store.rows import OutcomeRow

CHECKOUT = Path(__file__).resolve().parents[1]
LOCATION = "caretaker"
_CARETAKER = Path(sysconfig.get_path("scripts")) / "caretaker"
# What only restores or resumes is on by default; these start changes, so somebody must say so.
SWITCHED_ON = ("translog_sizes", "cluster_idleness")
# Says that the folder may be emptied, and is locked while a demo lives in it.
MARKER = "made-by-make-demo"
ANOTHER = "name another folder: CARETAKER_DEMO_HOME=/path make demo"

LAST_PORT = 65535
RUNS_END_WITHIN_S = 120.0

# What the real servers of the demo are fetched with, and from where they are kept.
_FOR_DOWNLOADS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "CARETAKER_SERVER_CACHE")

# An environment that is set up for production must not reach a demonstration. In a Kubernetes pod
# a sqlite state store is refused, and a proxy has no way to loopback.
_NOT_FOR_THE_DEMO = (
    "CARETAKER_",
    "CRATE_",
    "DAGSTER_",
    "DATABASE_URL",
    "KUBE",
    "MONGODB_",
    "MYSQL_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "GRPC_PROXY",
)


class CannotStartError(Exception):
    """The demo cannot start on this machine as it is; the message is for the person who tried."""


@dataclass(frozen=True)
class Place:
    """Where the demo lives: its folder, and its ports on loopback."""

    folder: Path
    ui_port: int
    crate_port: int
    control_port: int
    code_port: int

    @property
    def ui(self) -> str:
        """Return the address of the web page."""
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def dagster_home(self) -> Path:
        """Return Dagster's home: runs, events, and caretaker's state store."""
        return self.folder / "dagster"

    @property
    def workspace(self) -> Path:
        """Return the workspace file that points at our own code server."""
        return self.folder / "workspace.yaml"


@dataclass(frozen=True)
class Wings:
    """What the demo shows besides the translogs."""

    rows: RowChanges
    sizes: ClusterSizes
    pods: PodRestarts


def main() -> int:
    """Run the demo until Ctrl-C; 1 with one sentence where it cannot start."""
    code = keep(_demo)
    if code == 0:
        say("nothing of it is running any more")
    return code


def say(line: str) -> None:
    """Print a line now, also into a pipe; a reader that has gone is no reason to stop."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _demo() -> int:
    interrupt_on_signals()
    try:
        ui_port = _ui_port(os.environ)
        folder = Path(os.environ.get("CARETAKER_DEMO_HOME") or CHECKOUT / ".caretaker" / "demo")
        with _claimed(folder.resolve()):
            return _live(*_prepare(folder.resolve(), ui_port))
    except CannotStartError as error:
        sys.stderr.write(f"caretaker: {error}\n")
        return 1


def _live(place: Place, wings: Wings) -> int:
    supervisor = Supervisor(logs=place.folder / "logs", say=lambda line: say(f"{_now()}  {line}"))
    dagster = DagsterAPI(place.ui, LOCATION)
    try:
        try:
            _start(place, wings, supervisor, dagster)
            _watch(place, wings, supervisor)
        except KeyboardInterrupt:
            say("\nstopping: sensors off, runs put back what they changed (Ctrl-C: at once)")
            _settle(place, supervisor, dagster)
            supervisor.stop()
    except NotReadyError as error:
        sys.stderr.write(f"caretaker: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("\nat once")
    finally:
        supervisor.kill()
    return 0


def _start(place: Place, wings: Wings, supervisor: Supervisor, dagster: DagsterAPI) -> None:
    """Start everything, what does not depend on each other side by side."""
    began = time.monotonic()
    say("starting a laboratory and Dagster on this machine; nothing of yours is touched")
    first, then = _children(place, dagster)
    beside = (*wings.rows.children(), *wings.sizes.children(), *wings.pods.children())
    for group in ((*beside, *first), then, (wings.pods.user(place.ui, LOCATION),)):
        for child in group:
            supervisor.launch(child)
        for child in group:
            supervisor.await_ready(child)
    for sensor in SWITCHED_ON:
        try:
            dagster.switch_on(sensor)
        except DagsterAPIError as error:
            raise NotReadyError(str(error)) from error
    say(
        f"""
ready after {time.monotonic() - began:.0f} s: {place.ui}

  {place.ui}/runs         repairs, as they happen: click one, then a step
  {place.ui}/automation   what starts them: two are on that others must switch on
  {place.ui}/assets       what is looked after, and what is known about it

translog: a CrateDB of three nodes at http://127.0.0.1:{place.crate_port}, in pure Python. Some of
its tables pile up translogs, and another one does every minute or two.
{wings.rows.said_at_start()}
{wings.sizes.said_at_start()}
{wings.pods.said_at_start()}

From another terminal: cd {place.folder}
  {_CARETAKER} strategies dry-run   what would be done to its clusters now, and why
  {_CARETAKER} restart plant --dry-run   the whole plan of a rolling restart, in order
  {_CARETAKER} binlog status        how far the audit trail is; tail, history and undo look into it
  {_CARETAKER} doctor               what works, what would be refused, what to change

Logs and state are in {place.folder}. Ctrl-C ends everything.
"""
    )


def _children(place: Place, dagster: DagsterAPI) -> tuple[Sequence[Child], Sequence[Child]]:
    python = sys.executable
    crate_port, control_port = str(place.crate_port), str(place.control_port)
    laboratory = (python, "-m", "lab.cratedb", "--demo")
    web = (python, "-m", "dagster_webserver", "-w", str(place.workspace), "-h", "127.0.0.1")
    code = (python, "-m", "dagster", "api", "grpc", "-m", "definitions", "-h", "127.0.0.1")
    return (
        Child(
            "laboratory",
            (*laboratory, "--port-base", crate_port, "--control-port", control_port),
            lambda: answers(f"http://127.0.0.1:{control_port}/status"),
            f"port {control_port} to answer",
        ),
        # Not `dagster code-server start`: that is a proxy which never revives the server behind it.
        Child(
            "code server",
            (*code, "-p", str(place.code_port), "--location-name", LOCATION),
            lambda: accepts("127.0.0.1", place.code_port),
            f"port {place.code_port} to answer",
            spares_its_own=True,
        ),
    ), (
        Child(
            "web server",
            (*web, "-p", str(place.ui_port)),
            lambda: answers(f"{place.ui}/server_info"),
            f"{place.ui} to answer",
            ends_within_s=3.0,  # it waits for open pages, and a browser keeps its page open
        ),
        Child(
            "daemon",
            (python, "-m", "dagster._daemon", "run", "-w", str(place.workspace)),
            dagster.daemons_are_healthy,
            "its first heartbeat",
        ),
    )


def _watch(place: Place, wings: Wings, supervisor: Supervisor) -> NoReturn:
    """Keep all running, and say how each repair ended, what becomes of rows, clusters and pods."""
    ended = _outcomes(place)
    while True:
        supervisor.tick()
        for line in ended():
            say(line)
        for line in (*wings.rows.news(), *wings.sizes.news(), *wings.pods.news()):
            say(f"{_now()}  {line}")
        time.sleep(0.5)


def _outcomes(place: Place) -> Callable[[], list[str]]:
    """Return a function that returns a line for each outcome since it was last asked."""
    store = StateStore.open(state_url({"DAGSTER_HOME": str(place.dagster_home)}))
    seen: set[int] = set()
    began = datetime.now(UTC)

    def ended() -> list[str]:
        # A busy store is asked again in half a second.
        with contextlib.suppress(CaretakerError):
            new = [row for row in store.outcomes(since=began) if row.id not in seen]
            seen.update(row.id for row in new)
            return [_outcome_line(row) for row in reversed(new) if row.outcome != "SKIPPED"]
        return []

    return ended


def _outcome_line(row: OutcomeRow) -> str:
    said = f"{row.ended_at.astimezone():%H:%M:%S}  {row.target}: {row.outcome}"
    if row.final_replicas is not None:
        said += f", {row.seconds_at_zero:.1f} s without replicas, {row.final_replicas!r} again"
    return f"{said}; {row.reason}" if row.reason else said


def _settle(place: Place, supervisor: Supervisor, dagster: DagsterAPI) -> None:
    """Let every run put back what it changed, so that no table stays without its replicas."""
    if not answers(f"{place.ui}/server_info"):
        return  # stopped while it started: nothing has been switched on yet
    lab = LabControl(f"http://127.0.0.1:{place.control_port}")
    try:
        dagster.switch_off_all()
        _wait_until(_ending_all(dagster), RUNS_END_WITHIN_S, supervisor)
        # A run that is stopped between two of its steps cannot put anything back. The sensor on
        # open tickets would, and is off by now.
        if lab.status()["at_zero"]:
            say("restoring what no run has put back: caretaker translogs --resume")
            _resume(place)
        if left := lab.status()["at_zero"]:
            say(f"still without replicas, in the laboratory: {', '.join(left)}")
    except (DagsterAPIError, LabUnreachableError) as error:
        say(f"could not wait for the runs: {error}")


def _ending_all(dagster: DagsterAPI) -> Callable[[], bool]:
    """Return a function that asks every live run to end, and tells whether none is left.

    A sensor's last tick may start one more. Each is asked once: asking again would interrupt what
    it does to clean up.
    """
    asked: set[str] = set()

    def none_is_left() -> bool:
        live = set(dagster.live_runs())
        if live - asked:
            dagster.ask_to_end(sorted(live - asked))
            asked.update(live)
        return not live

    return none_is_left


def _wait_until(condition: Callable[[], bool], within_s: float, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        supervisor.tick()
        time.sleep(0.2)


def _resume(place: Place) -> None:
    log = place.folder / "logs" / "resume.log"
    with log.open("ab") as output, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [_CARETAKER, "translogs", "--resume"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=RUNS_END_WITHIN_S,
            check=False,
        )


# --- before anything is started -----------------------------------------------------------------


def _ui_port(environment: Mapping[str, str]) -> int:
    text = environment.get("CARETAKER_UI_PORT") or "3000"
    if not text.isdigit() or not 0 < int(text) <= LAST_PORT:
        raise CannotStartError(
            f"CARETAKER_UI_PORT is {text!r}; a port is a number up to {LAST_PORT}"
        )
    port = int(text)
    if not _is_free(port):
        raise CannotStartError(
            f"port {port} is taken, and the web page was to be there; "
            f"choose another one: CARETAKER_UI_PORT={port % LAST_PORT + 1} make demo"
        )
    return port


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold the demo's folder: ours to empty, and no second demo's."""
    marker = folder / MARKER
    with _writing():
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not marker.exists():
            raise CannotStartError(f"{folder} would be emptied, and is not the demo's; {ANOTHER}")
        lock = marker.open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStartError(f"a demo is running in {folder} already; {ANOTHER}") from None
        yield


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotStartError(
            f"cannot write to {error.filename} ({error.strerror}); {ANOTHER}"
        ) from None


def _prepare(folder: Path, ui_port: int) -> tuple[Place, Wings]:
    """Empty the folder, write Dagster's files, and make this process's environment the demo's.

    The laboratory forgets everything when it ends, so yesterday's tickets mean nothing to it.
    """
    instance = CHECKOUT / "dagster.yaml"
    if not instance.exists():
        raise CannotStartError("the demo runs from a checkout: make demo")
    place = Place(
        folder,
        ui_port,
        crate_port=_free_ports(4200, 3),
        control_port=_free_ports(4299),
        code_port=_free_ports(4266),
    )
    with _writing():
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != MARKER:
                entry.unlink()
        place.dagster_home.mkdir()
        shutil.copy(instance, place.dagster_home)
        place.workspace.write_text(
            f"load_from:\n  - grpc_server:\n      host: 127.0.0.1\n"
            f"      port: {place.code_port}\n      location_name: {LOCATION}\n"
        )
    downloads = {k: v for k, v in os.environ.items() if k.upper() in _FOR_DOWNLOADS}
    for name in list(os.environ):
        if name.upper().startswith(_NOT_FOR_THE_DEMO):
            del os.environ[name]
    nodes = range(place.crate_port, place.crate_port + 3)
    rows = RowChanges(folder, _free_ports(27217), _free_ports(23306), downloads)
    rows.write_down()
    sizes = ClusterSizes(folder, _free_ports(6875), _free_ports(6899))
    pods = PodRestarts(folder, _free_ports(6443), _free_ports(6444), _free_ports(6445))
    settings = {
        **rows.environment,
        **sizes.environment,
        **pods.environment,
        "CRATE_CONNECTION_STRING": ",".join(f"http://127.0.0.1:{port}" for port in nodes),
        "DAGSTER_HOME": str(place.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }
    # For `caretaker` in a terminal of one's own, in this folder.
    (folder / ".env").write_text("".join(f"{k}='{v}'\n" for k, v in settings.items()))
    os.environ |= {
        **settings,
        "MPLCONFIGDIR": str(folder / "matplotlib"),  # a home that cannot be written is no obstacle
        "PYTHONUNBUFFERED": "1",
    }
    os.chdir(folder)
    return place, Wings(rows, sizes, pods)


def _free_ports(first: int, count: int = 1) -> int:
    """Return the first of `count` free ports in a row, at `first` or above it."""
    for port in range(first, first + 2000, 10):
        if all(_is_free(each) for each in range(port, port + count)):
            return port
    raise CannotStartError(f"no free port was found from {first} on")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return not accepts("127.0.0.1", port)


def _now() -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}"


if __name__ == "__main__":
    sys.exit(main())
