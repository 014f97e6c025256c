"""`caretaker lab`: a CrateDB of pure Python on loopback, to try everything on, and to break."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caretaker.errors import RefusedError
from console.options import output_option
from console.output import echo, print_json, print_table
from resources.process import owner_of_run, pid_exists

if TYPE_CHECKING:
    from lab.control import LabControl

_HANDLE = Path(".caretaker") / "lab.json"
_STOP_WITHIN_S = 10.0
#: 0: any that is free. The nodes take the ports that follow the first, too.
_PORT = click.IntRange(0, 65535 - 8)

#: What each name asks of the lab: a rule for statements, or a lever and the argument it takes.
_RULES: dict[str, dict[str, Any]] = {
    "slow": {"action": "latency", "seconds": 2.0},
    "refuse": {"action": "refuse"},
    "hang-alter": {"match": "(?i)^alter table", "action": "hang", "times": 1},
    "late-alter": {"match": "(?i)^alter table", "action": "late", "seconds": 20, "times": 1},
    "reset-alter": {"match": "(?i)^alter table", "action": "reset_after", "times": 1},
    "refuse-optimize": {
        "match": "(?i)^optimize",
        "action": "error",
        "status": 400,
        "code": 4004,
        "message": "UnsupportedFeatureException[not in this lab]",
    },
    "html": {"action": "html"},
    "half": {"action": "half_body"},
    "huge": {"action": "huge"},
}
_LEVERS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "no-master": ("drop-master", None, {"seconds": 40}),
    "snapshot": ("snapshot", None, {}),
    "crash": ("crash", "node", {}),
    "restart": ("restart", "node", {}),
    "sick": ("sick", "table", {"mb": 1300}),
    "stuck-leases": ("leases", "table", {"stuck": True}),
    "lose-primary": ("lose-primary", "table", {}),
}

_EXAMPLES = """\b
Examples:
  caretaker lab up && eval "$(caretaker lab up --print-env)"
  caretaker lab break hang-alter
