"""Rules of the whole suite: nobody's own systems, real servers, and an account of what did not run.

A real server is the one that `CARETAKER_TEST_<SYSTEM>_URL` names, else one that this session starts
(`lab.servers`); where this machine cannot have it, the tests that want it are skipped, and named.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pwd
import shutil
import signal
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from lab.servers.kubernetes import ControlPlane
    from lab.servers.mongodb import MongoDB
    from lab.servers.mongodb_url import MongoUrl
    from lab.servers.mysqld import Mysqld
    from lab.servers.sql import Sql

# Whoever runs the suite under nohup has SIGHUP ignored, by every process that a test starts, too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A shell that is set up for production must not lend it to a test.
for name in (
    "CARETAKER_KUBE_CONTEXT",
    "CARETAKER_STATE_URL",
    "CARETAKER_STRATEGY_STORE_URL",
    "CRATE_CONNECTION_STRING",
    "CRATE_PASSWORD",
    "CRATE_SSL_VERIFY",
    "CRATE_USERNAME",
    "DAGSTER_HOME",
    "DATABASE_URL",
    "KUBECONFIG",
    "MONGODB_DATABASE",
    "MONGODB_URI",
    "MYSQL_URL",
):
    os.environ.pop(name, None)


#: Whom PostgreSQL's package makes and runs the server as, where we are root.
_POSTGRES_USER = "pgserver"


def pytest_configure(config: pytest.Config) -> None:
    """Make that user before there are workers: of two that make it at once, one fails."""
    if hasattr(config, "workerinput") or os.geteuid() != 0:
        return
    try:
        pwd.getpwnam(_POSTGRES_USER)
    except KeyError:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        if useradd := shutil.which("useradd", path=path):
            subprocess.run([useradd, "-s", "/bin/bash", _POSTGRES_USER], check=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the restarts' cases be run on a real control plane as well, which takes longer."""
    parser.addoption(
        "--restarts-on",
        choices=("lab", "real"),
        default="lab",
        help="control plane of tests/restarts, where a test does not say which (default: lab)",
    )


# No deadline: on two cores a garbage collection is enough to miss one. In CI the examples are the
# same every time, so that a red run is the change's fault.
hypothesis.settings.register_profile("caretaker", deadline=None, derandomize="CI" in os.environ)
# For one who searches: --hypothesis-profile=long. For one who only asks whether: first.
hypothesis.settings.register_profile("long", deadline=None, print_blob=True)
# For properties that are cheap to ask: --hypothesis-profile=many.
hypothesis.settings.register_profile("many", deadline=None, max_examples=20_000, print_blob=True)
hypothesis.settings.register_profile(
    "first", deadline=None, report_multiple_bugs=False, phases=[hypothesis.Phase.generate]
)
hypothesis.settings.load_profile("caretaker")

# Why tests of a system were skipped, by (system, reason).
_not_run: Counter[tuple[str, str]] = Counter()
_NOT_RUN = "not run for want of "

# Which system a fixture of ours could not give, by the reason it skipped with.
_unavailable: dict[str, str] = {}


def _required() -> set[str]:
    """Return the systems that must not be missing here: CARETAKER_REQUIRE=mysql,kubernetes."""
    return set(filter(None, os.environ.get("CARETAKER_REQUIRE", "").split(",")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write into the report which system a test had no server of: by its mark, or its fixture.

    Not into a variable: with several workers, the process that judges the session is another one.
    """
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        marker = item.get_closest_marker("live")
        system = marker.args[0] if marker is not None else _unavailable.get(reason)
        if system is not None:
            report.user_properties.append((_NOT_RUN + system, reason))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what did not run."""
    for name, value in report.user_properties:
        if name.startswith(_NOT_RUN):
            _not_run[name.removeprefix(_NOT_RUN), str(value)] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a required server was missing, whatever else passed."""
    if any(system in _required() for system, _ in _not_run):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which real servers were not there, and why."""
    if not _not_run:
        return
    terminalreporter.section("not run, for want of a real server")
    for (system, reason), count in sorted(_not_run.items()):
        required = ", and required here" if system in _required() else ""
        terminalreporter.line(f"{system}: {count} test{'s'[: count > 1]}{required}: {reason}")


# --- real servers ---------------------------------------------------------------------------------
# Their modules are imported by whoever asks for one: most tests do not.


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[Sql]:
    """A MySQL for the whole session, GTIDs on; make databases of your own in it."""
    from lab.servers.mysql import MySQL  # noqa: PLC0415

    yield from _sql_server("mysql", MySQL)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Sql]:
    """A MariaDB for the whole session; make databases of your own in it."""
    from lab.servers.mariadb import MariaDB  # noqa: PLC0415

    yield from _sql_server("mariadb", MariaDB)


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[MongoUrl]:
    """A MongoDB with transactions for the whole session; make databases of your own in it."""
    from lab.servers.mongodb import MongoDB  # noqa: PLC0415
    from lab.servers.mongodb_url import MongoUrl  # noqa: PLC0415

    if given := os.environ.get("CARETAKER_TEST_MONGODB_URL"):
        yield MongoUrl(given)
        return
    with _or_skip("mongodb", MongoDB) as server:
        yield server


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real Kubernetes control plane for the whole session; make namespaces of your own in it."""
    from lab.servers.kubernetes import ControlPlane  # noqa: PLC0415

    # The first time it is compiled, which on a busy machine takes longer than any test may.
    faulthandler.cancel_dump_traceback_later()
    with _or_skip("kubernetes", ControlPlane) as plane:
        yield plane


@pytest.fixture
def start_mysql() -> Iterator[Callable[..., Mysqld]]:
    """Start a MySQL of one's own, with server variables of one's own: one that may be killed."""
    from lab.servers.mysql import MySQL  # noqa: PLC0415

    yield from _starter("mysql", MySQL)


@pytest.fixture
def start_mariadb() -> Iterator[Callable[..., Mysqld]]:
    """Start a MariaDB of one's own."""
    from lab.servers.mariadb import MariaDB  # noqa: PLC0415

    yield from _starter("mariadb", MariaDB)


@pytest.fixture
def start_mongodb() -> Iterator[Callable[..., MongoDB]]:
    """Start a MongoDB of one's own, front and engine to be killed one by one."""
    from lab.servers.mongodb import MongoDB  # noqa: PLC0415

    yield from _starter("mongodb", MongoDB)


def _sql_server(system: str, kind: Callable[[], Any]) -> Iterator[Sql]:
    from lab.servers.sql import Sql  # noqa: PLC0415

    if given := os.environ.get(f"CARETAKER_TEST_{system.upper()}_URL"):
        yield Sql(given)
        return
    with _or_skip(system, kind) as server:
        yield server


def _starter(system: str, kind: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    with contextlib.ExitStack() as started:
        yield lambda **options: started.enter_context(_or_skip(system, kind, **options))


def _or_skip(system: str, kind: Callable[..., Any], **options: Any) -> Any:
    """Return a server to be started; one that is there and does not start is an error."""
    from lab.servers.errors import ServerUnavailableError  # noqa: PLC0415

    try:
        return kind(**options)
    except ServerUnavailableError as error:
        _unavailable[str(error)] = system
        pytest.skip(str(error))
