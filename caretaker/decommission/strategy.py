"""How a pod's node is to be taken out, and why, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from caretaker.decommission.model import (
    DEFAULT_GRACE_S,
    ContainerSpec,
    DecommissionStrategy,
    MinAvailability,
    PodSeen,
    StatefulSetSeen,
)
from caretaker.decommission.policy import DEFAULT_TIMEOUT_S, RestartPolicy
from caretaker.decommission.prestop import DcUtilCall, find_dc_util

#: What a hook gets beyond its own timeout before Kubernetes kills (the seed).
GRACE_MARGIN_S = 60

#: dc_util keeps this of a pod's grace for itself, and takes at least so long (its source).
_KEPT_OF_GRACE_S = 120
_LEAST_S = 360

#: Grace of a pod that is deleted when its node is drained or gone.
SHORT_GRACE_S = 30

DISABLED_LABEL = "dc-util-disabled"
AVAILABILITY_LABEL = "dc-util-min-availability"
FORCE_LABEL = "dc-util-graceful-stop"


@dataclass(frozen=True, slots=True)
class Detection:
    """What the StatefulSet says about the end of its pods.

    Attributes:
        timeout_s: How long the drain may take: `--timeout`, the hook's flag, or the default.
        dc_util_timeout_s: What dc_util makes of the pod's grace by its own rule; None: not managed.
        own_grace_s: The pod's terminationGracePeriodSeconds.
        grace_s: What the delete asks for.
        min_availability: What the drain keeps; NONE where it is not known to keep anything.
        problem: Why no strategy can be told; '' otherwise.
        explanation: Each finding, in words, for `--explain`.
        warnings: What an operator should know before he relies on it.
    """

    strategy: DecommissionStrategy
    has_prestop_hook: bool
    has_dc_util: bool
    timeout_s: float
    dc_util_timeout_s: float | None
    own_grace_s: int
    grace_s: int
    min_availability: MinAvailability
    problem: str = ""
    explanation: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def drain_limit_s(self) -> float:
        """The longest that the drain itself may take, whichever rule applies."""
        return max(self.timeout_s, self.dc_util_timeout_s or 0.0)


def dc_util_timeout(flag_s: float, grace_s: int | None) -> float:
    """Return dc_util's effective timeout: by the pod's grace, where that is not the default.

    >>> dc_util_timeout(720, None), dc_util_timeout(720, 1200), dc_util_timeout(720, 100)
    (720, 1080, 360)
    """
    if grace_s is None or grace_s == DEFAULT_GRACE_S:
        return flag_s
    return max(grace_s - _KEPT_OF_GRACE_S, _LEAST_S)


def forces(statefulset: StatefulSetSeen) -> bool:
    """Whether dc_util sets graceful_stop.force to true: unless a label says no (its source)."""
    return statefulset.labels.get(FORCE_LABEL, "").lower() != "false"


def detect(
    statefulset: StatefulSetSeen, policy: RestartPolicy, pod: PodSeen | None = None
) -> Detection:
    """Tell the strategy from the StatefulSet, or from the pod's own spec where that is given.

    A pod runs the hook it was made with: after a change of an OnDelete template the two differ,
    and the pod's is what the kubelet will run.
    """
    containers = (pod.containers if pod is not None else ()) or statefulset.containers
    grace_s = pod.grace_s if pod is not None and pod.grace_s is not None else statefulset.grace_s
    container = next((each for each in containers if each.name == policy.container), None)
    if container is None:
        return _missing(statefulset, policy, containers, grace_s)
    call = find_dc_util(container.prestop or (), policy.dc_util_pattern)
    explanation = list(_hook(container, containers, policy, call))
    reason = _not_relied_on(call, statefulset.labels)
    if call is None or reason:
        if reason:
            explanation.append(reason)
        return _manual(policy, grace_s, container, call, explanation)
    return _managed(statefulset, policy, grace_s, call, pod, explanation)


def _hook(
    container: ContainerSpec,
    containers: Sequence[ContainerSpec],
    policy: RestartPolicy,
    call: DcUtilCall | None,
) -> Iterator[str]:
    """Say what was found on the container, and on those that do not count."""
    if container.prestop is not None:
        yield f"container {container.name} has a preStop hook: {' '.join(container.prestop)}"
        yield f"it runs {call.program}" if call is not None else "it does not run dc_util"
    elif container.prestop_other:
        yield f"the preStop hook of container {container.name} is {container.prestop_other}"
    else:
        yield f"container {container.name} has no preStop hook"
    for other in containers:
        if other.name != container.name and find_dc_util(
            other.prestop or (), policy.dc_util_pattern
        ):
            yield f"container {other.name} runs dc_util, too, which drains nobody else's node"


def _not_relied_on(call: DcUtilCall | None, labels: Mapping[str, str]) -> str:
    """Say why a hook that runs dc_util does not drain the node; '' where it does."""
    if call is None:
        return ""
    if call.does_not_drain:
        return f"with -{call.does_not_drain} it does not drain, so we do"
    if call.background:
        return "it is started in the background and the hook does not wait for it, so we drain"
    if call.timeout_problem and "$" not in call.timeout_text and "`" not in call.timeout_text:
        return f"{call.timeout_problem}: it would not start, so we drain"
    if labels.get(DISABLED_LABEL, "").lower() in {"true", "1", "yes"}:
        return f"the label {DISABLED_LABEL} switches it off, so we drain"
    return ""


def _managed(
    statefulset: StatefulSetSeen,
    policy: RestartPolicy,
    grace_s: int | None,
    call: DcUtilCall,
    pod: PodSeen | None,
    explanation: list[str],
) -> Detection:
    own = DEFAULT_GRACE_S if grace_s is None else grace_s
    timeout_s = call.timeout_s
    if call.timeout_text and not call.timeout_problem:
        explanation.append(f"its -timeout is {call.timeout_text}: {timeout_s:g} s")
    else:
        explanation.append(f"it has no -timeout that can be read, its default is {timeout_s:g} s")
    if policy.timeout_s is not None:
        # Never below the pod's own grace: that is what its author gave the hook.
        timeout_s = max(policy.timeout_s, float(own))
        explanation.append(f"--timeout {policy.timeout_s:g}: {timeout_s:g} s")
    # The hook's own limit: it goes on for so long, whatever --timeout is, and killed before that
    # its node would leave half drained.
    effective = dc_util_timeout(call.timeout_s, grace_s)
    if effective != call.timeout_s:
        explanation.append(
            f"by dc_util's own rule its timeout is {effective:g} s, for a "
            f"terminationGracePeriodSeconds of {own}"
        )
    delete_grace = max(own, int(max(timeout_s, effective)) + GRACE_MARGIN_S)
    explanation.append(f"the pod is deleted with grace {delete_grace} s (its own is {own} s)")
    kept, warnings = _kept(statefulset, call, pod)
    if call.fails_silently:
        warnings.append(
            f"`{call.fails_silently}` behind it: where dc_util fails or is missing, the node ends "
            "without a drain and nobody is told"
        )
    if call.timeout_problem:
        warnings.append(f"{call.timeout_problem}; {call.timeout_s:g} s are allowed for")
    return Detection(
        strategy=DecommissionStrategy.KUBERNETES_MANAGED,
        has_prestop_hook=True,
        has_dc_util=True,
        timeout_s=timeout_s,
        dc_util_timeout_s=effective,
        own_grace_s=own,
        grace_s=delete_grace,
        min_availability=kept,
        explanation=(*explanation, "strategy kubernetes_managed: the preStop hook drains the node"),
        warnings=tuple(warnings),
    )


def _kept(
    statefulset: StatefulSetSeen, call: DcUtilCall, pod: PodSeen | None
) -> tuple[MinAvailability, list[str]]:
    """Return what dc_util keeps: a label beats the flag, and other pods are not drained at all."""
    label = statefulset.labels.get(AVAILABILITY_LABEL, "")
    # A label that is not one of the very words is passed over, in lower case, too (its source).
    text = label if label in set(MinAvailability) else call.min_availability
    warnings: list[str] = []
    name = pod.name if pod is not None else statefulset.name
    if f"{call.node_prefix}-" not in name:
        warnings.append(
            f"{name} has no {call.node_prefix!r} in its name: dc_util drains only such pods "
            "(-crate-node-prefix), so this one ends without a drain"
        )
        return MinAvailability.NONE, warnings
    if call.doubt:
        warnings.append(f"{call.doubt}: where it does not drain, the node ends without a drain")
        return MinAvailability.NONE, warnings
    if statefulset.replicas <= 1:
        warnings.append(
            f"StatefulSet {statefulset.name} has {statefulset.replicas} replica: dc_util drains no "
            "node of such a one"
        )
        return MinAvailability.NONE, warnings
    if text in {MinAvailability.FULL, MinAvailability.PRIMARIES}:
        return MinAvailability(text), warnings
    warnings.append(f"its min-availability is {text!r}: CrateDB does not drain for it")
    return MinAvailability.NONE, warnings


def _manual(
    policy: RestartPolicy,
    grace_s: int | None,
    container: ContainerSpec,
    call: DcUtilCall | None,
    explanation: list[str],
) -> Detection:
    timeout_s = DEFAULT_TIMEOUT_S if policy.timeout_s is None else policy.timeout_s
    how = "default" if policy.timeout_s is None else "--timeout"
    explanation.append(f"timeout {timeout_s:g} s ({how})")
    explanation.append("strategy manual: we drain the node with ALTER CLUSTER DECOMMISSION")
    return Detection(
        strategy=DecommissionStrategy.MANUAL,
        has_prestop_hook=container.prestop is not None or bool(container.prestop_other),
        has_dc_util=call is not None,
        timeout_s=timeout_s,
        dc_util_timeout_s=None,
        own_grace_s=DEFAULT_GRACE_S if grace_s is None else grace_s,
        grace_s=SHORT_GRACE_S,
        min_availability=policy.min_availability,
        explanation=tuple(explanation),
        warnings=policy.warnings,
    )


def _missing(
    statefulset: StatefulSetSeen,
    policy: RestartPolicy,
    containers: Sequence[ContainerSpec],
    grace_s: int | None,
) -> Detection:
    there = ", ".join(each.name for each in containers) or "none"
    problem = (
        f"StatefulSet {statefulset.name} has no container {policy.container!r} (it has: {there}); "
        "name CrateDB's with --container"
    )
    return Detection(
        strategy=DecommissionStrategy.UNKNOWN,
        has_prestop_hook=False,
        has_dc_util=False,
        timeout_s=DEFAULT_TIMEOUT_S,
        dc_util_timeout_s=None,
        own_grace_s=DEFAULT_GRACE_S if grace_s is None else grace_s,
        grace_s=SHORT_GRACE_S,
        min_availability=MinAvailability.NONE,
        problem=problem,
        explanation=(problem,),
    )
