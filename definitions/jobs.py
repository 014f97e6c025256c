"""Every job, on one page."""

# No postponed annotations here: config_mapping reads them as they stand.
from typing import Any

import dagster as dg

from definitions.retries import BEFORE_THE_FIRST_TICKET, READS_AND_REPEATABLE_WRITES
from ops.binlog import setup, sync
from ops.binlog_config import BinlogSetupConfig, BinlogSyncConfig, BinlogVerifyConfig
from ops.binlog_verify import verify_tables
from ops.decommission import (
    await_green,
    await_pod,
    check_health,
    conclude_restart,
    decommission,
    delete_pod,
    detect_strategy,
    prepare,
    record_restart,
    record_restarts,
    reset_allocation,
    restart_in_turn,
)
from ops.decommission_config import (
    PodDecommissionConfig,
    PodRestartConfig,
    RollingRestartConfig,
)
from ops.logs import event_logger
from ops.strategies import (
    apply,
    conclude_cycle,
    decide,
    diff,
    observe,
    record,
    wipe,
)
from ops.strategies_config import ClusterStrategiesConfig, WipeStrategyStateConfig
from ops.translog import (
    await_leases,
    conclude,
    detect,
    drain,
    preflight,
    record_resets,
    remember,
    restore,
    verify,
)
from ops.translog_config import TranslogReportConfig, TranslogResetConfig, TranslogRestoreConfig
from ops.translog_restore import find_tickets, record_restores, take_over

_TRANSLOG = {"caretaker/wing": "translog", "dagster/retry_strategy": "ALL_STEPS"}
_LOGGERS: dict[str, Any] = {"console": {"config": {}}}


@dg.config_mapping
def reset_options(options: TranslogResetConfig) -> dict[str, Any]:
    """Turn the options of one reset run into Dagster's run config.

    `concurrent` decides the executor, too: one process is fifty times cheaper a step, several are
    needed to be at several tables at once.
    """
    several = options.concurrent > 1
    executor: dict[str, Any] = (
        {
            "multiprocess": {
                "max_concurrent": options.concurrent,
                "start_method": {"forkserver": {"preload_modules": ["definitions"]}},
            }
        }
        if several
        else {"in_process": {}}
    )
    return {
        "ops": {"preflight": {"config": options.model_dump()}},
        "execution": {"config": executor},
        "loggers": _LOGGERS,
    }


@dg.config_mapping
def restore_options(options: TranslogRestoreConfig) -> dict[str, Any]:
    """Turn the options of one restore run into Dagster's run config."""
    return {
        "ops": {"find_tickets": {"config": options.model_dump()}},
        "execution": {"config": {"in_process": {}}},
        "loggers": _LOGGERS,
    }


@dg.config_mapping
def report_options(options: TranslogReportConfig) -> dict[str, Any]:
    """Turn the options of one report into Dagster's run config."""
    return {
        "ops": {"translog_backlog": {"config": options.model_dump()}},
        "execution": {"config": {"in_process": {}}},
        "loggers": _LOGGERS,
    }


@dg.job(
    config=reset_options,
    # Waits in the queue instead of failing on the lock; the lock is what keeps two runs apart.
    tags={**_TRANSLOG, "caretaker/singleton": "translog_reset"},
    logger_defs={"console": event_logger},
    description=(
        "Free translogs that replicas hold on to: set replicas to 0, wait until the primaries "
        "forgot them, restore the exact setting. One table after another, each carried through."
    ),
)
def translog_reset() -> None:
    """Reset every table that is above its threshold, worst first."""
    ground = preflight.with_retry_policy(BEFORE_THE_FIRST_TICKET)()
    journeys, left = detect.with_retry_policy(BEFORE_THE_FIRST_TICKET)(ground)
    ended = journeys.map(
        lambda journey: verify(restore(await_leases(drain(remember(journey)))))
    ).collect()
    conclude(record_resets(ground, ended, left))


