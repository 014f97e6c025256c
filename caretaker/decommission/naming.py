"""Which CrateDB node runs in a pod."""

from __future__ import annotations

from caretaker.decommission.model import ClusterRef, NodeSeen, PodSeen, runs_in
from caretaker.errors import UnsafeError


def rule_name(statefulset: str, cluster: str, ordinal: int) -> str | None:
    """Return the node's name by the StatefulSet rule, or None where the rule says nothing.

    >>> rule_name("crate-data-hot-prod", "prod", 2)
    'data-hot-2'
    >>> rule_name("crate-prod", "prod", 0) is None
    True
    """
    if not statefulset.startswith("crate-") or not statefulset.endswith(f"-{cluster}"):
        return None
    prefix = statefulset.removeprefix("crate-").removesuffix(cluster).removesuffix("-")
    return f"{prefix}-{ordinal}" if prefix and ordinal >= 0 else None


def node_of(pod: PodSeen, cluster: ClusterRef, nodes: tuple[NodeSeen, ...]) -> NodeSeen:
    """Return the node that runs in a pod: by its hostname, else by the StatefulSet rule.

    Raises UnsafeError where there is none, where several claim the pod or its node's name, and
    where hostname and rule disagree: a decommission of the wrong node is not undone. A node that is
    named like its pod agrees with itself, whatever the rule would have called it.
    """
    found = _claimed(pod, cluster, nodes)
    # A decommission goes by name, and CrateDB does not look at its case.
    same = [node for node in nodes if node.name.lower() == found.name.lower()]
    if len(same) > 1:
        where = ", ".join(f"{node.name} on {node.hostname}" for node in same)
        raise UnsafeError(f"several nodes have the name {found.name}: {where}", target=pod.name)
    return found


def _claimed(pod: PodSeen, cluster: ClusterRef, nodes: tuple[NodeSeen, ...]) -> NodeSeen:
    here = [node for node in nodes if runs_in(node, pod.name)]
    if len(here) > 1:
        names = ", ".join(node.name for node in here)
        raise UnsafeError(f"several nodes have the hostname {pod.name}: {names}", target=pod.name)
    by_rule = rule_name(pod.statefulset, cluster.name, pod.ordinal)
    if here:
        node = here[0]
        if by_rule is not None and node.name not in {by_rule, pod.name}:
            raise UnsafeError(
                f"sys.nodes says that {node.name} runs in {pod.name}, its StatefulSet says "
                f"{by_rule}: nobody is decommissioned on a guess",
                target=pod.name,
            )
        return node
    named = [node for node in nodes if node.name == by_rule]
    if by_rule is None or not named:
        known = ", ".join(sorted(f"{node.name} on {node.hostname}" for node in nodes)) or "none"
        looked_for = f"hostname {pod.name}" + (f" or name {by_rule}" if by_rule else "")
        raise UnsafeError(f"no node has {looked_for} (nodes: {known})", target=pod.name)
    if named[0].hostname and _is_another_pods(named[0], pod):
        raise UnsafeError(
            f"the StatefulSet rule says that {by_rule} runs in {pod.name}, sys.nodes says that it "
            f"runs on {named[0].hostname}: nobody is decommissioned on a guess",
            target=pod.name,
        )
    return named[0]


def _is_another_pods(node: NodeSeen, pod: PodSeen) -> bool:
    """Whether a node's hostname is that of a sibling of the pod."""
    short = node.hostname.partition(".")[0]
    stem, _, ordinal = short.rpartition("-")
    return stem == pod.statefulset and ordinal.isdecimal() and short != pod.name
