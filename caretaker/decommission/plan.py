"""The whole plan of a restart, in order, as a dry run prints it: from one look, nothing touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from caretaker.decommission.cluster_settings import ALLOCATION, DEFAULTS, KEYS, same_value
from caretaker.decommission.model import (
    CrateSeen,
    DecommissionStrategy,
    DeleteWhen,
    Goal,
    Observation,
)
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.preflight import Candidate, judge
from caretaker.decommission.putting_back import setup, wanted
from caretaker.decommission.steps import (
    Action,
    Await,
    DecommissionNode,
    DeletePod,
    ResetGlobal,
    SetGlobal,
)
from caretaker.decommission.strategy import SHORT_GRACE_S
from caretaker.decommission.ticket import DecommissionState, RestartTicket
from caretaker.decommission.turns import next_pod

#: A statement of a plan is not sent.
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What would be done with one pod.

    Attributes:
        refusals: What is in the way now; then there are no actions.
    """

    pod: str
    strategy: DecommissionStrategy
    actions: tuple[Action, ...]
    refusals: tuple[str, ...] = ()
    explanation: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_decommission(
    candidate: Candidate, crate: CrateSeen, policy: RestartPolicy
) -> Iterator[Action]:
    """Yield everything that is done for one pod, in order, if nothing goes wrong."""
    if candidate.detection.strategy is DecommissionStrategy.KUBERNETES_MANAGED:
        yield from _managed(candidate, crate)
    else:
        yield from _manual(candidate, crate, policy)
    if policy.goal is Goal.RESTART:
        name = candidate.pod.name
        yield Await(f"pod {name} to be another one and Ready, its node back, the cluster GREEN")


def plan_rolling_restart(
    seen: Observation, ticket: RestartTicket, policy: RestartPolicy
) -> list[PodPlan]:
    """Return the plan of every pending pod, in the order of their turns.

    The master's turn is last by the master of now; should it change, the order follows it.
    """
    plans: list[PodPlan] = []
    while seen.crate is not None and (progress := next_pod(ticket.pending, seen.crate)):
        verdict = judge(seen, ticket, progress.name, policy)
        if isinstance(verdict, Candidate):
            actions = list(plan_decommission(verdict, seen.crate, policy))
            if len(ticket.pending) > 1:
                rest = f"{policy.settle_s:g} s at rest: GREEN, nothing relocating"
                actions.append(Await(rest))
            detection = verdict.detection
            plan = PodPlan(
                progress.name,
                detection.strategy,
                tuple(actions),
                explanation=detection.explanation,
                warnings=detection.warnings,
            )
        else:
            sentences = tuple(refusal.sentence for refusal in verdict)
            plan = PodPlan(progress.name, DecommissionStrategy.UNKNOWN, (), refusals=sentences)
        plans.append(plan)
        ticket = ticket.with_pod(replace(progress, state=DecommissionState.SKIPPED))
    return plans


def _managed(candidate: Candidate, crate: CrateSeen) -> Iterator[Action]:
    pod, detection = candidate.pod, candidate.detection
    yield DeletePod(pod.name, pod.uid, detection.grace_s)
    yield Await(f"the preStop hook of {pod.name} to drain node {candidate.node.name} and to end")
    operators = [key for key in KEYS if key != ALLOCATION and not _is_default(key, crate)]
    kept = f" ({', '.join(operators)} as they are now)" if operators else ""
    yield Await(f"what dc_util leaves behind to be reset{kept}")


def _manual(candidate: Candidate, crate: CrateSeen, policy: RestartPolicy) -> Iterator[Action]:
    pod, node, timeout_s = candidate.pod, candidate.node, candidate.detection.timeout_s
    statements = setup(policy, timeout_s, crate.settings)
    yield from statements
    of = len(wanted(policy, timeout_s)) + 1
    restarts = pod.container.restart_count if pod.container is not None else 0
    yield DecommissionNode(
        node_name=node.name,
        pod=pod.name,
        uid=pod.uid,
        restart_count=restarts,
        sent_at=_NEVER,
        timeout_s=policy.decommission_timeout_s,
        number=of,
        of=of,
    )
    if policy.delete_when is DeleteWhen.DRAINED:
        yield Await(f"node {node.name} to be drained, proven by sys.shards")
    else:
        yield Await(f"the process of {pod.name} to end")
    yield DeletePod(pod.name, pod.uid, SHORT_GRACE_S)
    if policy.delete_when is DeleteWhen.DRAINED:
        yield Await(f"the process of {pod.name} to end")
    if statements:
        yield ResetGlobal(tuple(each.key for each in statements), policy.statement_timeout_s)
    for each in statements:
        if not _is_default(each.key, crate):
            before = crate.settings[each.key]
            yield SetGlobal(each.key, before, persistent=True)


def _is_default(key: str, crate: CrateSeen) -> bool:
    return key in crate.settings and same_value(key, crate.settings[key], DEFAULTS[key])
