"""Environment variables behind a resource's fields, bound by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg


def bound(variables: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Bind each field to its variable, by name: the values stay out of Dagster's storage.

    Only those that are set: Dagster refuses to start a run over an EnvVar without a value.
    """
    return {
        field: dg.EnvVar(variable) for field, variable in variables.items() if environ.get(variable)
    }
