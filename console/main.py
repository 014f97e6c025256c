"""`caretaker <verb>`: errors are one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

import click
from click.exceptions import NoArgsIsHelpError

from caretaker.errors import CaretakerError, UnsafeError
from console import binlog, decommission, doctor, lab, strategies, tickets, translog
from console.environment import load_env_file, use_log_format
from ops.logs import FORMATS, say

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
cli.add_command(binlog.binlog)
cli.add_command(decommission.decommission)
cli.add_command(decommission.restart)
cli.add_command(strategies.strategies)
cli.add_command(tickets.tickets)
cli.add_command(doctor.doctor)
cli.add_command(lab.lab)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = next((argument for argument in given if not argument.startswith("-")), "")
    run(cli, "caretaker", given, safe=verb in _ONE_FOR_ALL)


def run(program: click.Group, name: str, given: Sequence[str], *, safe: bool = False) -> None:
    """Run a program and exit with its code; `safe`: every error before the first change is 1."""
    _quieten()
    try:
        load_env_file()
        use_log_format(_log_format(given))
        program.main(args=list(given), prog_name=name, standalone_mode=False)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(1 if safe else 2)
    except click.UsageError as error:
        say(_usage(error))
        sys.exit(1 if safe else 2)
    except click.ClickException as error:
        say(error.format_message())
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        say("stopped")
        sys.exit(1)
    except UnsafeError as error:
        say(error.sentence)
        sys.exit(1 if safe else 3)
    except CaretakerError as error:
        say(error.sentence)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody reads a traceback at night
        say(_unexpected(error), error)
        sys.exit(1)


def _usage(error: click.UsageError) -> str:
    where = error.ctx.command_path if error.ctx is not None else "caretaker"
    return f"{where}: {' '.join(error.format_message().split())} See: {where} --help"


def _unexpected(error: Exception) -> str:
    reason = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {reason} (unexpected; --log-format json tells where)"


def _log_format(given: Sequence[str]) -> str | None:
    """Return what `--log-format` asks for: a usage error, too, is logged as it was asked for."""
    for position, argument in enumerate(given):
        name, _, value = argument.partition("=")
        if name == "--log-format":
            wanted = value or next(iter(given[position + 1 :]), "")
            return wanted if wanted in FORMATS else None
    return None


def _quieten() -> None:
    """Keep what libraries tell developers away from those who run the command."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for library in ("crate", "dagster", "pymongo", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    # A name that this terminal cannot show must not end a command half-way.
    with suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
