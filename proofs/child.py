"""The life of a forked child: it does what an operator's shell or Dagster's worker would do."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from proofs.orders import AT_STORE, Blow, Order, Where

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

#: What a run, a command or a sensor needs, also what they import only when they come to it.
_EVERYTHING = (
    "definitions",
    "console.main",
    "alembic.command",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.instance.runs.run_domain",
    "dagster._core.secrets.env_file",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.system_config.composite_descent",
    "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery",
    "dagster._utils.test",
    "encodings.idna",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "PIL.BmpImagePlugin",
    "upath.implementations.local",
    "watchdog.observers.polling",
)

_STORE_FILE = "caretaker.db"


def import_everything() -> None:
    """Import what children use, with the cluster's address bound by name only."""
    for name in _EVERYTHING:
        importlib.import_module(name)


def live(order: Order) -> NoReturn:
    """Carry out an order; this process does nothing else."""
    code = 70
    try:
        folder = Path(order.folder)
        _redirect(folder / "said.log")
        os.environ.clear()
        os.environ.update(order.environ)
        os.chdir(folder)
        count = count_commits(order.blow)
        answer = CALLS[order.call](**order.arguments)
        text = json.dumps({**answer, "commits": count()})
        Path(order.answer).write_text(text, encoding="utf-8")
        code = int(answer.get("code", 0))
    except BaseException:  # noqa: BLE001 - there is no caller to raise to
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(path: Path) -> None:
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(fd, target)


# --- what it can be told to do ------------------------------------------------------------------


def run_job(job: str, options: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
    """Run a job as Dagster's run worker does, in the instance of DAGSTER_HOME."""
    import dagster as dg  # noqa: PLC0415 - this module is imported before it is wanted

    from console import runs  # noqa: PLC0415 - the same

    with (
        dg.DagsterInstance.get() as instance,
        dg.execute_job(
            dg.reconstructable(getattr(runs, job)),
            instance=instance,
            run_config=options,
            tags=tags,
            raise_on_error=False,
        ) as result,
    ):
        return {"success": result.success}


def run_command(arguments: list[str]) -> dict[str, Any]:
    """Run the command line; its exit code is ours."""
    from console.main import main  # noqa: PLC0415 - this module is imported before it is wanted

    try:
        main(arguments)
    except SystemExit as end:
        return {"code": end.code or 0}
    return {"code": 0}


def tick() -> dict[str, Any]:
    """Let the sensor on open tickets look once, as the daemon does; return what it requests."""
    import dagster as dg  # noqa: PLC0415 - this module is imported before it is wanted

    from resources.state_store.resource import StateStoreResource  # noqa: PLC0415 - the same
    from sensors.translog import translog_open_tickets  # noqa: PLC0415 - the same

    with (
        dg.DagsterInstance.get() as instance,
        dg.build_sensor_context(
            instance=instance, resources={"state": StateStoreResource()}
        ) as context,
    ):
        result = translog_open_tickets(context)
    if not isinstance(result, dg.SensorResult):
        raise TypeError(f"the sensor returned {result!r}")
    skipped = result.skip_reason.skip_message if result.skip_reason else ""
    requests = [
        {"run_key": each.run_key, "options": dict(each.run_config), "tags": dict(each.tags)}
        for each in result.run_requests or []
    ]
    return {"requests": requests, "skipped": skipped or ""}


def declare_dead() -> dict[str, Any]:
    """Give every unfinished run a terminal status, as run monitoring or an operator would."""
    import dagster as dg  # noqa: PLC0415 - this module is imported before it is wanted

    unfinished = [
        status
        for status in dg.DagsterRunStatus
        if status
        not in {
            dg.DagsterRunStatus.SUCCESS,
            dg.DagsterRunStatus.FAILURE,
            dg.DagsterRunStatus.CANCELED,
        }
    ]
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs(dg.RunsFilter(statuses=unfinished))
        for run in runs:
            instance.report_run_failed(run, "its process does not answer")
    return {"declared": [run.run_id for run in runs]}


def furnish() -> dict[str, Any]:
    """Make Dagster's databases and the state store, all empty, in DAGSTER_HOME."""
    import dagster as dg  # noqa: PLC0415 - this module is imported before it is wanted

    from resources.state_store import StateStore  # noqa: PLC0415 - the same
    from resources.state_store.address import state_url  # noqa: PLC0415 - the same

    with dg.DagsterInstance.get() as instance:
        instance.get_runs(limit=1)
        instance.event_log_storage.get_records_for_run("none")
        instance.all_instigator_state()
    with StateStore.open(state_url(os.environ)):
        pass
    return {}


CALLS = {call.__name__: call for call in (run_job, run_command, tick, declare_dead, furnish)}


# --- being hit at a commit ----------------------------------------------------------------------


def count_commits(blow: Blow | None) -> Any:
    """Count the commits that change the state store, and deal the blow at its number.

    SQLAlchemy tells of a COMMIT before it is sent; that it is done is known when the connection
    goes back to its pool, with nothing of ours in between. Reads commit as well, and do not count.
    """
    from sqlalchemy import Engine, Pool, event  # noqa: PLC0415 - imported before it is wanted

    numbers: list[int] = []
    guard = threading.Lock()
    mine = threading.local()

    def before(connection: Connection) -> None:
        if not str(connection.engine.url.database).endswith(_STORE_FILE):
            return
        changed = connection.connection.dbapi_connection.total_changes  # type: ignore[union-attr]
        if changed == connection.info.get("changed", 0):
            return
        connection.info["changed"] = changed
        with guard:
            numbers.append(len(numbers) + 1)
            mine.number = numbers[-1]
        _strike(blow, Where.BEFORE_COMMIT, mine.number)

    def after(_connection: DBAPIConnection | None, _entry: ConnectionPoolEntry) -> None:
        number, mine.number = getattr(mine, "number", 0), 0
        if number:
            _strike(blow, Where.AFTER_COMMIT, number)

    event.listen(Engine, "commit", before)
    event.listen(Pool, "checkin", after)
    return lambda: len(numbers)


def _strike(blow: Blow | None, where: Where, number: int) -> None:
    if blow is None or blow.where not in AT_STORE:
        return
    if (blow.where, blow.number) == (where, number):
        os.kill(os.getpid(), signal.SIGSTOP if blow.stop else signal.SIGKILL)
