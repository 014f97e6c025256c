"""The Kubernetes client: look, delete one pod, ask whether one may go, run SQL in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from caretaker.decommission.model import KubeSeen, PodSeen, StatefulSetSeen
from caretaker.decommission.policy import DEFAULT_CONTAINER
from caretaker.errors import RefusedError, TransientError
from resources.kubernetes import clusters, pod_exec, reads
from resources.kubernetes.answers import BUSY, CONFLICT, FORBIDDEN, NOT_FOUND
from resources.kubernetes.clusters import ClusterFound
from resources.kubernetes.following import Listing
from resources.kubernetes.looking import ClusterLook
from resources.kubernetes.pod_exec import ExecResult
from resources.kubernetes.pod_sql import PodCrateDBClient
from resources.kubernetes.requests import Requests
from resources.kubernetes.rights import CRATEDBS, CRATEDBS_GROUP, Need, need, needs
from resources.kubernetes.settings import KubernetesSettings

#: An exec that only asks something.
EXEC_TIMEOUT_S = 60.0

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")

#: What the eviction API answers with 500 where it will never answer otherwise.
_SEVERAL = "more than one PodDisruptionBudget"


class KubernetesClient:
    """One Kubernetes cluster. Nothing is sent before the first call, every call has its end.

    Reads are tried again where that may help; changes are sent once. TransientError: nothing was
    applied, try again (BusyError says when). RefusedError: no, with `status` (404: not there, 409:
    another one by now, 403: the hint is the rule to add). UnknownResultError: look first.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        """Load credentials; InvalidSettingError says what is wrong with them."""
        self.settings = settings
        self.requests = Requests(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that were kept."""
        self.requests.close()

    @property
    def context(self) -> str:
        """Name of the context, for people."""
        return self.requests.access.context

    @property
    def server(self) -> str:
        """Address of the API server, as the kubeconfig has it."""
        return self.requests.host

    @property
    def namespace(self) -> str:
        """The namespace that is meant where none is named."""
        return self.requests.access.namespace

    # --- looking ----------------------------------------------------------------------------------

    def version(self) -> str:
        """Return the API server's version; the cheapest proof that it answers."""
        found = self.requests.get(Need("get", "version"), "/version", target="version")
        return str(found.get("gitVersion") or "unknown")

    def missing_rights(self, namespace: str = "") -> tuple[Need, ...]:
        """Ask the API server which of our needs its RBAC does not grant, without trying any."""
        return tuple(each for each in needs(namespace or self.namespace) if not self._granted(each))

    def require(self, verb: str, resource: str, namespace: str) -> None:
        """Raise RefusedError where a right is missing, before anything is tried."""
        wanted = need(verb, resource, namespace)
        try:
            granted = self._granted(wanted)
        except RefusedError as error:
            if error.status != FORBIDDEN:
                raise
            # Who may not even ask is told by the API server when it is tried.
            return
        if not granted:
            raise RefusedError(
                f"Forbidden: our user may not {wanted.missing}",
                target=resource,
                hint=wanted.hint,
                status=FORBIDDEN,
            )

    def _granted(self, wanted: Need) -> bool:
        resource, _, subresource = wanted.resource.partition("/")
        attributes = {
            "verb": wanted.verb,
            "resource": resource,
            "subresource": subresource,
            "group": wanted.group,
            "namespace": wanted.namespace,
        }
        answer = self.requests.change(
            Need("create", "selfsubjectaccessreviews", "authorization.k8s.io"),
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
            target="our rights",
            changes=False,
        )
        return bool((answer.get("status") or {}).get("allowed"))

    def check_namespace(self, namespace: str = "") -> None:
        """Raise RefusedError where there is no such namespace; a weak role cannot tell."""
        name = namespace or self.namespace
        try:
            self.requests.get(
                Need("get", "namespaces"), f"/api/v1/namespaces/{_part(name)}", target=name
            )
        except RefusedError as error:
            if error.status == NOT_FOUND:
                raise RefusedError(
                    f"Namespace not found: {name} (context {self.context})",
                    target=name,
                    status=NOT_FOUND,
                ) from error
            if error.status != FORBIDDEN:
                raise

    def clusters(self, namespace: str = "") -> list[ClusterFound]:
        """Return every CrateDB cluster of a namespace, by name."""
        name = namespace or self.namespace
        listing = statefulsets_of(name)
        items, _ = self.requests.objects(need("list", listing.resource, name), listing.path)
        found = clusters.clusters(items, self._custom_resources(name))
        if not found:
            self.check_namespace(name)
        return found

    def cluster(self, name: str, namespace: str = "") -> ClusterFound:
        """Return the cluster of that name, or of that StatefulSet; RefusedError unless one is."""
        where = namespace or self.namespace
        return clusters.the_one(name, self.clusters(where), f"namespace {where}")

    def cluster_of_pod(self, pod: str, namespace: str = "") -> ClusterFound:
        """Return the cluster that a pod belongs to; "Pod not found" where there is none."""
        seen = self.pod(pod, namespace)
        return self.cluster(seen.statefulset or pod, namespace)

    def pod(self, name: str, namespace: str = "", *, container: str = DEFAULT_CONTAINER) -> PodSeen:
        """Return one pod as it is now."""
        where = namespace or self.namespace
        try:
            item = self.requests.get(
                need("get", "pods", where), f"{_pods(where)}/{_part(name)}", target=f"pod {name}"
            )
        except RefusedError as error:
            if error.status == NOT_FOUND:
                raise RefusedError(
                    f"Pod not found: {name} (namespace {where})", target=name, status=NOT_FOUND
                ) from error
            raise
        return reads.pod(item, container)

    def statefulset(self, name: str, namespace: str = "") -> StatefulSetSeen:
        """Return one StatefulSet as it is now."""
        where = namespace or self.namespace
        path = f"{statefulsets_of(where).path}/{_part(name)}"
        return reads.statefulset(
            self.requests.get(
                need("get", "statefulsets", where), path, target=f"StatefulSet {name}"
            )
        )

    def look(self, cluster: ClusterFound, *, container: str = DEFAULT_CONTAINER) -> ClusterLook:
        """Return a look at a cluster that stays current by itself; to be closed."""
        return ClusterLook(self.requests, cluster, container)

    def seen(self, cluster: ClusterFound, *, container: str = DEFAULT_CONTAINER) -> KubeSeen:
        """Return one look at a cluster, without a watch: for a check or a printed plan."""
        look = ClusterLook(self.requests, cluster, container, follow=False)
        with look:
            return look.seen(fresh=True)

    # --- changing ---------------------------------------------------------------------------------

    def delete_pod(
        self,
        name: str,
        namespace: str,
        *,
        uid: str,
        grace_s: int,
        resource_version: str = "",
        just_before: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask for the end of one pod, and of no other that has its name by then.

        Returns when the API server has accepted it: the pod goes on until its grace is over. It is
        sent once. RefusedError with status 409: another pod has the name, or with
        `resource_version` the pod has changed since; 404: none has.
        """
        preconditions = {"uid": uid}
        if resource_version:
            preconditions["resourceVersion"] = resource_version
        self.requests.change(
            need("delete", "pods", namespace),
            "DELETE",
            f"{_pods(namespace)}/{_part(name)}",
            {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "gracePeriodSeconds": grace_s,
                "preconditions": preconditions,
            },
            target=f"pod {name}",
            just_before=just_before,
        )

    def may_evict(self, name: str, namespace: str, *, uid: str = "") -> str:
        """Ask, by an eviction that is not carried out, whether a pod may go.

        '' is yes, else it is why not. The answer is that of every budget that takes the pod, and a
        pod that is gone may go.
        """
        options: dict[str, Any] = {"dryRun": ["All"]}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self.requests.change(
                need("create", "pods/eviction", namespace),
                "POST",
                f"{_pods(namespace)}/{_part(name)}/eviction",
                {
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"name": name, "namespace": namespace},
                    "deleteOptions": options,
                },
                target=f"pod {name}",
                query={"dryRun": "All"},
                changes=False,
            )
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return ""
            if error.status in {BUSY, CONFLICT}:
                return str(error)
            raise
        except TransientError as error:
            if _SEVERAL not in str(error):
                raise
            return str(error)
        return ""

    # --- inside a pod -----------------------------------------------------------------------------

    def exec(
        self,
        name: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str = DEFAULT_CONTAINER,
        timeout_s: float = EXEC_TIMEOUT_S,
    ) -> ExecResult:
        """Run a command in a container, to its exit code; UnknownResultError where none came."""
        return pod_exec.run(self.requests.wire, namespace, name, container, command, timeout_s)

    def crate(
        self,
        pod: str,
        namespace: str = "",
        *,
        container: str = DEFAULT_CONTAINER,
        scheme: str = "",
        port: int = 4200,
        statement_timeout_s: float = 60.0,
    ) -> PodCrateDBClient:
        """Return a client of the CrateDB in a pod, by exec: as the local superuser, no password."""
        return PodCrateDBClient(
            self.requests.wire,
            namespace or self.namespace,
            pod,
            container,
            scheme=scheme,
            port=port,
            statement_timeout_s=statement_timeout_s,
        )

    def _custom_resources(self, namespace: str) -> Iterable[Mapping[str, Any]]:
        """The operator's resources; none where there is no operator, or we may not see them."""
        path = f"/apis/{CRATEDBS_GROUP}/v1/namespaces/{_part(namespace)}/{CRATEDBS}"
        try:
            items, _ = self.requests.objects(need("list", CRATEDBS, namespace), path)
        except RefusedError as error:
            if error.status not in {NOT_FOUND, FORBIDDEN}:
                raise
            return []
        return items


def statefulsets_of(namespace: str) -> Listing:
    """Where a namespace's StatefulSets are."""
    path = f"/apis/apps/v1/namespaces/{_part(namespace)}/statefulsets"
    return Listing(path, "statefulsets", namespace, {})


def _pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{_part(namespace)}/pods"


def _part(name: str) -> str:
    """A name as a part of a path; what can be no name is not asked for."""
    if not _NAME.fullmatch(name):
        raise RefusedError(f"{name!r} is no name in Kubernetes", target=name, status=NOT_FOUND)
    return name
