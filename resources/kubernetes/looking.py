"""One cluster as Kubernetes shows it, kept current by watches instead of asking again and again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from caretaker.decommission.model import BudgetSeen, KubeNodeSeen, KubeSeen
from caretaker.errors import RefusedError
from resources.clock import monotonic
from resources.kubernetes import reads
from resources.kubernetes.answers import FORBIDDEN
from resources.kubernetes.clusters import ClusterFound
from resources.kubernetes.following import Follower, Listing
from resources.kubernetes.requests import Requests
from resources.kubernetes.rights import need

#: How old what is watched may be: past it the list is read again. A watch says something at every
#: change, and nothing for up to a minute where nothing changes.
MAX_AGE_S = 10.0

#: Machines, budgets and claims are not watched: the role does not need it, and they move slowly.
REST_EVERY_S = 15.0


class ClusterLook:
    """Looks at one cluster; `seen` is cheap, `wait` returns when something has changed.

    Not for more than one thread at a time. A refusal of what may be unknown (machines, budgets,
    events) is in `unreadable`, by resource; every other one is raised.
    """

    def __init__(
        self, requests: Requests, cluster: ClusterFound, container: str, *, follow: bool = True
    ) -> None:
        """Take what to look at; watches begin with the block, or with `start`."""
        self.cluster = cluster
        self.unreadable: dict[str, RefusedError] = {}
        self._requests = requests
        self._container = container
        self._follow = follow
        self._changed = threading.Event()
        namespace = cluster.ref.namespace
        pods = f"/api/v1/namespaces/{namespace}/pods"
        self._pods = [
            Follower(
                requests,
                Listing(pods, "pods", namespace, {"labelSelector": selector}),
                self._changed.set,
            )
            for selector in dict.fromkeys(cluster.selectors.values())
        ]
        self._statefulsets = Follower(
            requests,
            Listing(
                f"/apis/apps/v1/namespaces/{namespace}/statefulsets", "statefulsets", namespace, {}
            ),
            self._changed.set,
        )
        self._rest: tuple[list[Any] | None, tuple[KubeNodeSeen, ...] | None, list[str]] | None
        self._rest, self._rest_at = None, float("-inf")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin to watch."""
        if self._follow:
            for each in (*self._pods, self._statefulsets):
                each.start()

    def close(self) -> None:
        """End the watches."""
        for each in (*self._pods, self._statefulsets):
            each.stop()

    def wait(self, seconds: float) -> bool:
        """Return True as soon as a pod or StatefulSet has changed since `seen`, else after that."""
        return self._changed.wait(seconds)

    def seen(
        self,
        *,
        fresh: bool = False,
        may_go: Mapping[str, str] | None = None,
        events_of: Iterable[str] = (),
    ) -> KubeSeen:
        """Return what is now.

        Args:
            fresh: Read everything again, for a decision; else what the watches say, lists where
                they have been silent for long, and the rest as of `REST_EVERY_S`.
            may_go: Answers of `may_evict`, by pod, to go with it.
            events_of: Names of pods whose events are wanted.

        Raises:
            TransientError: The API server did not answer.
            RefusedError: It said no; the hint is the rule that is missing.

        """
        self._changed.clear()
        age = 0.0 if fresh else MAX_AGE_S
        mine = {each.name for each in self.cluster.statefulsets}
        statefulsets = [
            each for each in self._statefulsets.items(age) if each["metadata"]["name"] in mine
        ]
        pods = [
            each
            for follower in self._pods
            for each in follower.items(age)
            if reads.owner(each) in mine or reads.is_orphan_of(each, mine)
        ]
        if fresh or monotonic() - self._rest_at > REST_EVERY_S:
            self._read_rest()
        budgets, nodes, claims = self._rest or (None, None, [])
        told = set(events_of)
        return KubeSeen(
            pods=tuple(
                replace(
                    reads.pod(each, self._container, claims_in_deletion=claims),
                    events=self._events(each) if each["metadata"]["name"] in told else (),
                )
                for each in sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
            ),
            statefulsets=tuple(reads.statefulset(each) for each in statefulsets),
            nodes=nodes,
            budgets=self._budgets(budgets, pods),
            evictions=dict(may_go or {}),
            gone=tuple(
                reads.pod(each, self._container)
                for follower in self._pods
                for each in follower.gone()
            ),
        )

    def _budgets(self, budgets: list[Any] | None, pods: list[Any]) -> tuple[BudgetSeen, ...] | None:
        if budgets is None:
            return None
        all_seen = (reads.budget(each, pods) for each in budgets)
        return tuple(each for each in all_seen if each.pods)

    def _read_rest(self) -> None:
        namespace = self.cluster.ref.namespace
        budgets = self._may_be_unknown(
            "poddisruptionbudgets", f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
        )
        nodes = self._may_be_unknown("nodes", "/api/v1/nodes")
        claims, _ = self._requests.objects(
            need("list", "persistentvolumeclaims", namespace),
            f"/api/v1/namespaces/{namespace}/persistentvolumeclaims",
        )
        leaving = [
            str(each["metadata"]["name"])
            for each in claims
            if each["metadata"].get("deletionTimestamp")
        ]
        machines = None if nodes is None else tuple(reads.node(each) for each in nodes)
        self._rest, self._rest_at = (budgets, machines, leaving), monotonic()

    def _may_be_unknown(
        self, resource: str, path: str, query: Mapping[str, str] | None = None
    ) -> list[Any] | None:
        wanted = need("list", resource, self.cluster.ref.namespace)
        try:
            items, _ = self._requests.objects(wanted, path, query=query)
        except RefusedError as error:
            if error.status != FORBIDDEN:
                raise
            self.unreadable[resource] = error
            return None
        self.unreadable.pop(resource, None)
        return items

    def _events(self, pod: Mapping[str, Any]) -> tuple[str, ...]:
        namespace = self.cluster.ref.namespace
        items = self._may_be_unknown(
            "events",
            f"/api/v1/namespaces/{namespace}/events",
            {"fieldSelector": f"involvedObject.uid={pod['metadata']['uid']}"},
        )
        if items is None:
            return (f"unknown: {self.unreadable['events']}",)
        return reads.event_lines(items)
