"""The same cases on the lab's API server and on a real control plane.

Caretaker's client goes through a front that can misbehave before either; the tests' own requests,
and the kubelet's, go past it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lab.kubernetes.cluster import CratePods
from lab.kubernetes.plane import Plane
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import KubernetesSettings
from tests.planes import PLANES, plane_of

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=PLANES)
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    """A control plane for the whole session."""
    with plane_of(request, request.param) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "plane" in request.fixturenames:
        request.getfixturevalue("plane").front.faults.clear()


@pytest.fixture(scope="session")
def pods(plane: Plane) -> Iterator[CratePods]:
    """Three pods that nobody restarts."""
    with CratePods(plane, name="steady", namespace="steady") as started:
        started.crate.table("doc.readings", shards=4, replicas="1")
        yield started


@pytest.fixture
def start_pods(plane: Plane) -> Iterator[Callable[..., CratePods]]:
    """Start a cluster of one's own, in a namespace of its own: one that may be broken."""
    with ExitStack() as started:

        def start(**options: Any) -> CratePods:
            name = f"c{next(_numbers)}"
            options.setdefault("back_off_s", 1.0)
            found = CratePods(plane, name=name, namespace=f"ns-{name}", **options)
            return started.enter_context(found)

        yield start


@pytest.fixture
def client_of(plane: Plane) -> Iterator[Callable[..., KubernetesClient]]:
    """Make clients: `client_of(pods)`, `client_of("namespace", token=...)`."""
    with ExitStack() as made:

        def make(
            where: CratePods | str, *, token: str = "", timeout_s: float = 20.0, **options: Any
        ) -> KubernetesClient:
            namespace = where if isinstance(where, str) else where.namespace
            settings = KubernetesSettings(
                kubeconfig=str(plane.kubeconfig(namespace, token)),
                request_timeout_s=timeout_s,
                **options,
            )
            return made.enter_context(KubernetesClient(settings))

        yield make


@pytest.fixture
def client(client_of: Callable[..., KubernetesClient], pods: CratePods) -> KubernetesClient:
    """Caretaker, as the administrator of the steady pods."""
    return client_of(pods)
