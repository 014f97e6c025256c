"""DuckDB's errors in CrateDB's words and codes."""

from __future__ import annotations

import re

import duckdb

from lab.cratedb.answers import CrateError, invalid, unknown_column

_COLUMN = re.compile(r'Referenced (?:column|table) "(.+?)" (?:was )?not found')
_VALUES = re.compile(r'does not have a column named "(.+?)"')
_KEY = re.compile(r'Could not find key "(.+?)" in struct')
_AMBIGUOUS = re.compile(r'Ambiguous reference to column name "(.+?)"')
_FUNCTION = re.compile(r"Function with name \"?(\w+)\"? does not exist")
_GROUPED = re.compile(r'column "(.+?)" must appear in the GROUP BY')


def as_crate_error(error: duckdb.Error) -> CrateError:
    """Return the error CrateDB has for what went wrong; 400/4000 where nothing better fits."""
    text = str(error)
    if match := _COLUMN.search(text) or _VALUES.search(text):
        return unknown_column(match[1])
    if match := _KEY.search(text):
        return unknown_column(f"['{match[1]}']")
    if match := _AMBIGUOUS.search(text):
        return CrateError(4006, "AmbiguousColumnException", f'Column "{match[1]}" is ambiguous')
    if "by zero" in text:
        return invalid("/ by zero")
    if match := _FUNCTION.search(text):
        return CrateError(4004, "UnsupportedFunctionException", f"Unknown function: {match[1]}()")
    if match := _GROUPED.search(text):
        return invalid(
            f"'{match[1]}' must appear in the GROUP BY clause "
            "or be used in an aggregation function."
        )
    return invalid(text.splitlines()[0] if text else "statement not understood")
