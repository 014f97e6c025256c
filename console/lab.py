"""`caretaker lab`: a CrateDB and a Materialize on loopback, to try everything on, and to break."""

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
    from lab.cratedb.process import LabProcess

_HANDLE = Path(".caretaker") / "lab.json"
_STOP_WITHIN_S = 60.0
_MATERIALIZE_CONTROL = "http://127.0.0.1:6899"
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
#: Of the lab Materialize.
_MATERIALIZE_RULES: dict[str, dict[str, Any]] = {
    "hang-ddl": {"match": "(?i)^(create|drop|alter) cluster", "action": "hang", "times": 1},
    "reset-ddl": {"match": "(?i)^(create|drop|alter) cluster", "action": "reset_after", "times": 1},
    "slow-catalog": {"match": "(?i)mz_(catalog|internal)", "action": "latency", "seconds": 2.0},
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
_MATERIALIZE_LEVERS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "oom": ("oom", "cluster", {"after_s": 1.0}),
    "no-statement-log": ("logging", None, {"on": False}),
}
_BREAKABLE = (*_RULES, *_LEVERS, *_MATERIALIZE_RULES, *_MATERIALIZE_LEVERS, "heal")

_EXAMPLES = """\b
Examples:
  caretaker lab up && eval "$(caretaker lab up --print-env)"
  caretaker lab break hang-alter
"""


@click.group(
    "lab",
    epilog=_EXAMPLES,
    help="Start, look at, break and stop a lab: a CrateDB and a Materialize.",
)
def lab() -> None:
    """Every verb of the lab is a command of its own."""


@lab.command("up", epilog=_EXAMPLES)
@click.option("--port", default=4200, show_default=True, type=_PORT, help="Of the first node.")
@click.option(
    "--control-port", default=4299, show_default=True, type=_PORT, help="Of faults and levers."
)
@click.option(
    "--materialize-port", default=6875, show_default=True, type=_PORT, help="Of Materialize."
)
@click.option(
    "--materialize-control-port",
    default=6899,
    show_default=True,
    type=_PORT,
    help="Of its faults and levers.",
)
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1, 9), help="How many.")
@click.option("--empty", is_flag=True, help="Without the believable tables.")
@click.option("--print-env", is_flag=True, help="Print the exports for a shell.")
@output_option
def up(
    *,
    port: int,
    control_port: int,
    materialize_port: int,
    materialize_control_port: int,
    nodes: int,
    empty: bool,
    print_env: bool,
    output: str,
) -> None:
    """Start a lab in the background, unless one runs already."""
    handle = _handle()
    if not handle:
        crate = ["--nodes", str(nodes), *([] if empty else ["--demo"])]
        handle = _start(crate, port, control_port, materialize_port, materialize_control_port)
    exports = (
        f"export CRATE_CONNECTION_STRING={handle['connection_string']}",
        f"export DATABASE_URL={handle['materialize']['url']}",
    )
    if print_env:
        echo("\n".join(exports))
    elif output == "json":
        print_json(handle)
    else:
        echo(f"The lab runs (pid {handle['pid']} and {handle['materialize']['pid']}):")
        echo("\n".join(f"  {export}" for export in exports))


@lab.command(
    "down", epilog="\b\nExamples:\n  caretaker lab down\n  caretaker lab down --output json\n"
)
@output_option
def down(*, output: str) -> None:
    """Stop the lab that `up` started."""
    handle = _handle()
    if handle:
        _stop(int(handle["materialize"]["pid"]))
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
    """Show nodes, health, large translogs, clusters with their replicas, and rules in force."""
    with _control() as (crate, materialize):
        seen = {**crate.status(), "materialize": materialize.status()}
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
    _print_clusters(seen["materialize"]["clusters"])
    for rule in (*seen["faults"], *seen["materialize"]["faults"]):
        echo(f"rule {rule['id']}: {rule['action']} on {rule['match'] or 'everything'}")


def _print_clusters(clusters: dict[str, dict[str, Any]]) -> None:
    """Print Materialize's clusters, but for its own."""
    echo()
    print_table(
        ["cluster", "managed", "replicas"],
        [
            [name, cluster["managed"], ", ".join(map(_replica, cluster["replicas"])) or None]
            for name, cluster in clusters.items()
            if cluster["id"].startswith("u")
        ],
    )


def _replica(one: dict[str, Any]) -> str:
    return f"{one['name']} ({one['size']}{'' if one['ready'] else ', not ready'})"


