"""What the wing's sensor, schedule and pages run with when nobody is there to say it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from caretaker.errors import InvalidSettingError
from caretaker.strategies.policy import StrategiesPolicy

#: A YAML file with options of cluster_strategies: the same as `--config` takes.
CONFIG_VARIABLE = "CARETAKER_STRATEGIES_CONFIG"

_ALLOWED = "a YAML file with options of cluster_strategies, such as max_credits_per_hour: 8"


def standing_options() -> dict[str, Any]:
    """Return the run config that CARETAKER_STRATEGIES_CONFIG gives; without a file nothing.

    Raises:
        InvalidSettingError: The file cannot be used.
    """
    given = os.environ.get(CONFIG_VARIABLE)
    if not given:
        return {}
    try:
        found = yaml.safe_load(Path(given).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InvalidSettingError(CONFIG_VARIABLE, f"{given} ({reason})", _ALLOWED) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidSettingError(CONFIG_VARIABLE, f"{given}: {type(found).__name__}", _ALLOWED)
    try:
        StrategiesPolicy.checked(**{str(key): value for key, value in found.items()})
    except InvalidSettingError as error:
        key = f"{CONFIG_VARIABLE}: {given}: {error.key}"
        raise InvalidSettingError(key, error.found, error.allowed) from None
    return found
