"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from caretaker.errors import InvalidSettingError
from ops.binlog_config import BinlogSetupConfig, BinlogSyncConfig, BinlogVerifyConfig
from ops.decommission_config import PodDecommissionConfig, RollingRestartConfig
from ops.logs import FORMATS
from ops.strategies_config import ClusterStrategiesConfig, WipeStrategyStateConfig
from ops.translog_config import TranslogReportConfig, TranslogResetConfig, TranslogRestoreConfig

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar(
    "M",
    TranslogReportConfig,
    TranslogResetConfig,
    TranslogRestoreConfig,
    BinlogSyncConfig,
    BinlogSetupConfig,
    BinlogVerifyConfig,
    PodDecommissionConfig,
    RollingRestartConfig,
    ClusterStrategiesConfig,
    WipeStrategyStateConfig,
)

#: Flags that are not called as their key is.
_FLAGS = {"start": "--from"}


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


def kube_options(command: F) -> F:
    """Let a verb name a context and a namespace, as kubectl does."""
    command = click.option("--context", metavar="NAME", help="Context of the kubeconfig.")(command)
    return click.option(
        "-n", "--namespace", metavar="NAME", help="Namespace.  [default: the context's]"
    )(command)


def with_config_file(
    path: Path | None,
    flags: dict[str, Any],
    model: type[M],
    *others: type[BaseModel],
) -> M:
    """Return the job's run config: what the file says, where no flag says otherwise.

    A file that cannot be read, is no mapping, or has an unknown key or a value of a wrong type is
    refused, naming file and key; a key that is needed and nowhere given is a usage error. Keys of
    `others` are known, and left out: one file may serve several verbs. A key without a value is one
    that is not given.
    """
    known = {key for each in (model, *others) for key in each.model_fields}
    said = _read(path)
    for key, value in said.items():
        if key not in known:
            allowed = f"one of {', '.join(sorted(known))}"
            raise InvalidSettingError(f"{path}: {key}", value, allowed)
    told = {key: value for key, value in flags.items() if value is not None}
    given = {key: value for key, value in {**said, **told}.items() if value is not None}
    names = {key: f"{path}: {key}" for key in said if key not in told}
    return _checked(model, given, names)


def _checked(model: type[M], given: dict[str, Any], names: dict[str, str]) -> M:
    """Return the options as the model has them, or name the flag or the file's key at fault."""
    options = {key: value for key, value in given.items() if key in model.model_fields}
    for key, value in options.items():
        try:
            # Each by itself and strictly: the model takes `percentage: true` for 1.
            kind: Any = model.model_fields[key].annotation
            TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            allowed = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise InvalidSettingError(_name(key, names), value, allowed) from None
    for key, field in model.model_fields.items():
        if field.is_required() and key not in options:
            raise click.UsageError(f"name the {key.upper()}")
    checked = model(**options)
    try:
        checked.policy()
    except InvalidSettingError as error:
        name = _name(error.key, names)
        raise InvalidSettingError(name, error.found, error.allowed) from None
    return checked


def _name(key: str, names: dict[str, str]) -> str:
    flag = _FLAGS.get(key) or f"--{key.removesuffix('_s').replace('_', '-')}"
    return names.get(key) or flag


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    allowed = "a YAML file with options of the job, such as percentage: 300"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettingError("--config", f"{path} ({error.strerror})", allowed) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: not UTF-8, a NUL in the name, or a date that is none.
        reason = " ".join(str(error).split())
        raise InvalidSettingError("--config", f"{path} ({reason})", allowed) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        found = f"{path} (a {type(document).__name__})"
        raise InvalidSettingError("--config", found, allowed)
    return {str(key): value for key, value in document.items()}
