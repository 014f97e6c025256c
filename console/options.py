"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml
from pydantic import BaseModel, ValidationError

from caretaker.errors import InvalidSettingError
from ops.logs import FORMATS

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """Let a verb print a table or JSON."""
    return click.option(
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How results are printed on stdout.",
    )(command)


def log_format_option(command: F) -> F:
    """Let a verb log for a person or for a machine."""
    return click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        default=None,
        help="How events are logged on stderr.  [default: console]",
    )(command)


def with_config_file(
    path: Path | None, flags: dict[str, Any], model: type[BaseModel]
) -> dict[str, Any]:
    """Return the job's run config: what the file says, where no flag says otherwise.

    A file that cannot be read, is no mapping, or has an unknown key or a value of a wrong type is
    refused, naming file and key.
    """
    options = {**_read(path), **{key: value for key, value in flags.items() if value is not None}}
    where = f"{path}: " if path else ""
    allowed = ", ".join(sorted(model.model_fields))
    for key, value in options.items():
        if key not in model.model_fields:
            raise InvalidSettingError(f"{where}{key}", value, f"one of {allowed}")
    try:
        model(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidSettingError(f"{where}{key}", first["input"], first["msg"]) from None
    return options


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettingError("--config", f"{path} ({error.strerror})", "a file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidSettingError("--config", f"{path} ({reason})", "a YAML file") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidSettingError("--config", f"{path} (no mapping)", "the run config of the job")
    return {str(key): value for key, value in document.items()}