@dg.job(
    config=restore_options,
    tags=_TRANSLOG,
    logger_defs={"console": event_logger},
    description="Honour the tickets of dead runs: give each table the replicas it had.",
)
def translog_restore() -> None:
    """Take over every ticket whose run is dead, and restore."""
    tickets = find_tickets.with_retry_policy(BEFORE_THE_FIRST_TICKET)()
    # Behind every other step: no table waits at 0 replicas while another is only being watched.
    last = verify.tag({"dagster/priority": "0"})
    ended = tickets.map(lambda ticket: last(restore(take_over(ticket)))).collect()
    conclude(record_restores(ended))


#: Not `@dg.job`: the UI then knows that this run makes the asset, and draws its lineage.
translog_report = dg.define_asset_job(
    "translog_report",
    selection=dg.AssetSelection.assets("translog_backlog"),
    config=report_options,
    tags={"caretaker/wing": "translog"},
    op_retry_policy=BEFORE_THE_FIRST_TICKET,
    description=(
        "Say which tables hold too much translog and what a reset would do about them. "
        "Changes nothing."
    ),
)


_BINLOG = {"caretaker/wing": "binlog"}


def _one_step(step: str, options: dg.Config) -> dict[str, Any]:
    return {
        "ops": {step: {"config": options.model_dump()}},
        "execution": {"config": {}},
        "loggers": _LOGGERS,
    }


@dg.config_mapping
def sync_options(options: BinlogSyncConfig) -> dict[str, Any]:
    """Turn the options of the sync into Dagster's run config."""
    return _one_step("sync", options)


@dg.config_mapping
def setup_options(options: BinlogSetupConfig) -> dict[str, Any]:
    """Turn the options of the set-up into Dagster's run config."""
    return _one_step("setup", options)


@dg.config_mapping
def verify_options(options: BinlogVerifyConfig) -> dict[str, Any]:
    """Turn the options of a comparison into Dagster's run config."""
    return _one_step("verify_tables", options)


@dg.job(
    config=sync_options,
    # No RetryPolicy: an interruption would start the step again (dagster.md, trap 1). The
    # supervisor starts the next run, and the trail's epoch keeps two of them apart.
    executor_def=dg.in_process_executor,
    tags={**_BINLOG, "caretaker/singleton": "binlog_sync", "dagster/max_retries": "0"},
    logger_defs={"console": event_logger},
    description=(
        "Follow the MySQL or MariaDB binlog into the audit trail, for weeks: every row change "
        "becomes one document, once. Terminate flushes and ends it, and it stays ended until "
        "somebody resumes."
    ),
)
def binlog_sync() -> None:
    """One long step."""
    sync()


@dg.job(
    config=setup_options,
    executor_def=dg.in_process_executor,
    tags=_BINLOG,
    logger_defs={"console": event_logger},
    description="Make the collections and indexes of the audit trail where they are missing.",
)
def binlog_setup() -> None:
    """Prove what the protocol needs, then make what is missing."""
    setup()


@dg.job(
    config=verify_options,
    executor_def=dg.in_process_executor,
    tags=_BINLOG,
    logger_defs={"console": event_logger},
    description="Compare tables of the source, row by row, with what their audit trails add up to.",
)
def binlog_verify() -> None:
    """Compare, and fail where a row differs."""
    verify_tables()


_RESTARTS = {"caretaker/wing": "decommission", "dagster/max_retries": "0"}


@dg.config_mapping
def pod_decommission_options(options: PodDecommissionConfig) -> dict[str, Any]:
    """Turn the options of one decommission into Dagster's run config."""
    return _of_a_pod({**options.model_dump(), "goal": "decommission"})


@dg.config_mapping
def pod_restart_options(options: PodRestartConfig) -> dict[str, Any]:
    """Turn the options of one pod's restart into Dagster's run config."""
    return _of_a_pod({**options.model_dump(), "goal": "restart"})


def _of_a_pod(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "ops": {"detect_strategy": {"config": options}},
        "execution": {"config": {}},
        "loggers": _LOGGERS,
    }


@dg.config_mapping
def rolling_restart_options(options: RollingRestartConfig) -> dict[str, Any]:
    """Turn the options of a rolling restart into Dagster's run config."""
    return _one_step("restart_in_turn", options)


