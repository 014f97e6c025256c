"""How a cluster's pods and its CrateDB are reached, and how whoever takes over reaches them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caretaker.decommission.model import KubeSeen
from caretaker.decommission.turns import in_turn
from caretaker.decommission.windows import ClusterWindows, parse_windows
from caretaker.errors import (
    CaretakerError,
    InvalidSettingError,
    RefusedError,
    TransientError,
    UnsafeError,
)
from resources.cratedb.client import CrateDBClient
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.restarts import one
from resources.kubernetes.answers import FORBIDDEN
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.pod_sql import PodCrateDBClient
from resources.kubernetes.settings import KubernetesSettings
from resources.sql import cratedb as sql

#: Statements inside a pod beside a drain; a pod that hangs must not hold up the look.
PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Way:
    """What a takeover must know to reach the same cluster; kept with the ticket.

    Attributes:
        context: The operator's choice; of a restart that was begun, the one that it had.
        server: The API server with which a restart was begun, '' for one that was not.
        windows: The text of the file with maintenance windows, '' for none: the file itself may
            have changed, or be on another machine.
    """

    context: str = ""
    namespace: str = ""
    sql: str = "auto"
    windows: str = ""
    server: str = ""

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "context": self.context,
            "namespace": self.namespace,
            "sql": self.sql,
            "windows": self.windows,
            "server": self.server,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Way:
        """Return what was kept."""
        known = {name: str(document.get(name) or "") for name in cls.__dataclass_fields__}
        return cls(**{**known, "sql": known["sql"] or "auto"})

    def begun_with(self, kube: KubernetesClient) -> Way:
        """Return it with what it has led to, to be kept."""
        return replace(self, context=kube.context, server=kube.server)

    @property
    def parsed_windows(self) -> dict[str, ClusterWindows]:
        """The windows by cluster; UnsafeError where the text cannot be understood."""
        return parse_windows(self.windows) if self.windows else {}

    def settings(self, found: KubernetesSettings) -> KubernetesSettings:
        """These settings, with this context and namespace where they are given."""
        return replace(
            found,
            context=self.context or found.context,
            context_from="--context" if self.context else found.context_from,
            namespace=self.namespace or found.namespace,
        )


@contextmanager
def kube_again(way: Way, found: KubernetesSettings) -> Iterator[KubernetesClient]:
    """A client for the Kubernetes of a restart that somebody else began, by its context.

    Here there may be no such context, as in a pod of that very Kubernetes: then the client is for
    what `found` says, and whether the cluster is the same is for the caller to see.
    """
    try:
        client = KubernetesClient(way.settings(found))
    except InvalidSettingError:
        client = KubernetesClient(replace(way, context="").settings(found))
    with client:
        yield client


def windows_text(path: str | None) -> str:
    """Return the text of a windows file, checked; one that is not there refuses, too."""
    if not path:
        return ""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UnsafeError(f"--windows: {path} cannot be read ({reason})", target=path) from None
    parse_windows(text, path)
    return text


@dataclass
class Crates:
    """CrateDB, by exec in a pod or by its address.

    Attributes:
        address: A client of CRATE_CONNECTION_STRING; None where everything goes by exec.
        execs: Whether exec in the pods is possible, None where it was not tried.
        note: Why an address that is configured is not used; '' where it is, or there is none.
    """

    kube: KubernetesClient
    namespace: str
    container: str
    statement_timeout_s: float
    address: CrateDBClient | None = None
    execs: bool | None = None
    superuser: bool | None = None
    note: str = ""
    _by_pod: dict[str, PodCrateDBClient] = field(default_factory=dict)

    @property
    def direct(self) -> CrateDBClient | None:
        """The address, where changes may go by it: its user is the superuser, or nothing else."""
        return self.address if self.superuser or not self.execs else None

    def in_pod(self, pod: str) -> CrateDBClient:
        """Return a client of the CrateDB in a pod."""
        if pod not in self._by_pod:
            self._by_pod[pod] = self.kube.crate(
                pod,
                self.namespace,
                container=self.container,
                statement_timeout_s=self.statement_timeout_s,
            )
        return self._by_pod[pod]

    def probe(self, pod: str) -> CrateDBClient:
        """Return a client for a node that may not answer any more: how is asked of the others."""
        found = (client.scheme for client in self._by_pod.values())
        return self.kube.crate(
            pod,
            self.namespace,
            container=self.container,
            scheme=next(filter(None, found), ""),
            statement_timeout_s=PROBE_TIMEOUT_S,
        )


@contextmanager
def crates_of(
    kube: KubernetesClient,
    seen: KubeSeen,
    way: Way,
    cratedb: CrateDBResource,
    *,
    namespace: str,
    container: str,
    statement_timeout_s: float,
) -> Iterator[tuple[Crates, str]]:
    """Return the way to a cluster's CrateDB, and which cluster it is.

    An address is believed only where a pod's own CrateDB names the same cluster, with a node at the
    same place: two clusters in two namespaces may have the very same names, and one that was made
    from copies of the other's volumes has its ids, too. One that is not, or does not answer, is not
    used where exec is possible; `sql: address` insists on it, and is the operator's word for it
    where exec is not possible.
    """
    found = Crates(kube, namespace, container, statement_timeout_s)
    told, witness, why = "", "", CaretakerError("no pod is Ready")
    for pod in reversed(in_turn(pod for pod in seen.pods if pod.ready and not pod.deletion_at)):
        try:
            told = str(one(found.in_pod(pod.name), sql.CLUSTER_IDENTITY)[0])
        except CaretakerError as error:
            why = error
            found.execs = False
            continue
        found.execs, witness = True, pod.name
        break
    wanted = way.sql == "address" or (way.sql == "auto" and cratedb.hosts.strip())
    if not wanted:
        if not told:
            raise _unreachable(why)
        yield found, told
        return
    if not cratedb.hosts.strip():
        expected = "the address of the cluster, because sql is 'address'"
        raise InvalidSettingError("CRATE_CONNECTION_STRING", None, expected)
    if not told and way.sql != "address":
        forbidden = isinstance(why, RefusedError) and why.status == FORBIDDEN
        raise UnsafeError(
            f"whether CRATE_CONNECTION_STRING leads to this cluster cannot be seen: {why}",
            hint="--sql address says that it does" if forbidden else why.hint,
        )
    with cratedb.client() as address:
        try:
            told = _identity(address, told, found.in_pod(witness) if told else None)
        except CaretakerError as error:
            if way.sql == "address":
                raise
            found.note = f"CRATE_CONNECTION_STRING is not used, SQL goes by exec in pods: {error}"
        else:
            found.address, found.superuser = address, _superuser(address)
        yield found, told


def _identity(address: CrateDBClient, told: str, witness: CrateDBClient | None) -> str:
    """Return which cluster an address leads to; UnsafeError where it is not that of the pods."""
    answered = address.connect(for_restore=True).cluster_id
    if witness is not None and (answered != told or not _share_a_node(witness, address)):
        other = f"cluster {answered}" if answered != told else "a copy of it elsewhere"
        raise UnsafeError(
            f"CRATE_CONNECTION_STRING leads to {other}, and the pods are cluster {told}",
            target=told,
        )
    return answered


def _share_a_node(one_way: CrateDBClient, other: CrateDBClient) -> bool:
    """Tell whether both know a node of the same id at the same address."""
    first, second = (
        {tuple(row) for row in crate.read(sql.Statement(sql.NODE_ADDRESSES)) if row[1]}
        for crate in (one_way, other)
    )
    return bool(first & second)


def _unreachable(why: CaretakerError) -> CaretakerError:
    if isinstance(why, TransientError):
        return TransientError(f"CrateDB does not answer in its pods: {why}", target=why.target)
    return RefusedError(
        f"CrateDB does not answer in its pods: {why}", target=why.target, hint=why.hint
    )


def _superuser(address: CrateDBClient) -> bool | None:
    try:
        user = one(address, sql.RESTART_CLUSTER)[-1]
        rows = address.read(sql.Statement(sql.SUPERUSER, (user,)))
    except CaretakerError:
        return None
    return bool(rows and rows[0][0])
