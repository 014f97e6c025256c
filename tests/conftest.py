"""Rules of the whole suite: nobody's own systems, and an account of what did not run."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

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


def _required() -> set[str]:
    """Return the systems that must not be missing here: CARETAKER_REQUIRE=mysql,kubernetes."""
    return set(filter(None, os.environ.get("CARETAKER_REQUIRE", "").split(",")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note which `live` tests had no server."""
    report = yield
    marker = item.get_closest_marker("live")
    if marker is not None and report.skipped and isinstance(report.longrepr, tuple):
        _not_run[marker.args[0], report.longrepr[2].removeprefix("Skipped: ")] += 1
    return report


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