def _one_pod() -> None:
    """Chain the steps of one pod, for both jobs about one: the goal is in their options."""
    checked = check_health.with_retry_policy(BEFORE_THE_FIRST_TICKET)(
        detect_strategy.with_retry_policy(BEFORE_THE_FIRST_TICKET)()
    )
    out = reset_allocation(delete_pod(decommission(prepare(checked))))
    conclude_restart(record_restart(await_green(await_pod(out))))


@dg.job(
    config=pod_decommission_options,
    # One process: the statement that drains is answered in the very five seconds in which the
    # next step deletes the pod.
    executor_def=dg.in_process_executor,
    tags=_RESTARTS,
    logger_defs={"console": event_logger},
    description=(
        "Take one CrateDB node out: by its preStop hook where that runs dc_util, else by ALTER "
        "CLUSTER DECOMMISSION, with every setting put back. Its StatefulSet makes the pod anew, "
        "which is not waited for: `pod_restart` does."
    ),
)
def pod_decommission() -> None:
    """Take one node out; its return is its StatefulSet's, and nobody waits for it here."""
    _one_pod()


@dg.job(
    config=pod_restart_options,
    executor_def=dg.in_process_executor,
    tags=_RESTARTS,
    logger_defs={"console": event_logger},
    description=(
        "Restart one CrateDB pod without losing a copy of the data, and see it Ready, its node "
        "back and the cluster GREEN."
    ),
)
def pod_restart() -> None:
    """Restart one pod."""
    _one_pod()


@dg.job(
    config=rolling_restart_options,
    executor_def=dg.in_process_executor,
    tags=_RESTARTS,
    logger_defs={"console": event_logger},
    description=(
        "Restart CrateDB clusters pod by pod, the elected master last, GREEN and at rest between "
        "two pods; stop at the first failure. With ticket_id: finish what a dead run began."
    ),
)
def rolling_restart() -> None:
    """One loop over all pods."""
    conclude_restart(record_restarts(restart_in_turn()))


#: Not `@dg.job`: the UI then knows that this run makes the assets, and draws their lineage.
restart_report = dg.define_asset_job(
    "restart_report",
    selection=dg.AssetSelection.assets("crate_cluster_health", "restarts"),
    tags={"caretaker/wing": "decommission"},
    op_retry_policy=BEFORE_THE_FIRST_TICKET,
    description=(
        "Look at every CrateDB cluster of the namespace, and judge how its restarts went. "
        "Changes nothing."
    ),
)


_STRATEGIES = {"caretaker/wing": "strategies", "dagster/retry_strategy": "ALL_STEPS"}


@dg.config_mapping
def strategies_options(options: ClusterStrategiesConfig) -> dict[str, Any]:
    """Turn the options of one cycle into Dagster's run config."""
    return _one_step("observe", options)


@dg.config_mapping
def wipe_options(options: WipeStrategyStateConfig) -> dict[str, Any]:
    """Turn the options of forgetting into Dagster's run config."""
    return _one_step("wipe", options)


@dg.job(
    config=strategies_options,
    executor_def=dg.in_process_executor,
    # Waits in the queue instead of failing on the lock; the lock is what keeps two runs apart.
    tags={**_STRATEGIES, "caretaker/singleton": "cluster_strategies"},
    logger_defs={"console": event_logger},
    description=(
        "Keep the replicas of Materialize's clusters as their strategies want: target_size, "
        "shrink_to_fit, burst, idle_suspend. mode dry_run, the default, changes nothing."
    ),
)
def cluster_strategies() -> None:
    """Look once, decide for all, act one by one."""
    ground = observe.with_retry_policy(READS_AND_REPEATABLE_WRITES)()
    decided = decide(ground)
    planned = diff(ground, decided)
    outcome = apply(ground, planned)
    last = record.with_retry_policy(READS_AND_REPEATABLE_WRITES)
    conclude_cycle(last(ground, planned, outcome))


@dg.job(
    config=wipe_options,
    executor_def=dg.in_process_executor,
    tags={**_STRATEGIES, "caretaker/singleton": "cluster_strategies"},
    logger_defs={"console": event_logger},
    description="Forget what strategies remember; what operators wrote, and the audit, stay.",
)
def wipe_strategy_state() -> None:
    """Wipe once."""
    wipe.with_retry_policy(READS_AND_REPEATABLE_WRITES)()
