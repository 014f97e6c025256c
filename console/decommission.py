"""`caretaker decommission` and `caretaker restart`: by the very jobs that the UI shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from caretaker.decommission.steps import RestartOutcome
from caretaker.errors import CaretakerError, CaseError, InvalidSettingError, UnsafeError
from console.decommission_explain import explain
from console.environment import use_log_format
from console.options import kube_options, log_format_option, output_option, with_config_file
from console.output import echo, print_json, print_table
from console.runs import RunEnd, deaf_to_stops, run_job
from console.stores import open_store
from ops.decommission_begin import stop
from ops.decommission_config import PodDecommissionConfig, RollingRestartConfig
from ops.decommission_run import ClusterReport, RestartReport, left_open
from ops.decommission_way import Way
from ops.logs import on_one_line
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import KubernetesSettings
from resources.state_store import RestartRow

F = TypeVar("F", bound=Callable[..., Any])

_DECOMMISSION = """\b
Examples:
  caretaker decommission crate-data-hot-prod-2 --dry-run
  caretaker decommission --explain crate-data-hot-prod --output json
"""
_RESTART = """\b
Examples:
  caretaker restart prod --dry-run
  caretaker restart prod --only-cordoned --windows windows.toml
"""


def _shared(command: F) -> F:
    """Options that one pod's decommission and a restart have in common."""
    for option in reversed(
        (
            click.option(
                "--timeout",
                "timeout_s",
                type=float,
                metavar="SECONDS",
                help="How long a drain may take.  [default: the hook's own, or 720]",
            ),
            click.option(
                "--dc-util-pattern", metavar="RE", help="What else counts as dc_util in a hook."
            ),
            click.option("--container", help="Name of the CrateDB container.  [default: crate]"),
            click.option(
                "--allocation-mode",
                metavar="M",
                help="all, primaries or new_primaries during a drain.  [default: primaries]",
            ),
            click.option("--min-availability", help="PRIMARIES or FULL.  [default: PRIMARIES]"),
            click.option(
                "--delete-when",
                help="drained: in the seconds before the process ends; or exited."
                "  [default: drained]",
            ),
            click.option(
                "--recreate-pod",
                is_flag=True,
                default=None,
                help="Insist on a new pod where the process ended before.",
            ),
            click.option(
                "--force-delete",
                is_flag=True,
                default=None,
                help="Force-delete a pod that is stuck in Terminating, its node being out.",
            ),
            click.option("--expected-nodes", type=int, help="Refuse unless so many are present."),
            click.option("--windows", metavar="FILE", help="Maintenance windows in TOML."),
            click.option(
                "--require-window",
                is_flag=True,
                default=None,
                help="Refuse where no window is configured for the cluster.",
            ),
            click.option(
                "--sql",
                metavar="WAY",
                help="auto, exec (in the pods) or address (CRATE_CONNECTION_STRING)."
                "  [default: auto]",
            ),
            kube_options,
            click.option("--dry-run", is_flag=True, help="Print the whole plan; change nothing."),
            click.option(
                "--config",
                "config_file",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="The job's run config in YAML; options win over it.",
            ),
            output_option,
            log_format_option,
        )
    ):
        command = option(command)
    return command


@click.command(
    "decommission",
    epilog=_DECOMMISSION,
    help="Take one CrateDB node out of its cluster: by its preStop hook where that runs dc_util, "
    "else by ALTER CLUSTER DECOMMISSION. Its pod is made anew, which is not waited for: `caretaker "
    "restart CLUSTER --pod POD` does. Exit codes: 0 done, 1 failed, 2 "
    "usage, 3 refused by a safety check, nothing touched.",
)
@click.argument("pod", required=False)
@click.option(
    "--explain",
    metavar="POD|STATEFULSET|CLUSTER",
    help="Only say how its nodes would be drained, and why.",
)
@_shared
def decommission(
    *,
    pod: str | None,
    explain: str | None,
    dry_run: bool,
    config_file: Path | None,
    output: str,
    log_format: str | None,
    **flags: Any,
) -> None:
    """Run the job for one pod, or only explain."""
    use_log_format(log_format)
    if explain is not None:
        if pod is not None:
            raise click.UsageError("--explain NAME stands alone: it decommissions nothing")
        _explain(explain, config_file, flags, output)
        return
    config = with_config_file(config_file, {**flags, "pod": pod}, PodDecommissionConfig)
    options = {**config.model_dump(), "dry_run": dry_run or config.dry_run}
    end = run_job("pod_decommission", options, outputs=("record_restart",))
    with deaf_to_stops():
        report = _report(end, "record_restart")
        if output == "json" and not report.dry_run:
            print_json(_one_pod(report, config.pod))
        else:
            _print(report, output)
    sys.exit(report.exit_code)


