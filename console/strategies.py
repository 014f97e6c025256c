"""`caretaker strategies`, and `mz-clusterctl`: look at Materialize's clusters, or change them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from caretaker.errors import CaretakerError, InvalidSettingError
from console.environment import use_log_format
from console.options import log_format_option, output_option, with_config_file
from console.output import echo, print_json, print_table
from console.runs import RunEnd, deaf_to_stops, run_job
from ops.logs import LEVEL_VARIABLE, on_one_line
from ops.strategies_config import ClusterStrategiesConfig, WipeStrategyStateConfig
from resources.materialize.settings import DATABASE_URL, DatabaseSettings

_CODES = "Exit codes: 0 done, 1 error or an action failed, 2 usage, 3 refused and nothing touched."
_PURPOSE = (
    "Keep the replicas of Materialize's clusters as the rows of mz_cluster_strategies want. "
    f"{_CODES}"
)

#: Settings that are flags here: what is wrong with them is a matter of usage.
_FLAGS = {"cluster": "--cluster", "replica_sizes": "--replica-sizes"}


#: By the number of -v. What a person should know is on stdout, warnings among it.
_LEVELS = ("ERROR", "INFO", "DEBUG")


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Take the flags that every verb has; they may stand before it, too."""
    for option in reversed(
        (
            click.option("--cluster", metavar="RE", help="Only clusters whose name this is in."),
            click.option(
                "-v", "--verbose", count=True, help="-v tells what is done, -vv in detail."
            ),
            click.option(
                "--postgres-url", metavar="URL", help=f"Of Materialize.  [default: {DATABASE_URL}]"
            ),
            click.option(
                "--replica-sizes",
                metavar="LIST",
                help="Sizes that may be used, separated by commas.  [default: all there are]",
            ),
        )
    ):
        command = option(command)
    return command


def _config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The job's run config in YAML, limits among it; options win over it.",
    )(command)


