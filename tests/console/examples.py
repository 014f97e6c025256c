"""The examples that every `--help` shows."""

from __future__ import annotations

import re
from typing import Any

import click

from console.main import cli


def verbs(command=cli, path=()):
    """Yield every verb of the command line."""
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from verbs(below, (*path, name))


def examples(text):
    """The commands under `Examples:`, without the words beside them."""
    _, _, shown = text.partition("Examples:\n")
    # A long one goes on in the next line, as in a shell.
    shown = re.sub(r" \\\n\s+", " ", shown)
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    assert all(line.startswith("caretaker ") for line in lines), lines
    return [re.split(r" {2,}", line)[0] for line in lines]


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
