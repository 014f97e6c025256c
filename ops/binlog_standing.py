"""What the sync is to run with when nobody is there to say it, and an operator's second thought."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from caretaker.errors import InvalidSettingError
from ops.binlog_config import BinlogSyncConfig

#: A YAML file with the run config of the standing sync: the same as `--config` takes.
CONFIG_VARIABLE = "CARETAKER_BINLOG_CONFIG"

#: Tag of a terminated run that an operator took back: `caretaker binlog resume`.
RESUMED = "caretaker/resumed_by"

_LOOKED_AT = 20
_ALLOWED = "a YAML file with options of binlog_sync, such as include: ['shop\\..*']"


def standing_options(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return the run config of the next supervised run; `for_a_trail` fits it to the trail.

    The file that CARETAKER_BINLOG_CONFIG names; without one, that of the newest run that was to
    stay: whoever started it by hand said how it is to run.

    Raises:
        InvalidSettingError: The file cannot be used.
    """
    if given := os.environ.get(CONFIG_VARIABLE):
        return _read(Path(given))
    records = instance.get_run_records(dg.RunsFilter(job_name="binlog_sync"), limit=_LOOKED_AT)
    for record in records:
        options = dict(record.dagster_run.run_config)
        if not options.get("until_current"):
            return options
    return {}


def for_a_trail(options: dict[str, Any], *, begun: bool) -> dict[str, Any]:
    """Return the options for a trail that has begun, or has not: where to start is for one only.

    A trail with an end goes on there; the sync refuses to be told another place.
    """
    return {key: value for key, value in options.items() if key != "start" or not begun}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InvalidSettingError(CONFIG_VARIABLE, f"{path} ({reason})", _ALLOWED) from None
    if found is None:
        return {}
    known = set(BinlogSyncConfig.model_fields)
    if not isinstance(found, dict) or not set(found) <= known:
        unknown = sorted(set(found) - known) if isinstance(found, dict) else [type(found).__name__]
        raise InvalidSettingError(CONFIG_VARIABLE, f"{path}: {', '.join(unknown)}", _ALLOWED)
    return found
