"""The binlog jobs' steps, thin: the sync itself knows no Dagster (`ops.binlog_syncer`)."""

# No postponed annotations here: Dagster reads those of an op as they stand.
import contextlib
import os
import socket
import threading
from typing import Any

import dagster as dg

from caretaker.binlog.policy import SyncPolicy
from caretaker.errors import InvalidSettingError
from ops.binlog_config import BinlogSetupConfig, BinlogSyncConfig
from ops.binlog_events import of_the_sink
from ops.binlog_guard import RunGuard
from ops.binlog_metrics import Metrics
from ops.binlog_observing import Observer
from ops.binlog_parts import Parts
from ops.binlog_syncer import Summary, Syncer
from ops.errors import final_errors, step_errors
from ops.events import Event, emit
from ops.logs import STARTED_BY
from ops.stops import heard_stops
from resources.mongodb.offsets import Holder
from resources.mongodb.resource import MongoDBResource
from resources.mongodb.settings import Protocol
from resources.mysql.resource import MySQLResource
from resources.mysql.zstd import decompress

#: The key of column hashes; a secret, so no part of a run config.
HASH_SECRET = "CARETAKER_HASH_SECRET"  # noqa: S105 - its name


@dg.op(
    name="sync",
    tags={"kind": "mongodb"},
    description=(
        "Follow the source's binlog into the audit trail until told to stop: every row change "
        "once. A stop writes what was read, and the next run goes on from there."
    ),
)
def sync(
    context: dg.OpExecutionContext,
    config: BinlogSyncConfig,
    mysql: MySQLResource,
    mongodb: MongoDBResource,
) -> dict[str, Any]:
    """Run until stopped, paused, fenced, or something is final."""
    with final_errors():
        policy = config.policy()
        secret = hash_secret(policy)
        if not config.observe_every_s >= 1:
            raise InvalidSettingError("observe_every_s", config.observe_every_s, "1 s or more")
        cancel = threading.Event()
        by_hand = STARTED_BY in context.run_tags
        guard = RunGuard(context.instance, context.run_id, watch_parent=not by_hand)
        metrics = Metrics()
        with mongodb.trail(
            Protocol(policy.protocol),
            cancel=cancel,
            on_event=lambda name, fields: _say(context, of_the_sink(name, fields)),
        ) as trail:
            parts = Parts(
                open_source=lambda: mysql.open(policy.source),
                trail=trail,
                holder=Holder(context.run_id, socket.gethostname(), os.getpid()),
                say=lambda event: _say(context, event),
                decompress=decompress,
                secret=secret,
                metrics=metrics,
                cancel=cancel,
            )
            observer = Observer(context.log_event, metrics.vitals, config.observe_every_s)
            summary = _run(context, Syncer(parts, policy), guard, observer)
        context.add_output_metadata({"why": summary.why, "rows": summary.rows, "seq": summary.seq})
        return {"why": summary.why, "rows": summary.rows, "seq": summary.seq}


def _run(
    context: dg.OpExecutionContext, syncer: Syncer, guard: RunGuard, observer: Observer
) -> Summary:
    def look_around() -> None:
        stop_again()
        guard.look_around()
        observer.look_around()

    with heard_stops() as stop_again, syncer:
        try:
            return syncer.run(look_around)
        except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
            # All is written. An operator's Terminate is respected until somebody resumes; a
            # SIGTERM from a shell or a node that goes down ended the run, and no more than that.
            if _is_being_canceled(context):
                raise
            return syncer.summary()
        finally:
            observer.observe()


def _say(context: dg.OpExecutionContext, event: Event) -> None:
    """Tell Dagster; a line that its storage does not take ends no sync."""
    with contextlib.suppress(Exception):
        emit(context, event)


def _is_being_canceled(context: dg.OpExecutionContext) -> bool:
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status in {
        dg.DagsterRunStatus.CANCELING,
        dg.DagsterRunStatus.CANCELED,
    }


@dg.op(
    name="setup",
    tags={"kind": "mongodb"},
    description="Make the trail's collections and indexes where they are missing.",
)
def setup(
    context: dg.OpExecutionContext, config: BinlogSetupConfig, mongodb: MongoDBResource
) -> dict[str, Any]:
    """Prove transactions where the protocol needs them, then make what is missing."""
    with step_errors():
        policy = config.policy()
        if config.dry_run:
            with mongodb.reading() as trail:
                missing = [problem.found for problem in trail.check()]
            return {"protocol": policy.protocol, "made": [], "missing": missing}
        with mongodb.trail(Protocol(policy.protocol)) as trail:
            made, protocol = trail.setup(), str(trail.protocol)
        context.add_output_metadata({"protocol": protocol, "made": made})
        return {"protocol": protocol, "made": made, "missing": []}


def hash_secret(policy: SyncPolicy) -> bytes:
    """Return the key of column hashes; refused, naming the variable, where one is needed."""
    secret = os.environ.get(HASH_SECRET, "").encode()
    if policy.hash and len(secret) < 16:  # noqa: PLR2004
        raise InvalidSettingError(
            HASH_SECRET, f"{len(secret)} bytes", "16 bytes or more, since columns are hashed"
        )
    return secret