def _program(name: str, called: str) -> click.Group:
    """Return the verbs as a group of this name; `called` is how the examples begin."""

    def examples(*lines: str) -> str:
        return "\b\nExamples:\n" + "".join(f"  {called} {line}\n" for line in lines)

    # Options of the group, and no verbs by prefix: `wipe` is not `wipe-state`.
    @click.group(
        name,
        help=_PURPOSE,
        epilog=examples("dry-run --cluster '^prod' -v", "apply"),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    @_shared
    @click.pass_context
    def group(context: click.Context, /, **given: Any) -> None:
        # What stands before the verb is the verb's own, unless it says otherwise behind it.
        told = {key: value for key, value in given.items() if value}
        context.default_map = dict.fromkeys(group.commands, told)

    @group.command(
        "dry-run",
        epilog=examples("dry-run", "dry-run --replica-sizes 25cc,50cc,100cc --output json"),
        help="Print the SQL that apply would run, in order, each statement with its reason. "
        f"Writes nothing, tables included. {_CODES}",
    )
    @_shared
    @_config_option
    @output_option
    @log_format_option
    def dry_run(**given: Any) -> None:
        sys.exit(_cycle(given, dry_run=True))

    @group.command(
        "apply",
        epilog=examples("apply", "apply --cluster '^prod' -v --config limits.yaml"),
        help=f"Run the SQL, one statement at a time, each written to the audit first. {_CODES}",
    )
    @_shared
    @_config_option
    @click.option("--dry-run", is_flag=True, help="The same as the verb dry-run.")
    @output_option
    @log_format_option
    def apply(*, dry_run: bool, **given: Any) -> None:
        sys.exit(_cycle(given, dry_run=dry_run))

    @group.command(
        "wipe-state",
        epilog=examples("wipe-state --cluster '^prod$'", "wipe-state --recreate --dry-run"),
        help="Forget cooldowns, and what was pending, in mz_cluster_strategy_state. "
        f"The strategies themselves and the audit stay. {_CODES}",
    )
    @_shared
    @click.option(
        "--recreate",
        is_flag=True,
        help="Drop and make again the tables of state, and of the audit where it has another "
        "shape; for all clusters.",
    )
    @click.option("--dry-run", is_flag=True, help="Only say how much would be forgotten.")
    @output_option
    @log_format_option
    def wipe_state(*, recreate: bool, dry_run: bool, **given: Any) -> None:
        sys.exit(_wipe(given, recreate=recreate, dry_run=dry_run))

    return group


def _prepare(given: Mapping[str, Any]) -> None:
    """Have the run and its steps find what the flags say where they look: in the environment."""
    use_log_format(given["log_format"])
    # Not quieter than somebody has asked for already: `apply` in a job of a CI has no -v.
    if given["verbose"] or LEVEL_VARIABLE not in os.environ:
        os.environ[LEVEL_VARIABLE] = _LEVELS[min(given["verbose"], len(_LEVELS) - 1)]
    if given["postgres_url"] is not None:
        os.environ[DATABASE_URL] = given["postgres_url"]
    # Before there is a run that would only fail.
    DatabaseSettings.from_url(os.environ.get(DATABASE_URL, ""))


def _cycle(given: Mapping[str, Any], *, dry_run: bool) -> int:
    sizes = given["replica_sizes"]
    flags = {
        "cluster": given["cluster"],
        "replica_sizes": None if sizes is None else [one.strip() for one in sizes.split(",")],
        "mode": "dry_run" if dry_run else "apply",
    }
    with _usage():
        config = with_config_file(given["config_file"], flags, ClusterStrategiesConfig)
    _prepare(given)
    end = run_job("cluster_strategies", config.model_dump(), outputs=("record",))
    with deaf_to_stops():
        told = end.outputs.get("record")
        if not isinstance(told, dict):
            raise _error(end)
        code = 0 if end.success else 1
        if given["output"] == "json":
            print_json({**told, "run_id": end.run_id, "exit_code": code})
        elif dry_run:
            _print_plan(told)
        else:
            _print_outcome(told)
    return code


def _wipe(given: Mapping[str, Any], *, recreate: bool, dry_run: bool) -> int:
    if recreate and given["cluster"]:
        raise click.UsageError("--recreate is for all clusters, and --cluster names some")
    if given["replica_sizes"]:
        raise click.UsageError("--replica-sizes has no meaning for wipe-state")
    flags = {"cluster": given["cluster"], "recreate": recreate, "dry_run": dry_run}
    with _usage():
        config = with_config_file(None, flags, WipeStrategyStateConfig)
    _prepare(given)
    end = run_job("wipe_strategy_state", config.model_dump(), outputs=("wipe",))
    told = end.outputs.get("wipe")
    if not end.success or not isinstance(told, dict):
        raise _error(end)
    if given["output"] == "json":
        print_json({**told, "run_id": end.run_id, "exit_code": 0})
        return 0
    would = "would be " if dry_run else ""
    if recreate:
        echo(f"{would}made again: {', '.join(told['recreated']) or 'nothing'}")
    else:
        of = (
            "" if told["clusters"] is None else f" of {', '.join(told['clusters']) or 'no cluster'}"
        )
        echo(f"{told['rows']} rows of state{of} {would}forgotten")
    return 0


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """Make what is wrong with a flag a matter of usage; a file's key stays an error."""
    try:
        yield
    except InvalidSettingError as error:
        if error.key not in _FLAGS.values():
            raise
        raise click.UsageError(str(error)) from None


def _error(end: RunEnd) -> CaretakerError | click.UsageError:
    """Return what a verb raises that has nothing to show: a size may be unknown to the server."""
    if flag := _FLAGS.get(end.target):
        return click.UsageError(end.failure.replace(end.target, flag, 1))
    return end.error()


def _print_plan(told: Mapping[str, Any]) -> None:
    """Print SQL that can be pasted as it stands; what is no SQL is a comment."""
    cluster = ""
    for action in told["actions"]:
        if action["cluster"] != cluster:
            cluster = action["cluster"]
            echo(on_one_line(f"-- {cluster}"))
        price = _price(action["credits_per_hour_delta"])
        echo(on_one_line(f"-- {action['strategy']}: {action['reason']} ({price})"))
        echo(f"{action['sql']};")
    _print_rest(told, "-- ")
    echo(f"-- {_count(told)}; {_price(told['credits_per_hour_delta'])}; nothing was changed")


def _print_outcome(told: Mapping[str, Any]) -> None:
    if told["actions"]:
        print_table(
            ["cluster", "action", "strategy", "state", "credits/h", "reason"],
            [
                [
                    action["cluster"],
                    action["sql"],
                    action["strategy"],
                    action["state"],
                    _signed(action["credits_per_hour_delta"]),
                    action["error"] or action["reason"],
                ]
                for action in told["actions"]
            ],
        )
        echo()
    _print_rest(told, "")
    states = [action["state"] for action in told["actions"]]
    counts = [f"{states.count(state)} {state.replace('_', ' ')}" for state in dict.fromkeys(states)]
    echo(f"{_count(told)}{': ' if counts else ''}{', '.join(counts)}")


def _print_rest(told: Mapping[str, Any], comment: str) -> None:
    for each in told["held"]:
        _say(comment, f"{each['cluster']}, {each['strategy']}: held: {each['reason']}")
    for each in told["skipped"]:
        _say(comment, f"{each['cluster']}: left alone: {each['reason']}")
    for each in told["problems"]:
        of = f"{each['cluster']}, {each['strategy']}" if each["strategy"] else each["cluster"]
        _say(comment, f"{of}: problem: {each['message']}")
    for reason in (*told["stood_back"], *told["warnings"]):
        _say(comment, reason)


def _say(comment: str, text: str) -> None:
    echo(on_one_line(f"{comment}{text}"))


def _count(told: Mapping[str, Any]) -> str:
    count, clusters = len(told["actions"]), told["clusters"]
    return (
        f"{count} action{'' if count == 1 else 's'} on {clusters} cluster"
        f"{'' if clusters == 1 else 's'} with strategies"
    )


def _price(delta: float | None) -> str:
    return f"{_signed(delta)} credits/h"


def _signed(delta: float | None) -> str:
    return "unknown" if delta is None else f"{delta:+g}"


strategies = _program("strategies", "caretaker strategies")
clusterctl = _program("mz-clusterctl", "mz-clusterctl")
