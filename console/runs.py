"""Run a job here and now, in the Dagster instance where the UI will show it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from caretaker.errors import CaretakerError, InvalidSettingError, RefusedError, UnsafeError
from console.environment import require_dagster_home
from console.hangup import hangup_is_a_stop
from ops.binlog_standing import RESUMED
from ops.errors import DECLINED, failure_text
from ops.logs import BEGAN, STARTED_BY


def translog_reset() -> dg.JobDefinition:
    """Return the job with its resources; by name, so that a step's own process finds it again."""
    return _job("translog_reset")


def translog_restore() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("translog_restore")


def translog_report() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("translog_report")


def binlog_sync() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("binlog_sync")


def binlog_setup() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("binlog_setup")


def binlog_verify() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("binlog_verify")


def pod_decommission() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("pod_decommission")


def rolling_restart() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("rolling_restart")


def cluster_strategies() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("cluster_strategies")


def wipe_strategy_state() -> dg.JobDefinition:
    """Return the job with its resources."""
    return _job("wipe_strategy_state")


def _job(name: str) -> dg.JobDefinition:
    # Imported late: loading every definition takes a second that `--help` should not cost.
    from definitions import defs  # noqa: PLC0415

    return defs.resolve_job_def(name)


_JOBS = {
    job.__name__: job
    for job in (
        translog_reset,
        translog_restore,
        translog_report,
        binlog_sync,
        binlog_setup,
        binlog_verify,
        pod_decommission,
        rolling_restart,
        cluster_strategies,
        wipe_strategy_state,
    )
}


#: What asks a run to stop, and what each of them does: Ctrl-C, and what a shell or systemd sends.
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stops:
    """How often we were asked to stop while a run went on."""

    def __init__(self, heard: socket.socket) -> None:
        self._heard = heard
        self._count = 0

    @property
    def count(self) -> int:
        """SIGINT and SIGTERM so far, and what became one."""
        with contextlib.suppress(BlockingIOError):
            self._count += sum(number in _STOPPING for number in self._heard.recv(4096))
        return self._count


#: Telemetry would print, and call home. Captured logs reach the terminal through a `tail` that dies
#: of the same Ctrl-C and loses the last lines otherwise, too (Dagster's issue 23336): our events go
#: straight to stderr, and the UI has them in the run's own log.
_OVERRIDES: dict[str, Any] = {
    "telemetry": {"enabled": False},
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
}

#: Steps from which on something may be changed; the restart jobs' runs say it themselves.
_CHANGING = ("drain", "take_over")

#: Tells this call's run from any other, when the call ends without its result.
_INVOCATION = "caretaker/invocation"


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        outputs: By name of the step, for those that were asked for and got that far.
        failure: The sentence of the step that failed the run; '' where it succeeded.
        declined: It was a safety check that refused.
        began: It got so far that something may be changed.
        target: What the failure is about: a table, a setting's key; '' where it does not say.
        stops: Ctrl-C, SIGTERM and hangups that came while it ran.
    """

    run_id: str
    success: bool
    failure: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    stops: int = 0
    declined: bool = False
    began: bool = False
    target: str = ""

    def error(self) -> CaretakerError:
        """Return what a verb raises that has no result to show."""
        if self.declined:
            return UnsafeError(self.failure)
        return RefusedError(self.failure or "the run was stopped")


def run_job(name: str, options: Mapping[str, Any], *, outputs: tuple[str, ...] = ()) -> RunEnd:
    """Run a job of ours to its end and return what became of it; a failure is no exception.

    Raises CaretakerError where the run could not even be made.
    """
    with dagster_instance() as instance, counted_stops() as stops:
        invocation = uuid.uuid4().hex
        try:
            with dg.execute_job(
                dg.reconstructable(_JOBS[name]),
                instance=instance,
                run_config=dict(options),
                tags={STARTED_BY: "command line", _INVOCATION: invocation},
                raise_on_error=False,
            ) as result:
                found = {step: _output(result, step, instance) for step in outputs}
                said = ("", False, "") if result.success else _failure(result)
                failure, declined, target = said
                began = _began(instance, result.run_id)
                return RunEnd(
                    result.run_id,
                    result.success,
                    failure,
                    found,
                    stops.count,
                    declined,
                    began,
                    target,
                )
        except dg.DagsterInvalidConfigError as error:
            raise RefusedError("; ".join(e.message for e in error.errors)) from None
        except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
            run_id = _run_of(instance, invocation)
            return RunEnd(
                run_id,
                success=False,
                failure="stopped",
                stops=max(1, stops.count),
                began=_began(instance, run_id),
            )


def mark_resumed(job: str, by: str) -> None:
    """Take back that the newest run of a job was terminated; nothing without a DAGSTER_HOME.

    A trail may be kept by runs of another machine's instance: then its supervisor is told there.
    """
    if not os.environ.get("DAGSTER_HOME"):
        return
    with dagster_instance() as instance:
        for record in instance.get_run_records(dg.RunsFilter(job_name=job), limit=1):
            run = record.dagster_run
            if run.status is dg.DagsterRunStatus.CANCELED:
                instance.add_run_tags(run.run_id, {RESUMED: by})


@contextlib.contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance under DAGSTER_HOME, with what a command line needs otherwise."""
    home = require_dagster_home()
    try:
        reference = InstanceRef.from_dir(str(home), overrides=_OVERRIDES)
        instance = dg.DagsterInstance.from_ref(reference)
    except Exception as error:  # whatever Dagster finds wrong with its own configuration
        found = " ".join(str(error).split()) or type(error).__name__
        allowed = "a dagster.yaml that Dagster can open"
        raise InvalidSettingError("DAGSTER_HOME", f"{home} ({found:.300})", allowed) from error
    with instance:
        yield instance


