"""The strategies jobs' steps, thin: the cycle itself knows no Dagster (`ops.strategies_cycle`)."""

# No postponed annotations here: Dagster reads those of an op as they stand.
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from caretaker.strategies.cycle import ClusterPlan, Observed, Plan, decide_all, plan_of
from caretaker.strategies.model import Json
from caretaker.strategies.outcome import Outcome, report
from caretaker.strategies.policy import StrategiesPolicy
from ops import strategies_lock as lock
from ops.errors import final_errors, step_errors
from ops.events import Event, emit
from ops.strategies_apply import Hands
from ops.strategies_apply import apply as apply_plan
from ops.strategies_apply import record as record_state
from ops.strategies_config import ClusterStrategiesConfig, WipeStrategyStateConfig
from ops.strategies_cycle import observe as observe_clusters
from ops.strategies_cycle import wipe as wipe_state
from ops.strategies_pages import publish, tell_cases
from resources.materialize.client import Materialize
from resources.materialize.resource import MaterializeResource
from resources.materialize.store import StrategyStore
from resources.state_store.resource import StateStoreResource


@dg.op(
    name="observe",
    tags={"kind": "materialize"},
    description="Read clusters, replicas, sizes, signals, strategies and what they remember.",
)
def observe(
    context: dg.OpExecutionContext,
    config: ClusterStrategiesConfig,
    materialize: MaterializeResource,
    state: StateStoreResource,
) -> dict[str, Any]:
    """Take the lock where anything may be changed, and look at everything once."""
    with step_errors(), _opened(materialize) as (source, store):
        policy = config.policy()
        who = source.identity()
        options = config.model_dump()
        if not policy.apply:
            observed = observe_clusters(source, store, policy, identity=who)
            return _ground(context, options, observed)
        lock.take(state.store, who.environment, context)
        with lock.kept(state.store, who.environment, context.run_id):
            observed = observe_clusters(
                source,
                store,
                policy,
                controller=lock.controller_of(state.store),
                run_id=context.run_id,
                identity=who,
            )
        return _ground(context, options, observed)


def _ground(context: dg.OpExecutionContext, options: Json, observed: Observed) -> Json:
    for warning in observed.warnings:
        _note(context, warning, level=logging.WARNING)
    for one in observed.settled:
        became = "was executed" if one["executed"] else "was not executed"
        _note(context, f"of an earlier run: {one['sql']} {became}", level=logging.WARNING)
    context.add_output_metadata(
        {
            "version": observed.version,
            "clusters": len(observed.clusters),
            "with strategies": len(observed.strategies),
            "warnings": len(observed.warnings),
        }
    )
    return {"options": options, "observed": observed.as_json()}


@dg.op(name="decide", description="Ask each cluster's strategies, lowest priority first.")
def decide(context: dg.OpExecutionContext, ground: dict[str, Any]) -> dict[str, Any]:
    """Decide for every cluster that has strategies; pure."""
    with step_errors():
        policy, observed = _policy(ground), Observed.from_json(ground["observed"])
        decided = decide_all(observed, policy)
    tell_cases(context, decided)
    context.add_output_metadata(
        {
            "clusters": len(decided),
            "problems": sum(len(one.result["problems"]) for one in decided),
            "held": sum(len(one.result["held"]) for one in decided),
        }
    )
    return {"clusters": [one.as_json() for one in decided]}


@dg.op(name="diff", description="Put what is to be done in its order, with reasons and prices.")
def diff(
    context: dg.OpExecutionContext, ground: dict[str, Any], decided: dict[str, Any]
) -> dict[str, Any]:
    """Order the actions; in a dry run this is what is shown. Pure."""
    with step_errors():
        policy, observed = _policy(ground), Observed.from_json(ground["observed"])
        clusters = [ClusterPlan(**one) for one in decided["clusters"]]
        planned = plan_of(clusters, observed, policy)
    for warning in planned.warnings[len(observed.warnings) :]:
        _note(context, warning, level=logging.WARNING)
    _tell(context, planned, dry_run=not policy.apply)
    actions = list(planned.actions())
    context.add_output_metadata(
        {
            "actions": len(actions),
            "sql": dg.MetadataValue.md(
                "\n".join(f"    {one.action['sql']}" for one in actions) or "nothing to do"
            ),
        }
    )
    return planned.as_json()


def _tell(context: dg.OpExecutionContext, planned: Plan, *, dry_run: bool) -> None:
    """Say what is to be done and why, what is held, and what a person should put right."""
    for each in planned.problems:
        who = f"{each['cluster']}, {each['strategy']}" if each["strategy"] else each["cluster"]
        fields = {**each, "reason": f"{who}: {each['message']}"}
        emit(context, Event("strategy_problem", None, fields, logging.WARNING))
    for each in planned.held:
        fields = {**each, "reason": f"{each['cluster']}, {each['strategy']}: {each['reason']}"}
        emit(context, Event("strategy_held", None, fields))
    for one in planned.clusters:
        if skipped := one.result["skipped"]:
            fields = {"cluster": one.name, "reason": f"{one.name}: left alone: {skipped}"}
            emit(context, Event("cluster_skipped", None, fields))
    for cluster, action in planned.actions():
        delta = action["credits_per_hour_delta"]
        price = "" if delta is None else f", {delta:+g} credits/h"
        fields = {
            "cluster": cluster.name,
            **action,
            "dry_run": dry_run,
            "reason": f"{action['sql']}  -- {action['strategy']}: {action['reason']}{price}",
        }
        emit(context, Event("action_planned", None, fields))