"""


@click.group("lab", epilog=_EXAMPLES, help="Start, look at, break and stop the lab CrateDB.")
def lab() -> None:
    """Every verb of the lab is a command of its own."""


@lab.command("up", epilog=_EXAMPLES)
@click.option("--port", default=4200, show_default=True, type=_PORT, help="Of the first node.")
@click.option(
    "--control-port", default=4299, show_default=True, type=_PORT, help="Of faults and levers."
)
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1, 9), help="How many.")
@click.option("--empty", is_flag=True, help="Without the believable tables.")
@click.option("--print-env", is_flag=True, help="Print the exports for a shell.")
@output_option
def up(
    *, port: int, control_port: int, nodes: int, empty: bool, print_env: bool, output: str
) -> None:
    """Start a lab in the background, unless one runs already."""
    handle = _handle()
    if not handle:
        handle = _start(port, control_port, nodes, empty=empty)
    if print_env:
        echo(f"export CRATE_CONNECTION_STRING={handle['connection_string']}")
    elif output == "json":
        print_json(handle)
    else:
        echo(f"The lab runs (pid {handle['pid']}):")
        echo(f"  export CRATE_CONNECTION_STRING={handle['connection_string']}")


@lab.command(
    "down", epilog="\b\nExamples:\n  caretaker lab down\n  caretaker lab down --output json\n"
)
@output_option
def down(*, output: str) -> None:
    """Stop the lab that `up` started."""
    handle = _handle()
    if handle:
        _stop(int(handle["pid"]))
    _HANDLE.unlink(missing_ok=True)
    if output == "json":
        print_json({"stopped": bool(handle)})
    else:
        echo("The lab has stopped." if handle else "No lab was started from this folder.")


@lab.command(
    "status", epilog="\b\nExamples:\n  caretaker lab status\n  caretaker lab status --output json\n"
)
@output_option
def status(*, output: str) -> None:
    """Show nodes, health, large translogs, tables at 0 replicas and rules in force."""
    with _control() as control:
        seen = control.status()
    if output == "json":
        print_json(seen)
        return
    echo(f"{seen['cluster']} {seen['version']}: {seen['health']}, {seen['tables']} tables")
    print_table(
        ["node", "url", "alive", "master"],
        [[n["name"], n["url"], n["alive"], n["master"]] for n in seen["nodes"]],
    )
    if seen["sick"]:
        echo()
        print_table(
            ["table", "replicas", "worst MiB"],
            [[s["table"], s["replicas"], s["worst_mb"]] for s in seen["sick"]],
        )
    at_zero = ", ".join(seen["at_zero"]) or "none"
    echo(f"\nat 0 replicas: {at_zero} (most at once: {seen['most_at_zero']})")
    for rule in seen["faults"]:
        echo(f"rule {rule['id']}: {rule['action']} on {rule['match'] or 'everything'}")


@lab.command(
    "break",
    epilog="\b\nExamples:\n  caretaker lab break hang-alter\n"
    "  caretaker lab break sick sensors.readings\n",
)
@click.argument("what", type=click.Choice(sorted([*_RULES, *_LEVERS, "heal"])))
@click.argument("target", required=False)
@output_option
def break_(*, what: str, target: str | None, output: str) -> None:
    """Make the lab misbehave; `heal` lifts every rule and elects a master."""
    with _control() as control:
        if what == "heal":
            control.clear_faults()
            control.pull("elect-master")
            control.pull("snapshot", running=False)
        elif what in _RULES:
            node = {"node": target} if target else {}
            control.add_fault({**_RULES[what], **node})
        else:
            _pull(control, what, target)
    if output == "json":
        print_json({"broke": what, "target": target})
    else:
        echo(f"{what}{f' {target}' if target else ''}: done")


def _pull(control: LabControl, what: str, target: str | None) -> None:
    lever, argument, body = _LEVERS[what]
    if argument is None:
        control.pull(lever, **body)
    elif target is None:
        raise click.UsageError(f"{what} wants a {argument}: caretaker lab break {what} NAME")
    else:
        control.pull(lever, **{argument: target, **body})


def _start(port: int, control_port: int, nodes: int, *, empty: bool) -> dict[str, Any]:
    try:
        from lab.cratedb.process import LabDidNotStartError, LabProcess
    except ImportError as error:
        raise _not_installed(error) from None
    try:
        _HANDLE.parent.mkdir(parents=True, exist_ok=True)
        _HANDLE.touch()
    except OSError as error:
        where = _HANDLE.parent.absolute()
        reason = f"the lab keeps its handle and log in {where}: {error.strerror}"
        raise RefusedError(reason) from None
    process = LabProcess(
        *(["--nodes", str(nodes)] + ([] if empty else ["--demo"])),
        port_base=port,
        control_port=control_port,
        log=_HANDLE.with_suffix(".log"),
    )
    try:
        process.start()
    except LabDidNotStartError as error:
        log = _HANDLE.with_suffix(".log").read_text(encoding="utf-8").strip().splitlines()
        raise RefusedError(log[-1] if log else str(error)) from None
    handle = {
        "pid": process.pid,
        "incarnation": owner_of_run("lab", process.pid).boot_id,
        "control": process.control.url,
        "connection_string": process.connection_string,
    }
    _HANDLE.write_text(json.dumps(handle), encoding="utf-8")
    return handle


def _stop(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_WITHIN_S
    while pid_exists(pid):
        if time.monotonic() > deadline:
            raise RefusedError(f"the lab (pid {pid}) did not stop within {_STOP_WITHIN_S:g} s")
        time.sleep(0.05)


def _handle() -> dict[str, Any]:
    """Return what `up` wrote, or nothing where that lab is gone.

    By more than its pid: after a reboot that may be anybody's, and `down` would stop it.
    """
    try:
        found: dict[str, Any] = json.loads(_HANDLE.read_text(encoding="utf-8"))
        now = owner_of_run("lab", int(found["pid"]))
        same = pid_exists(now.pid) and now.boot_id == found["incarnation"]
        whole = isinstance(found["control"], str) and isinstance(found["connection_string"], str)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if same and whole else {}


@contextlib.contextmanager
def _control() -> Iterator[LabControl]:
    try:
        from lab.control import LabControl, LabUnreachableError
    except ImportError as error:
        raise _not_installed(error) from None
    handle = _handle()
    control = LabControl(handle["control"]) if handle else LabControl()
    try:
        yield control
    except LabUnreachableError as error:
        hint = "" if handle else " (start one: caretaker lab up)"
        raise RefusedError(f"{error}{hint}") from None


def _not_installed(error: ImportError) -> RefusedError:
    return RefusedError(
        f"the lab needs packages that are not installed ({error.name})",
        hint="pip install 'caretaker-pipelines[lab]'",
    )
