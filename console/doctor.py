"""`caretaker doctor`: what works, what a wing would refuse, and what to change. Read-only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click

from caretaker.binlog import preflight
from caretaker.decommission.model import ClusterRef, Observation
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.preflight import judge
from caretaker.decommission.restart import begin
from caretaker.decommission.strategy import detect
from caretaker.decommission.turns import in_turn, next_pod
from caretaker.errors import CaretakerError
from caretaker.translog.model import ClusterObservation
from caretaker.translog.policy import ResetPolicy
from caretaker.translog.preflight import refusals
from console.diagnosis import Diagnosis
from console.doctor_materialize import materialize
from console.environment import require_dagster_home
from console.options import output_option
from console.output import print_json, print_table
from console.stores import open_store
from ops.decommission_way import Way, crates_of
from resources.clock import utc_now
from resources.cratedb.client import CrateDBClient
from resources.cratedb.resource import CrateDBResource
from resources.cratedb.restarts import look
from resources.cratedb.settings import CONNECTION_STRING, CrateDBSettings
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.clusters import ClusterFound
from resources.kubernetes.rights import CRATEDBS
from resources.kubernetes.settings import DEFAULT_KUBECONFIG, KUBECONFIG, KubernetesSettings
from resources.mongodb.settings import URI, MongoDBSettings
from resources.mongodb.trail import Trail
from resources.mysql.follower import follower
from resources.mysql.settings import MYSQL_URL
from resources.mysql.source import open_source
from resources.state_store import RestartRow, StateStore, state_url
from resources.state_store.restarts import already_open

_EXAMPLES = """\b
Examples:
  caretaker doctor                     every configured system
  caretaker doctor crate --output json