@dg.op(
    name="apply",
    tags={"kind": "materialize"},
    description="Send the actions one at a time, each looked at before and after.",
)
def apply(
    context: dg.OpExecutionContext,
    ground: dict[str, Any],
    planned: dict[str, Any],
    materialize: MaterializeResource,
    state: StateStoreResource,
) -> dict[str, Any]:
    """Do it. Never tried again by Dagster: what was interrupted, the next cycle settles."""
    if not _policy(ground).apply:
        return Outcome().as_json()
    observed = Observed.from_json(ground["observed"])
    with final_errors(), _hands(context, observed, materialize, state) as hands:
        outcome = apply_plan(Plan.from_json(planned), observed, hands)
    for reason in outcome.stood_back:
        _note(context, reason, level=logging.WARNING)
    for reason in outcome.failures:
        _note(context, reason, level=logging.ERROR)
    context.add_output_metadata(
        {
            "executed": outcome.count("executed"),
            "not executed": outcome.count("not_executed"),
            "unknown": outcome.count("unknown"),
        }
    )
    return outcome.as_json()


@dg.op(
    name="record",
    tags={"kind": "materialize"},
    description="Write what strategies remember where it changed, and say how the cycle ended.",
)
def record(
    context: dg.OpExecutionContext,
    ground: dict[str, Any],
    planned: dict[str, Any],
    outcome: dict[str, Any],
    materialize: MaterializeResource,
    state: StateStoreResource,
) -> dict[str, Any]:
    """Remember, let go of the lock, and report."""
    policy, observed = _policy(ground), Observed.from_json(ground["observed"])
    plan, ended = Plan.from_json(planned), Outcome.from_json(outcome)
    if policy.apply:
        with (
            step_errors(),
            _hands(context, observed, materialize, state, last=True) as hands,
        ):
            ended = record_state(ended, plan, observed, hands)
    try:
        publish(context, materialize, observed, plan, acted=any(ended.actions()))
    except Exception as error:  # noqa: BLE001 - of Dagster's storage, or of the picture
        # Tried again, the step would find the lock let go of, and fail what has succeeded.
        _note(context, f"the pages are not published: {error}", level=logging.WARNING)
    told = report(policy.mode, observed, plan, ended)
    context.add_output_metadata({"actions": len(told["actions"]), "failures": len(ended.failures)})
    return told


@dg.op(name="conclude_cycle", description="Fail the run if an action failed.")
def conclude_cycle(told: dict[str, Any]) -> None:
    """Judge the run."""
    if told["failures"]:
        more = f" and {len(told['failures']) - 1} more" if len(told["failures"]) > 1 else ""
        raise dg.Failure(
            f"{told['failures'][0]}{more}",
            metadata={"failures": dg.MetadataValue.json(told["failures"])},
            allow_retries=False,
        )


@dg.op(
    name="wipe",
    tags={"kind": "materialize"},
    description="Forget what strategies remember: the next cycle starts afresh.",
)
def wipe(
    context: dg.OpExecutionContext,
    config: WipeStrategyStateConfig,
    materialize: MaterializeResource,
    state: StateStoreResource,
) -> dict[str, Any]:
    """Wipe, with the lock held."""
    with step_errors(), _opened(materialize) as (source, store):
        policy = config.policy()
        environment = source.identity().environment
        if policy.apply:
            lock.take(state.store, environment, context)
            with lock.kept(state.store, environment, context.run_id, last=True):
                wiped = wipe_state(source, store, policy, recreate=config.recreate)
        else:
            wiped = wipe_state(source, store, policy, recreate=config.recreate)
    told = {"rows": wiped.rows, "clusters": wiped.clusters, "recreated": wiped.recreated}
    context.add_output_metadata({"rows": wiped.rows})
    return {**told, "dry_run": config.dry_run}


# --- what a step works with -----------------------------------------------------------------------


def _policy(ground: dict[str, Any]) -> StrategiesPolicy:
    return StrategiesPolicy.checked(**ground["options"])


@contextmanager
def _opened(resource: MaterializeResource) -> Iterator[tuple[Materialize, StrategyStore]]:
    with resource.open() as source:
        store = resource.store(source)
        try:
            yield source, store
        finally:
            store.close()


@contextmanager
def _hands(
    context: dg.OpExecutionContext,
    observed: Observed,
    materialize: MaterializeResource,
    state: StateStoreResource,
    *,
    last: bool = False,
) -> Iterator[Hands]:
    """Give a step its clients and its voice, the lock held and its heart beating meanwhile."""
    ours = lock.held(state.store, observed.environment, context.run_id)
    with (
        _opened(materialize) as (source, store),
        lock.kept(state.store, observed.environment, context.run_id, last=last),
    ):
        yield Hands(
            source,
            store,
            run_id=context.run_id,
            controller=lock.controller_of(state.store),
            fence=lambda: state.store.check_lock(ours),
            say=lambda name, fields: emit(context, Event(name, None, fields)),
        )


def _note(context: dg.OpExecutionContext, reason: str, *, level: int = logging.INFO) -> None:
    emit(context, Event("note", None, {"reason": reason}, level))