@lab.command(
    "break",
    epilog="\b\nExamples:\n  caretaker lab break hang-alter\n"
    "  caretaker lab break sick sensors.readings\n",
)
@click.argument("what", type=click.Choice(sorted(_BREAKABLE)))
@click.argument("target", required=False)
@output_option
def break_(*, what: str, target: str | None, output: str) -> None:
    """Make the lab misbehave; `heal` lifts every rule and elects a master."""
    with _control() as (crate, materialize):
        if what == "heal":
            _heal(crate, materialize)
        elif what in _RULES:
            node = {"node": target} if target else {}
            crate.add_fault({**_RULES[what], **node})
        elif what in _MATERIALIZE_RULES:
            materialize.add_fault(_MATERIALIZE_RULES[what])
        elif what in _MATERIALIZE_LEVERS:
            _pull(materialize, what, _MATERIALIZE_LEVERS[what], target)
        else:
            _pull(crate, what, _LEVERS[what], target)
    if output == "json":
        print_json({"broke": what, "target": target})
    else:
        echo(f"{what}{f' {target}' if target else ''}: done")


def _heal(crate: LabControl, materialize: LabControl) -> None:
    crate.clear_faults()
    crate.pull("elect-master")
    crate.pull("snapshot", running=False)
    materialize.clear_faults()
    materialize.pull("heal")
    materialize.pull("logging", on=True)


def _pull(
    control: LabControl,
    what: str,
    meaning: tuple[str, str | None, dict[str, Any]],
    target: str | None,
) -> None:
    lever, argument, body = meaning
    if argument is None:
        control.pull(lever, **body)
    elif target is None:
        raise click.UsageError(f"{what} wants a {argument}: caretaker lab break {what} NAME")
    else:
        control.pull(lever, **{argument: target, **body})


def _start(
    crate: list[str],
    port: int,
    control_port: int,
    materialize_port: int,
    materialize_control_port: int,
) -> dict[str, Any]:
    try:
        from lab.cratedb.process import LabProcess
        from lab.materialize.process import MaterializeProcess
    except ImportError as error:
        raise _not_installed(error) from None
    try:
        _HANDLE.parent.mkdir(parents=True, exist_ok=True)
        _HANDLE.touch()
    except OSError as error:
        where = _HANDLE.parent.absolute()
        reason = f"the lab keeps its handle and log in {where}: {error.strerror}"
        raise RefusedError(reason) from None
    log = _HANDLE.with_suffix(".log")
    first = LabProcess(*crate, port_base=port, control_port=control_port, log=log)
    second = MaterializeProcess(
        port_base=materialize_port, control_port=materialize_control_port, log=log
    )
    _started(first, log)
    try:
        _started(second, log)
    except RefusedError:
        first.stop()
        raise
    handle = {
        **_found_again(first),
        "connection_string": first.connection_string,
        "materialize": {**_found_again(second), "url": second.connection_string},
    }
    _HANDLE.write_text(json.dumps(handle), encoding="utf-8")
    return handle


def _started(process: LabProcess, log: Path) -> None:
    from lab.cratedb.process import LabDidNotStartError

    try:
        process.start()
    except LabDidNotStartError as error:
        said = log.read_text(encoding="utf-8").strip().splitlines()
        raise RefusedError(said[-1] if said else str(error)) from None


def _found_again(process: LabProcess) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "incarnation": owner_of_run("lab", process.pid).boot_id,
        "control": process.control.url,
    }


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
        same = all(map(_is_the_same, (found, found["materialize"])))
        texts = (found["control"], found["connection_string"], found["materialize"]["url"])
        whole = all(isinstance(text, str) for text in texts)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if same and whole else {}


def _is_the_same(process: dict[str, Any]) -> bool:
    now = owner_of_run("lab", int(process["pid"]))
    return pid_exists(now.pid) and bool(now.boot_id == process["incarnation"])


@contextlib.contextmanager
def _control() -> Iterator[tuple[LabControl, LabControl]]:
    """Give the levers of the CrateDB and of the Materialize."""
    try:
        from lab.control import LabControl, LabUnreachableError
    except ImportError as error:
        raise _not_installed(error) from None
    handle = _handle()
    crate = LabControl(handle["control"]) if handle else LabControl()
    materialize = LabControl(handle["materialize"]["control"] if handle else _MATERIALIZE_CONTROL)
    try:
        yield crate, materialize
    except LabUnreachableError as error:
        hint = "" if handle else " (start one: caretaker lab up)"
        raise RefusedError(f"{error}{hint}") from None


def _not_installed(error: ImportError) -> RefusedError:
    return RefusedError(
        f"the lab needs packages that are not installed ({error.name})",
        hint="pip install 'caretaker-pipelines[lab]'",
    )