"""


def _dagster() -> Iterator[Diagnosis]:
    home = require_dagster_home()
    yield Diagnosis("dagster", "home", "ok", str(home))
    config = home / "dagster.yaml"
    found = "ok" if config.is_file() else "warn"
    detail = str(config) if config.is_file() else f"no {config}: copy dagster.yaml of the project"
    yield Diagnosis("dagster", "dagster.yaml", found, detail)


def _state() -> Iterator[Diagnosis]:
    url = state_url(os.environ)
    with StateStore.open(url) as store:
        waiting = [*store.open_tickets(), *store.open_restarts()]
        shown = url.render_as_string(hide_password=True)
        yield Diagnosis("state", "store", "ok", shown)
    detail = f"{len(waiting)} open: caretaker tickets" if waiting else "none open"
    yield Diagnosis("state", "tickets", "warn" if waiting else "ok", detail)


def _crate() -> Iterator[Diagnosis]:
    if not os.environ.get(CONNECTION_STRING):
        yield Diagnosis("crate", "connection", "off", f"{CONNECTION_STRING} is not set")
        return
    with CrateDBClient(CrateDBSettings.from_environment(os.environ)) as crate:
        connected = crate.connect()
        versions = ", ".join(sorted(set(connected.versions.values())))
        detail = f"{connected.cluster_name}, {len(connected.versions)} nodes, CrateDB {versions}"
        yield Diagnosis("crate", "connection", "ok", detail)
        for host, reason in connected.unreachable.items():
            yield Diagnosis("crate", host, "warn", reason)
        cluster = crate.observe_cluster()
        yield _privileges(cluster)
        reasons = refusals(cluster, ResetPolicy())
        for reason in reasons:
            yield Diagnosis("crate", "preflight", "warn", f"a reset would refuse: {reason}")
        if not reasons:
            yield Diagnosis("crate", "preflight", "ok", "a reset may begin")


def _privileges(cluster: ClusterObservation) -> Diagnosis:
    detail = f"{cluster.user} sees {cluster.visible_tables} tables and partitions"
    if cluster.superuser:
        detail += " (superuser: more than a reset needs)"
    status = "ok" if cluster.visible_tables or cluster.superuser else "warn"
    if status == "warn":
        detail += ": GRANT DQL ON SCHEMA sys and DDL ON the schemas to look after"
    return Diagnosis("crate", "privileges", status, detail)


def _mysql() -> Iterator[Diagnosis]:
    url = os.environ.get(MYSQL_URL, "")
    if not url:
        yield Diagnosis("mysql", "connection", "off", f"{MYSQL_URL} is not set")
        return
    # Under another name than the sync's, whose dump a question must not end.
    with open_source(url, "doctor") as source:
        facts = source.facts()
        problems = preflight.problems(facts, follower("audit", source.settings.server_id))
        yield Diagnosis("mysql", "connection", "ok", f"{facts.version} as {facts.user}")
        if facts.progression is not None:
            newest = facts.progression.position
            detail = (
                f"by {facts.progression.mode}, {len(facts.progression.logs)} binlogs to {newest}"
            )
            yield Diagnosis("mysql", "binlog", "ok", detail)
        for problem in problems:
            status = "fail" if problem.blocking else "warn"
            yield Diagnosis("mysql", problem.setting, status, str(problem))
        if not any(problem.blocking for problem in problems):
            yield Diagnosis("mysql", "preflight", "ok", "a sync may begin")


def _mongodb() -> Iterator[Diagnosis]:
    if not os.environ.get(URI):
        yield Diagnosis("mongodb", "connection", "off", f"{URI} is not set")
        return
    settings = MongoDBSettings.from_environment(os.environ)
    with Trail.open_to_read(settings) as trail:
        missing = trail.check()
        yield Diagnosis("mongodb", "connection", "ok", settings.place)
        if trail.announces_transactions():
            yield Diagnosis("mongodb", "transactions", "ok", "announced; each run proves them")
        else:
            detail = (
                "it is no replica set, so a sync would refuse: --replSet and rs.initiate(), or "
                "--protocol idempotent"
            )
            yield Diagnosis("mongodb", "transactions", "warn", detail)
        for problem in missing:
            yield Diagnosis("mongodb", "layout", "warn", f"{problem.found}: {problem.fix}")
        if not missing:
            yield Diagnosis("mongodb", "layout", "ok", "collections and indexes are there")
        for offset in trail.reads.sources():
            paused = f", paused by {offset.paused.by}" if offset.paused is not None else ""
            told = f"seq {offset.seq}, epoch {offset.epoch}{paused}"
            yield Diagnosis("mongodb", f"source {offset.source}", "ok", told)


def _kubernetes() -> Iterator[Diagnosis]:
    settings = KubernetesSettings.from_environment(os.environ)
    named = settings.kubeconfig or settings.context or os.environ.get("KUBERNETES_SERVICE_HOST")
    if not named and not Path(DEFAULT_KUBECONFIG).expanduser().is_file():
        yield Diagnosis("kubernetes", "connection", "off", f"{KUBECONFIG} is not set")
        return
    with KubernetesClient(settings) as kube:
        detail = f"{kube.version()}, context {kube.context}, namespace {kube.namespace}"
        yield Diagnosis("kubernetes", "connection", "ok", detail)
        missing = kube.missing_rights()
        # Machines are read for --only-cordoned alone, the operator's resources for names.
        spared = {"nodes", CRATEDBS}
        if os.environ.get(CONNECTION_STRING):
            # For `--sql address`.
            spared.add("pods/exec")
        for each in missing:
            status = "warn" if each.resource in spared else "fail"
            yield Diagnosis("kubernetes", "rights", status, f"may not {each.missing}; {each.hint}")
        if not missing:
            yield Diagnosis("kubernetes", "rights", "ok", "everything that a restart needs")
        clusters = kube.clusters()
        begun: list[RestartRow] = []
        try:
            with open_store() as store:
                begun = store.open_restarts()
        except CaretakerError as error:
            yield Diagnosis("kubernetes", "restarts", "warn", error.sentence)
        if not clusters:
            yield Diagnosis("kubernetes", "clusters", "warn", f"none in {kube.namespace}")
        for found in clusters:
            try:
                yield from _cluster(kube, found, begun)
            except CaretakerError as error:
                yield Diagnosis("kubernetes", str(found.ref), "warn", error.sentence)


def _cluster(
    kube: KubernetesClient, found: ClusterFound, begun: list[RestartRow]
) -> Iterator[Diagnosis]:
    """Say how a cluster's nodes would be drained, and what would make a restart refuse now."""
    policy, name = RestartPolicy(), str(found.ref)
    seen = kube.seen(found)
    sets = ", ".join(
        f"{each.name} ({detect(each, policy).strategy.value})" for each in seen.statefulsets
    )
    ready = sum(pod.ready for pod in seen.pods)
    yield Diagnosis("kubernetes", name, "ok", f"{sets}; {ready} of {len(seen.pods)} pods Ready")
    with crates_of(
        kube,
        seen,
        Way(sql="exec"),
        CrateDBResource(),
        namespace=found.ref.namespace,
        container=policy.container,
        statement_timeout_s=policy.statement_timeout_s,
    ) as (crates, cluster_id):
        if ours := [row for row in begun if row.cluster_id == cluster_id]:
            # Its restriction would be seen, and told as somebody else's.
            detail = f"a restart would refuse: {already_open(ours[0]).sentence}"
            yield Diagnosis("kubernetes", name, "warn", detail)
            return
        pods = in_turn(pod for pod in seen.pods if pod.ready and pod.deletion_at is None)
        crate = replace(look(crates.in_pod(pods[-1].name)), can_decommission=True)
    ref = ClusterRef(found.ref.namespace, found.ref.name, cluster_id)
    ticket = begin(ref, seen.pods, seen, policy, utc_now())
    first = next_pod(ticket.pending, crate)
    verdict = judge(Observation(seen, crate), ticket, first.name, policy) if first else []
    for reason in verdict if isinstance(verdict, list) else ():
        detail = f"a restart would refuse: {reason.sentence}"
        yield Diagnosis("kubernetes", name, "warn", detail)
    if not isinstance(verdict, list):
        yield Diagnosis("kubernetes", name, "ok", "a restart may begin")


_SYSTEMS: dict[str, Callable[[], Iterator[Diagnosis]]] = {
    "dagster": _dagster,
    "state": _state,
    "crate": _crate,
    "kubernetes": _kubernetes,
    "mysql": _mysql,
    "mongodb": _mongodb,
    "materialize": materialize,
}


@click.command(
    "doctor",
    epilog=_EXAMPLES,
    help="Reach every configured system and say what works, what would make a wing refuse, and "
    "what to change. Changes nothing. Exits with 1 if something cannot work.",
)
@click.argument("system", required=False, type=click.Choice(sorted(_SYSTEMS)))
@output_option
def doctor(*, system: str | None, output: str) -> None:
    """Examine one system, or all."""
    found = [d for name in ([system] if system else _SYSTEMS) for d in _examined(name)]
    failed = any(diagnosis.status == "fail" for diagnosis in found)
    if output == "json":
        print_json({"checks": [d._asdict() for d in found], "ok": not failed})
    else:
        print_table(["system", "check", "status", "detail"], found)
    sys.exit(1 if failed else 0)


def _examined(system: str) -> Iterator[Diagnosis]:
    try:
        yield from _SYSTEMS[system]()
    except CaretakerError as error:
        yield Diagnosis(system, "reach", "fail", error.sentence)
