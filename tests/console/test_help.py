"""`--help` of every verb shows two examples, and they work."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from lab.faults import Fault
from tests.console.conftest import CHECKOUT
from tests.console.examples import all_examples, command_of, examples, verbs


@pytest.mark.parametrize("path", list(verbs()), ids=lambda path: " ".join(path) or "caretaker")
def test_every_help_shows_two_examples(caretaker, path):
    ended = caretaker(*path, "--help")

    assert ended.code == 0
    assert ended.err == ""
    assert len(examples(ended.out)) == 2
    assert caretaker(*path, "-h").out == ended.out


#: What these need to have happened before.
OF_A_TICKET = re.compile(r"tickets (show|close) 12")


#: Those of other wings need other servers, and are run beside them.
OURS = [
    each
    for each in all_examples()
    if not re.match(r"caretaker (lab|binlog|strategies|decommission|restart) ", each)
]


@pytest.mark.parametrize("example", OURS)
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
    # And what its PATH has: as root, the lab's PostgreSQL makes a user with a tool of /usr/sbin.
    path = f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}"
    environment = {**caretaker.process_environment, "PATH": path}
    shell = subprocess.run(
        ["/bin/bash", "-ec", _SCRIPT.replace("EXAMPLES", "\n".join(
            e for e in all_examples() if " lab " in e and " down" not in e
        ))],
        cwd=caretaker.folder, env={**environment, "PYTHON": sys.executable},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip

    assert shell.returncode == 0, shell.stdout + shell.stderr
    assert "sick sensors.readings: done" in shell.stdout
    assert "rule 1: hang" in shell.stdout
    assert "The lab has stopped." in shell.stdout


#: The examples name no port: those of this shell's labs are free ones.
_SCRIPT = """
caretaker() {
    if [ "$1 $2" = "lab up" ]; then
        shift 2
        set -- lab up --port 0 --control-port 0 \\
            --materialize-port 0 --materialize-control-port 0 "$@"
    fi
    "$PYTHON" -m console.main "$@"
}
trap 'caretaker lab down' EXIT
caretaker lab up --nodes 1
EXAMPLES
caretaker lab status
test -n "$CRATE_CONNECTION_STRING"
test -n "$DATABASE_URL"
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
