"""Kubernetes as a Dagster resource."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import CONTEXT, KUBECONFIG, KubernetesSettings
from resources.variables import bound

#: Which field takes the value of which variable.
_VARIABLES = {"kubeconfig": KUBECONFIG, "context": CONTEXT}


class KubernetesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A Kubernetes cluster; the fields take the very texts of `KUBECONFIG` and the context's name.

    All empty means what kubectl would do, and in a pod its own service account.
    """

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    request_timeout_s: float = 30.0

    @classmethod
    def from_variables(cls, environ: Mapping[str, str] = os.environ) -> KubernetesResource:
        """Bind each field to its variable, where that is set."""
        return cls(**bound(_VARIABLES, environ))

    @property
    def settings(self) -> KubernetesSettings:
        """The fields; whether they lead anywhere is seen when a client is made."""
        return KubernetesSettings(
            kubeconfig=self.kubeconfig.strip(),
            context=self.context.strip(),
            namespace=self.namespace,
            request_timeout_s=self.request_timeout_s,
        )

    @contextmanager
    def client(self) -> Iterator[KubernetesClient]:
        """A client for the length of the block; nothing is sent before it is used."""
        with KubernetesClient(self.settings) as client:
            yield client
