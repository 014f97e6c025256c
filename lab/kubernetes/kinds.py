"""The kinds of objects the lab's API server knows, and where they live."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: `plural` is its path, `group` '' for the core."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As an object says it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> tuple[str, str]:
        """Group and plural: where the store keeps it."""
        return (self.group, self.plural)


_RBAC = "rbac.authorization.k8s.io"

KINDS = (
    Kind("Namespace", "namespaces", namespaced=False),
    Kind("Node", "nodes", namespaced=False),
    Kind("Pod", "pods"),
    Kind("Event", "events"),
    Kind("PersistentVolume", "persistentvolumes", namespaced=False),
    Kind("PersistentVolumeClaim", "persistentvolumeclaims"),
    Kind("ServiceAccount", "serviceaccounts"),
    Kind("Service", "services"),
    Kind("StatefulSet", "statefulsets", "apps"),
    Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy"),
    Kind("Lease", "leases", "coordination.k8s.io"),
    Kind("Role", "roles", _RBAC),
    Kind("RoleBinding", "rolebindings", _RBAC),
    Kind("ClusterRole", "clusterroles", _RBAC, namespaced=False),
    Kind("ClusterRoleBinding", "clusterrolebindings", _RBAC, namespaced=False),
    Kind("CrateDB", "cratedbs", "cloud.crate.io"),
)

BY_KEY = {kind.key: kind for kind in KINDS}
BY_KIND = {kind.kind: kind for kind in KINDS}
PODS, NODES = BY_KIND["Pod"].key, BY_KIND["Node"].key
STATEFULSETS, BUDGETS = BY_KIND["StatefulSet"].key, BY_KIND["PodDisruptionBudget"].key
CLAIMS, EVENTS = BY_KIND["PersistentVolumeClaim"].key, BY_KIND["Event"].key
NAMESPACES = BY_KIND["Namespace"].key