def _run_of(instance: dg.DagsterInstance, invocation: str) -> str:
    """Return the run that an interrupted call had made, '' where it had made none."""
    records = instance.get_run_records(dg.RunsFilter(tags={_INVOCATION: invocation}), limit=1)
    return records[0].dagster_run.run_id if records else ""


def _began(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a table was on its way, or a cluster taken: from there on, something may change."""
    run = instance.get_run_by_id(run_id) if run_id else None
    if run is None or BEGAN in run.tags:
        return run is not None
    started = instance.get_run_step_stats(run_id)
    return any(stats.step_key.startswith(_CHANGING) for stats in started)


def _output(result: Any, step: str, instance: dg.DagsterInstance) -> Any:
    """Return what a step or an asset of the run returned, None where it did not get that far."""
    try:
        return result.output_for_node(step)
    except FileNotFoundError:
        return _asset(step, instance)
    except (dg.DagsterInvariantViolationError, KeyError):
        return None


def _asset(name: str, instance: dg.DagsterInstance) -> Any:
    """Return an asset as it was stored: under its own name, and not under the run's."""
    from definitions import defs  # noqa: PLC0415 - as in _job

    # Loading logs where from, with a logger made on the spot that nobody can configure.
    logging.disable(logging.INFO)
    try:
        return defs.load_asset_value(name, instance=instance)
    finally:
        logging.disable(logging.NOTSET)


def _failure(result: Any) -> tuple[str, bool, str]:
    """Return the sentence of the first step that failed, whether we declined, and its target."""
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        known = data.user_failure_data.metadata if data.user_failure_data is not None else {}
        declined = DECLINED in known and known[DECLINED].value is True
        hint = str(known["hint"].value) if "hint" in known else ""
        target = str(known["target"].value) if "target" in known else ""
        said = failure_text(event)
        return said if hint in said else f"{said}; {hint}", declined, target
    for event in result.all_events:
        if event.is_run_failure:
            return str(event.message), False, ""
    return "the run failed", False, ""


@contextlib.contextmanager
def counted_stops() -> Iterator[Stops]:
    """Count SIGINT and SIGTERM, whoever handles them; both raise KeyboardInterrupt meanwhile.

    A terminal that is closed is a SIGTERM as well, unless nohup said that it should be none.

    Dagster installs handlers of its own while it runs a job; the interpreter's wake-up socket
    hears every signal all the same. SIGINT, too: a shell starts `caretaker ... &` with SIGINT
    ignored, and Dagster would have SIGTERM ignored like it (dagster.md, trap 8).
    """
    ours, pythons = socket.socketpair()
    ours.settimeout(0)
    pythons.settimeout(0)
    before_fd = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, signal.default_int_handler) for number in _STOPPING}
    try:
        with hangup_is_a_stop():
            yield Stops(ours)
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        pythons.close()


@contextlib.contextmanager
def deaf_to_stops() -> Iterator[None]:
    """Let nothing cut off the account of what a run did; a run within it hears them again.

    But not SIGHUP: what is put back there is put back though its terminal is gone.
    """
    deaf_to = (*_STOPPING, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in deaf_to}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
