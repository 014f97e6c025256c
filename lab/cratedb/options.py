"""Table settings: what WITH (...) and ALTER TABLE ... SET (...) accept, and how they are shown."""

from __future__ import annotations

import copy
import re
from typing import Any

from lab.cratedb.answers import CrateError, invalid

_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(b|kb|k|mb|m|gb|g|tb|t)?\s*", re.IGNORECASE)
_BYTES_UNIT = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TIME = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", re.IGNORECASE)
_TIME_UNIT = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_DEFAULTS: dict[str, Any] = {
    "codec": "default",
    "routing.allocation.enable": "all",
    "routing.allocation.total_shards_per_node": -1,
    "mapping.total_fields.limit": 1000,
    "mapping.depth.limit": 100,
    "refresh_interval": 1000,
    "translog.flush_threshold_size": 512 * 1024 * 1024,
    "translog.sync_interval": 5000,
    "translog.durability": "REQUEST",
    "blocks.metadata": False,
    "blocks.read": False,
    "blocks.read_only_allow_delete": False,
    "blocks.read_only": False,
    "blocks.write": False,
    "merge.scheduler.max_thread_count": 1,
    "merge.scheduler.max_merge_count": 6,
    "store.type": "fs",
    "unassigned.node_left.delayed_timeout": 60000,
    "write.wait_for_active_shards": "1",
}
_IN_BYTES = {"translog.flush_threshold_size"}
_IN_MS = {"refresh_interval", "translog.sync_interval", "unassigned.node_left.delayed_timeout"}
_FILTERS = ("routing.allocation.include.", "routing.allocation.exclude.",
            "routing.allocation.require.")  # fmt: skip
_SILENT = {"column_policy", "soft_deletes.enabled", "soft_deletes.retention_lease.period",
           "max_ngram_diff", "max_shingle_diff"}  # fmt: skip


def parse_bytes(value: object) -> int:
    """Return a size such as '512mb' or 1024 in bytes."""
    match = _BYTES.fullmatch(str(value))
    if match is None:
        raise invalid(f'Failed to parse byte size value "{value}"')
    unit = (match[2] or "b").lower()[0]
    return int(float(match[1]) * 1024 ** _BYTES_UNIT[unit])


def parse_ms(value: object) -> int:
    """Return a time such as '720s', '2h' or 1000 in milliseconds."""
    match = _TIME.fullmatch(str(value))
    if match is None:
        raise invalid(f'Failed to parse time value "{value}"')
    return int(float(match[1]) * _TIME_UNIT[(match[2] or "ms").lower()])


def parse_bool(name: str, value: object) -> bool:
    """Return true or false, given as such or as text."""
    if isinstance(value, bool):
        return value
    if str(value).lower() in {"true", "t"}:
        return True
    if str(value).lower() in {"false", "f"}:
        return False
    raise invalid(f'Can\'t convert "{value}" to boolean for setting [{name}]')


def accept(name: str, value: object) -> Any:
    """Return `value` as it will be shown, or raise the refusal of an unknown name or bad value."""
    if value is None:
        raise invalid(f"Cannot set NULL to property {name}.")
    if name in _IN_BYTES:
        return parse_bytes(value)
    if name in _IN_MS:
        return parse_ms(value)
    default = _DEFAULTS.get(name)
    if isinstance(default, bool):
        return parse_bool(name, value)
    if isinstance(default, int):
        try:
            return int(str(value))
        except ValueError:
            raise invalid(f"Failed to parse value [{value}] for setting [{name}]") from None
    if name == "routing.allocation.enable":
        if str(value).lower() not in {"all", "primaries", "new_primaries", "none"}:
            raise invalid(f"Illegal allocation.enable value [{str(value).upper()}]")
        return str(value).lower()
    if default is not None or name in _SILENT or name.startswith(_FILTERS):
        return str(value)
    raise unknown(name)


def unknown(name: str) -> CrateError:
    """400/4000 for a name that is no table setting."""
    return invalid(f'Invalid property "{name}" passed to [ALTER | CREATE] TABLE statement')


def known(name: str) -> bool:
    """Return whether RESET may name it."""
    return name in _DEFAULTS or name in _SILENT or name.startswith(_FILTERS)


def value_of(settings: dict[str, Any], name: str) -> Any:
    """Return the value in force: the one that was set, else the default."""
    return settings.get(name, _DEFAULTS.get(name))


def shown(settings: dict[str, Any], *, partition: bool = False) -> dict[str, Any]:
    """Return the `settings` object of information_schema for what was set.

    A partition has no refresh_interval there (recorded).
    """
    out: dict[str, Any] = copy.deepcopy(_EMPTY_FILTERS)
    for name, value in {**_DEFAULTS, **settings}.items():
        if name in _SILENT:
            continue
        if partition and name == "refresh_interval":
            continue
        here = out
        *parents, last = name.split(".")
        if name.startswith(_FILTERS):
            *parents, last = name.split(".", 3)
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = value
    return out


_EMPTY_FILTERS: dict[str, Any] = {
    "routing": {"allocation": {"include": {}, "require": {}, "exclude": {}}}
}