@click.command(
    "restart",
    epilog=_RESTART,
    help="Restart CrateDB clusters one pod at a time: highest ordinal first, the elected master "
    "last, GREEN and at rest between two pods; stop at the first failure. `all` stands for every "
    "cluster of the namespace. Exit codes: 0 done, 1 failed, 2 usage, 3 refused by a safety "
    "check, nothing touched.",
)
@click.argument("clusters", nargs=-1, metavar="CLUSTER...|all")
@click.option("--pod", "pods", multiple=True, metavar="POD", help="Only this one; may be repeated.")
@click.option(
    "--only-cordoned",
    is_flag=True,
    default=None,
    help="Only pods on machines that are cordoned or suspended.",
)
@click.option("--yes", is_flag=True, help="Do not ask before all clusters are restarted.")
@_shared
def restart(
    *,
    clusters: tuple[str, ...],
    pods: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    config_file: Path | None,
    output: str,
    log_format: str | None,
    **flags: Any,
) -> None:
    """Run the job for some clusters, or print its plan."""
    use_log_format(log_format)
    given = {**flags, "clusters": list(clusters) or None, "pods": list(pods) or None}
    config = with_config_file(config_file, given, RollingRestartConfig)
    if config.ticket_id is not None:
        allowed = f"no such key beside clusters: caretaker tickets restore r{config.ticket_id}"
        raise InvalidSettingError(f"{config_file}: ticket_id", config.ticket_id, allowed)
    if not config.clusters:
        raise click.UsageError("name the CLUSTER, or `all`")
    options = {**config.model_dump(), "dry_run": dry_run or config.dry_run}
    if "all" in config.clusters:
        if config.clusters != ["all"]:
            raise click.UsageError("`all` stands alone")
        if not options["dry_run"]:
            _ask_about_all(options, yes=yes)
    end = run_job("rolling_restart", options, outputs=("record_restarts",))
    with deaf_to_stops():
        report = _report(end, "record_restarts")
        _print(report, output)
    sys.exit(report.exit_code)


