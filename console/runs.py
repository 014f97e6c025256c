"""Run a job here and now, in the Dagster instance where the UI will show it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from caretaker.errors import CaretakerError, RefusedError
from console.environment import require_dagster_home


def translog_reset() -> dg.JobDefinition:
    """Return the job with its resources; by name, so that a step's own process finds it again."""
    return _job("translog_reset")


def translog_restore() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("translog_restore")


def translog_report() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("translog_report")


def _job(name: str) -> dg.JobDefinition:
    # Imported late: loading every definition takes a second that `--help` should not cost.
    from definitions import defs  # noqa: PLC0415

    return defs.resolve_job_def(name)


_JOBS = {job.__name__: job for job in (translog_reset, translog_restore, translog_report)}


class Stops:
    """How often we were asked to stop while a run went on."""

    def __init__(self, heard: socket.socket) -> None:
        self._heard = heard
        self._count = 0

    @property
    def count(self) -> int:
        """SIGINT so far; a SIGTERM is passed on as one."""
        with contextlib.suppress(BlockingIOError):
            self._count += sum(number == signal.SIGINT for number in self._heard.recv(4096))
        return self._count


#: Tells this call's run from any other, when the call ends without its result.
_INVOCATION = "caretaker/invocation"


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        outputs: By name of the step, for those that were asked for and got that far.
        failure: The sentence of the step that failed the run; '' where it succeeded.
        stops: Ctrl-C and SIGTERM that came while it ran.
    """

    run_id: str
    success: bool
    failure: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    stops: int = 0


def run_job(name: str, options: Mapping[str, Any], *, outputs: tuple[str, ...] = ()) -> RunEnd:
    """Run a job of ours to its end and return what became of it; a failure is no exception.

    Raises CaretakerError where the run could not even be made.
    """
    require_dagster_home()
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    with _instance() as instance, counted_stops() as stops:
        invocation = uuid.uuid4().hex
        try:
            with dg.execute_job(
                dg.reconstructable(_JOBS[name]),
                instance=instance,
                run_config=dict(options),
                tags={"caretaker/started_by": "command line", _INVOCATION: invocation},
                raise_on_error=False,
            ) as result:
                found = {step: _output(result, step) for step in outputs}
                failure = "" if result.success else _failure(result)
                return RunEnd(result.run_id, result.success, failure, found, stops.count)
        except dg.DagsterInvalidConfigError as error:
            raise RefusedError("; ".join(e.message for e in error.errors)) from None
        except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
            run_id = _run_of(instance, invocation)
            return RunEnd(run_id, success=False, failure="stopped", stops=max(1, stops.count))


@contextlib.contextmanager
def _instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        yield instance


def _run_of(instance: dg.DagsterInstance, invocation: str) -> str:
    """Return the run that an interrupted call had made, '' where it had made none."""
    records = instance.get_run_records(dg.RunsFilter(tags={_INVOCATION: invocation}), limit=1)
    return records[0].dagster_run.run_id if records else ""


def _output(result: Any, step: str) -> Any:
    try:
        return result.output_for_node(step)
    except (dg.DagsterInvariantViolationError, FileNotFoundError, KeyError):
        return None


def _failure(result: Any) -> str:
    """Return the sentence of the first step that failed: ours where it was ours."""
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return str(data.user_failure_data.description)
        error = data.error
        while error is not None and error.cause is not None:
            error = error.cause
        return str(error.message).strip() if error is not None else str(event.message)
    for event in result.all_events:
        if event.is_run_failure:
            return str(event.message)
    return "the run failed"


@contextlib.contextmanager
def counted_stops() -> Iterator[Stops]:
    """Count SIGINT and SIGTERM, whoever handles them, and let SIGTERM stop like Ctrl-C.

    Dagster installs handlers of its own while it runs a job; the interpreter's wake-up socket
    hears every signal all the same.
    """
    ours, pythons = socket.socketpair()
    ours.settimeout(0)
    pythons.settimeout(0)
    before_fd = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    before_term = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield Stops(ours)
    finally:
        signal.set_wakeup_fd(before_fd)
        signal.signal(signal.SIGTERM, before_term)
        ours.close()
        pythons.close()


def sentence(error: CaretakerError) -> str:
    """Return an error as one line, with what to do about it."""
    return f"{error}. {error.hint}" if error.hint else str(error)
