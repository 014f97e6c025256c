"""What caretaker needs of Kubernetes' RBAC, and how a refusal is told: what is missing, and where.

`deploy/rbac.yaml` grants exactly these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """A verb on a resource.

    Attributes:
        resource: Plural, with its subresource: 'pods/exec'.
        group: '' for the core group.
        namespace: '' for what belongs to none, or for all namespaces at once.
        purpose: What it is for, to follow "to".
    """

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    purpose: str = ""

    @property
    def rule(self) -> str:
        """The rule to paste, as a manifest has it in one line."""
        return (
            f'{{apiGroups: ["{self.group}"], resources: ["{self.resource}"], '
            f'verbs: ["{self.verb}"]}}'
        )

    @property
    def where(self) -> str:
        """Which role the rule belongs in."""
        return f"the Role in namespace {self.namespace}" if self.namespace else "the ClusterRole"

    @property
    def missing(self) -> str:
        """What is missing, in words: "delete pods in namespace db"."""
        place = f" in namespace {self.namespace}" if self.namespace else ""
        group = f" ({self.group})" if self.group else ""
        return f"{self.verb} {self.resource}{group}{place}"

    @property
    def hint(self) -> str:
        """What to do about it."""
        why = f", to {self.purpose}" if self.purpose else ""
        return f"add to {self.where}: {self.rule}{why}"


CRATEDBS_GROUP = "cloud.crate.io"
CRATEDBS = "cratedbs"

_LOOK = "see the cluster's pods"
_NAMESPACED: tuple[tuple[str, str, str, str], ...] = (
    ("get", "pods", "", _LOOK),
    ("list", "pods", "", _LOOK),
    ("watch", "pods", "", "wait for pods without asking again and again"),
    ("delete", "pods", "", "restart a pod"),
    ("get", "pods/exec", "", "run SQL in a pod (a WebSocket begins as a GET)"),
    ("create", "pods/exec", "", "run SQL in a pod"),
    ("create", "pods/eviction", "", "ask, without doing it, whether a pod may go"),
    ("get", "statefulsets", "apps", "read the preStop hook"),
    ("list", "statefulsets", "apps", "find clusters"),
    ("watch", "statefulsets", "apps", "notice a rollout"),
    ("get", "poddisruptionbudgets", "policy", "honour budgets"),
    ("list", "poddisruptionbudgets", "policy", "honour budgets"),
    ("get", "events", "", "say why a pod does not come back"),
    ("list", "events", "", "say why a pod does not come back"),
    ("get", "persistentvolumeclaims", "", "see that no pod's data are about to be deleted"),
    ("list", "persistentvolumeclaims", "", "see that no pod's data are about to be deleted"),
    ("get", CRATEDBS, CRATEDBS_GROUP, "find clusters of the CrateDB operator"),
    ("list", CRATEDBS, CRATEDBS_GROUP, "find clusters of the CrateDB operator"),
)
_EVERYWHERE: tuple[tuple[str, str, str, str], ...] = (
    ("get", "nodes", "", "see which machines are cordoned"),
    ("list", "nodes", "", "see which machines are cordoned"),
)


def needs(namespace: str) -> tuple[Need, ...]:
    """Everything that the wing may ask for, in one namespace."""
    return (
        *(Need(verb, what, group, namespace, why) for verb, what, group, why in _NAMESPACED),
        *(Need(verb, what, group, "", why) for verb, what, group, why in _EVERYWHERE),
    )


def need(verb: str, resource: str, namespace: str) -> Need:
    """One of them, by verb and resource; one that nobody grants is made up."""
    return next(
        (each for each in needs(namespace) if (each.verb, each.resource) == (verb, resource)),
        Need(verb, resource, namespace=namespace),
    )


def told(missing: Iterable[Need]) -> str:
    """All that is missing, in one line."""
    return "; ".join(each.missing for each in missing)