def _ask_about_all(options: dict[str, Any], *, yes: bool) -> None:
    """Print the plan of every cluster and ask; without a terminal only --yes goes on."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("`all` asks before it begins; without a terminal say --yes")
    end = run_job("rolling_restart", {**options, "dry_run": True}, outputs=("record_restarts",))
    _print(_report(end, "record_restarts"), "table", err=True)
    if not click.confirm("Restart all of these?", err=True):
        raise click.Abort


def _explain(name: str, config_file: Path | None, flags: dict[str, Any], output: str) -> None:
    config = with_config_file(config_file, {**flags, "pod": name}, PodDecommissionConfig)
    way = Way(config.context, config.namespace)
    settings = way.settings(KubernetesSettings.from_environment(os.environ))
    with KubernetesClient(settings) as kube:
        found = explain(kube, name, config.policy())
    if output == "json":
        print_json(found)
        return
    if not found["pods"]:
        echo(f"{name}: no pod is there to be drained")
    for each in found["pods"]:
        echo(f"{each['name']}: {each['strategy']}, timeout {each['timeout_s']:g} s")
        for line in (*each["explanation"], *(f"WARNING: {text}" for text in each["warnings"])):
            echo(f"  {on_one_line(line)}")


def _report(end: RunEnd, step: str) -> RestartReport:
    """Return what a run did; one that did not reach its end left a ticket, or nothing."""
    report = end.outputs.get(step)
    if isinstance(report, RestartReport):
        return report
    try:
        with open_store() as store:
            left = [row for row in store.open_restarts() if row.owner.run_id == end.run_id]
    except CaretakerError as error:
        if not end.began:
            raise end.error() from error
        raise CaretakerError(
            f"the run ended early ({end.failure}), and what it did cannot be read: {error}"
        ) from error
    if not left:
        raise end.error()
    if end.stops == 1:
        # The wish came while a step was being made ready: what is owed is put back all the same.
        with open_store() as store:
            for row in left:
                stop(store, row.id, row.epoch)
        return finish(left)
    why = end.failure or "stopped"
    return RestartReport(tuple(left_open(row, row.ticket, why) for row in left))


def finish(
    rows: Sequence[RestartRow], *, stopped: bool = False, alone: bool = False
) -> RestartReport:
    """Take each over, one after the other: put back what is owed, and resume.

    One that cannot be taken over is told as such and keeps no other waiting, unless it is all that
    was asked for (`alone`): then its error is raised. A stop is one of all.
    """
    reports: list[ClusterReport] = []
    for row in rows:
        if stopped:
            reports.append(_unfinished(row, CaretakerError("stopped before it was taken over")))
            continue
        end = run_job("rolling_restart", {"ticket_id": row.id}, outputs=("record_restarts",))
        report, stopped = end.outputs.get("record_restarts"), end.stops > 0
        if isinstance(report, RestartReport):
            reports += report.clusters
        elif alone:
            raise end.error()
        else:
            reports.append(_unfinished(row, end.error()))
    return RestartReport(tuple(reports))


def _unfinished(row: RestartRow, error: CaretakerError) -> ClusterReport:
    """Return the report of a restart whose takeover ended early, by what the store knows by now."""
    with open_store() as store:
        row = store.restart(row.id)
    report = ClusterReport(
        row.namespace,
        row.cluster_name,
        row.cluster_id,
        row.outcome or RestartOutcome.REFUSED.value,
        row.reason or error.sentence,
        restart_id=row.id,
    )
    if row.closed_at is not None or isinstance(error, UnsafeError):
        return report
    try:
        return left_open(row, row.ticket, error.sentence)
    except CaseError:
        # Of a newer version: what it owes is for that one to say.
        return replace(report, outcome="LEFT_OPEN")


def _one_pod(report: RestartReport, pod: str) -> dict[str, Any]:
    """Return the result of one pod, flat, as `decommission --output json` prints it."""
    whole = document(report)
    cluster = whole["clusters"][0] if whole["clusters"] else {"pods": []}
    pods: list[dict[str, Any]] = cluster["pods"]
    found = next((each for each in pods if each["pod_name"] == pod), {})
    return {
        **found,
        "outcome": cluster.get("outcome"),
        "reason": cluster.get("reason"),
        "cluster": cluster.get("cluster"),
        "remedy": cluster.get("remedy", []),
        "ticket": cluster.get("ticket"),
        "exit_code": whole["exit_code"],
    }


def document(report: RestartReport) -> dict[str, Any]:
    """Return the document of `restart --output json`, whose keys are a contract."""
    return {
        "clusters": [_cluster(each, dry_run=report.dry_run) for each in report.clusters],
        "dry_run": report.dry_run,
        "exit_code": report.exit_code,
    }


def _cluster(report: ClusterReport, *, dry_run: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cluster": report.name,
        "namespace": report.namespace,
        "cluster_id": report.cluster_id or None,
        "outcome": report.outcome,
        "reason": report.reason or None,
        "ticket": f"r{report.restart_id}" if report.restart_id is not None else None,
        "remedy": list(report.remedy),
    }
    if dry_run:
        found["plan"] = [
            {
                "pod_name": each.pod,
                "strategy": each.strategy,
                "actions": list(each.actions),
                "refusals": list(each.refusals),
                "explanation": list(each.explanation),
                "warnings": list(each.warnings),
            }
            for each in report.plan
        ]
    else:
        found["pods"] = [
            {**each.as_document(), "duration_s": round(each.duration, 3)} for each in report.results
        ]
    return found


def _print(report: RestartReport, output: str, *, err: bool = False) -> None:
    if output == "json":
        print_json(document(report))
        return
    tell: Callable[[str], None] = (lambda text: click.echo(text, err=True)) if err else echo
    for each in report.clusters:
        tell(on_one_line(f"{each.namespace}/{each.name}: {each.outcome} {each.reason}".rstrip()))
        for pod in each.plan:
            tell(f"  {pod.pod} ({pod.strategy})")
            for line in pod.refusals:
                tell(on_one_line(f"    refused: {line}"))
            for number, action in enumerate(pod.actions, start=1):
                tell(on_one_line(f"    {number}. {action}"))
            for line in pod.warnings:
                tell(on_one_line(f"    WARNING: {line}"))
        if each.results and not err:
            print_table(_COLUMNS, _rows(each))
        for line in each.remedy:
            tell(f"  run: {line};")


_COLUMNS = ["pod", "strategy", "result", "seconds", "in place", "note"]


def _rows(report: ClusterReport) -> Sequence[Sequence[object]]:
    return [
        [
            each.pod_name,
            each.strategy_used,
            "done" if each.success else "failed" if each.started_at else "not begun",
            each.duration,
            "yes" if each.restarted_in_place else None,
            each.error or "; ".join(each.notes) or None,
        ]
        for each in report.results
    ]
