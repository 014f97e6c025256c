"""DataFrames whose columns have the same names and types on every day, an empty one too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd

#: How Dagster's column page names what pandas holds.
_SHOWN = {"string": "string", "float64": "float", "int64": "int", "bool": "bool", "object": "json"}


def frame(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return rows as a DataFrame with exactly these columns and dtypes; None becomes missing."""
    # Not at the top: 1.2 s for every start of the CLI and of the code server.
    import pandas as pd  # noqa: PLC0415

    return pd.DataFrame(list(rows), columns=list(columns)).astype(dict(columns))


def frame_type(name: str, columns: Mapping[str, str], description: str) -> dg.DagsterType:
    """Return the Dagster type of such a DataFrame: an asset that returns another one fails."""

    def check(_: dg.TypeCheckContext, value: Any) -> dg.TypeCheck:
        found = {name: str(kind) for name, kind in getattr(value, "dtypes", {}).items()}
        return dg.TypeCheck(
            found == dict(columns), description=f"found {found}, expected {dict(columns)}"
        )

    return dg.DagsterType(check, name=name, description=description)


def column_schema(columns: Mapping[str, str], words: Mapping[str, str]) -> dg.TableSchema:
    """Return what the asset's page explains about its columns.

    Not to be called dagster/column_schema: Dagster then draws a row for each column above all that
    an operator came for.
    """
    return dg.TableSchema(
        [
            dg.TableColumn(name, _SHOWN.get(kind, "timestamp"), words.get(name))
            for name, kind in columns.items()
        ]
    )
