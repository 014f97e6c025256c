"""`--help` of every verb shows two examples, and they work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any

import click
import pytest

from console.main import cli
from lab.faults import Fault
from tests.console.conftest import CHECKOUT


def verbs(command=cli, path=()):
    """Yield every verb of the command line."""
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from verbs(below, (*path, name))


def examples(text):
    """The commands under `Examples:`, without the words beside them."""
    _, _, shown = text.partition("Examples:\n")
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    assert all(line.startswith("caretaker ") for line in lines), lines
    return [re.split(r" {2,}", line)[0] for line in lines]


@pytest.mark.parametrize("path", list(verbs()), ids=lambda path: " ".join(path) or "caretaker")
def test_every_help_shows_two_examples(caretaker, path):
    ended = caretaker(*path, "--help")

    assert ended.code == 0
    assert ended.err == ""
    assert len(examples(ended.out)) == 2
    assert caretaker(*path, "-h").out == ended.out


def command_of(path):
    """The verb at the end of a path."""
    command: Any = cli
    for name in path:
        command = command.commands[name]
    return command


def all_examples():
    """Every distinct example, as it is printed."""
    found = {}
    for path in verbs():
        command = command_of(path)
        text = command.get_help(click.Context(command, **cli.context_settings))
        found.update(dict.fromkeys(examples(text)))
    return list(found)


#: What these need to have happened before.
OF_A_TICKET = re.compile(r"tickets (show|close) 12")


@pytest.mark.parametrize("example", [e for e in all_examples() if " lab " not in e])
def test_the_examples_work(caretaker, lab, example):
    """Against a cluster with a sick table, which was reset once where a ticket is needed."""
    table = lab.table("doc.metrics", sick_mb=1840)
    if "tickets close" in example:
        lab.faults.add(Fault("^ALTER", "error", after_matches=1, status=404, code=4041))
    if "tickets" in example:
        caretaker("translogs", "--autoexec")
        table.make_sick(2200)
    if "tickets close" in example:
        table.drop()

    words = shlex.split(OF_A_TICKET.sub(r"tickets \1 1", example))
    assert words[0] == "caretaker"
    ended = caretaker(*words[1:])

    assert ended.code == 0, ended
    assert ended.out


def test_the_examples_of_the_lab_work(caretaker):
    """In a shell, as they are printed; only its ports are others."""
    environment = {**caretaker.process_environment, "PATH": f"{CHECKOUT}/.venv/bin:/usr/bin:/bin"}
    shell = subprocess.run(
        ["/bin/bash", "-ec", _SCRIPT.replace("EXAMPLES", "\n".join(
            e for e in all_examples() if " lab " in e and " down" not in e
        ))],
        cwd=caretaker.folder, env={**environment, "PYTHON": sys.executable},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert shell.returncode == 0, shell.stdout + shell.stderr
    assert "sick sensors.readings: done" in shell.stdout
    assert "rule 1: hang" in shell.stdout
    assert "The lab has stopped." in shell.stdout


#: The examples name no port: those of this shell's labs are free ones.
_SCRIPT = """
caretaker() {
    if [ "$1 $2" = "lab up" ]; then shift 2; set -- lab up --port 0 --control-port 0 "$@"; fi
    "$PYTHON" -m console.main "$@"
}
trap 'caretaker lab down' EXIT
caretaker lab up --nodes 1
EXAMPLES
caretaker lab status
test -n "$CRATE_CONNECTION_STRING"
"""


def test_the_module_is_the_command(caretaker):
    """`python -m console.main` and the installed `caretaker` say the same."""
    installed = subprocess.run(
        [f"{sys.prefix}/bin/caretaker", "translogs", "--help"],
        env=caretaker.process_environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    module = caretaker.process("translogs", "--help")

    assert installed.returncode == module.code == 0
    assert installed.stdout == module.out
    assert "--autoexec" in module.out


def test_help_describes_every_option():
    """An option without a word about it is one that nobody dares to use."""
    for path in verbs():
        for option in command_of(path).params:
            if isinstance(option, click.Option):
                assert option.help, (path, option.name)
