"""`caretaker <verb>`: errors are one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence

import click

from caretaker.errors import CaretakerError, UnsafeError
from console import doctor, lab, tickets, translog
from console.environment import load_env_file
from console.runs import sentence

#: Verbs whose every error before the first change exits with 1, usage errors included.
_ONE_FOR_ALL = frozenset({"translogs", "problematic-translogs"})

_EPILOG = """\b
Examples:
  caretaker doctor                       what works, what would refuse, what to change
  caretaker translogs                    which tables hold huge translogs
"""


@click.group(
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Looks after a fleet of data systems: safely, and alone at night.",
)
@click.version_option(package_name="caretaker-pipelines", prog_name="caretaker")
def cli() -> None:
    """Every verb is a command of its own."""


cli.add_command(translog.translogs)
cli.add_command(translog.translogs, "problematic-translogs")
cli.add_command(tickets.tickets)
cli.add_command(doctor.doctor)
cli.add_command(lab.lab)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _quieten()
    load_env_file()
    verb = next((argument for argument in given if not argument.startswith("-")), "")
    try:
        cli.main(args=given, prog_name="caretaker", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(1 if verb in _ONE_FOR_ALL else 2)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(1)
    except UnsafeError as error:
        _say(sentence(error))
        sys.exit(1 if verb in _ONE_FOR_ALL else 3)
    except CaretakerError as error:
        _say(sentence(error))
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what we did is in the instance.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _say(text: str) -> None:
    click.echo(f"error: {text}", err=True)


def _quieten() -> None:
    """Keep what libraries tell developers away from those who run the command."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger("crate").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main()
