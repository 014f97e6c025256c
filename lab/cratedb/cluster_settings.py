"""SET GLOBAL and RESET GLOBAL: transient hides persistent, and RESET clears both."""

from __future__ import annotations

from typing import Any

from lab.cratedb import options
from lab.cratedb.answers import invalid
from lab.cratedb.shapes import BOOL, CLUSTER_SETTINGS, INT, OPEN, REAL, Shape

_DEFAULTS: dict[str, Any] = {
    "cluster.graceful_stop.force": False,
    "cluster.graceful_stop.min_availability": "PRIMARIES",
    # Defaults show in milliseconds, a value that was set shows as it was typed (recorded).
    "cluster.graceful_stop.timeout": "7200000ms",
    "cluster.info.update.interval": "30000ms",
    "cluster.max_shards_per_node": 1000,
    "cluster.routing.allocation.allow_rebalance": "indices_all_active",
    "cluster.routing.allocation.balance.index": 0.55,
    "cluster.routing.allocation.balance.shard": 0.45,
    "cluster.routing.allocation.balance.threshold": 1.0,
    "cluster.routing.allocation.cluster_concurrent_rebalance": 2,
    "cluster.routing.allocation.disk.threshold_enabled": True,
    "cluster.routing.allocation.disk.watermark.flood_stage": "95%",
    "cluster.routing.allocation.disk.watermark.high": "90%",
    "cluster.routing.allocation.disk.watermark.low": "85%",
    "cluster.routing.allocation.enable": "all",
    "cluster.routing.allocation.node_concurrent_recoveries": 2,
    "cluster.routing.allocation.node_initial_primaries_recoveries": 4,
    "cluster.routing.allocation.total_shards_per_node": -1,
    "cluster.routing.rebalance.enable": "all",
    "indices.recovery.internal_action_timeout": "900000ms",
    "indices.recovery.max_bytes_per_sec": "40mb",
    "indices.recovery.retry_delay_network": "5000ms",
    "indices.recovery.retry_delay_state_sync": "500ms",
    "memory.operation_limit": 0,
    "overload_protection.dml.initial_concurrency": 5,
    "overload_protection.dml.max_concurrency": 2000,
    "overload_protection.dml.min_concurrency": 1,
    "overload_protection.dml.queue_size": 25,
    "replication.logical.reads_poll_duration": "50ms",
    "replication.logical.recovery.chunk_size": "1mb",
    "statement_max_length": 262144,
    "statement_timeout": "0ms",
    "stats.enabled": True,
    "stats.jobs_log_expiration": "0ms",
    "stats.jobs_log_filter": "true",
    "stats.jobs_log_size": 10000,
    "stats.operations_log_expiration": "0ms",
    "stats.operations_log_size": 10000,
    "stats.service.interval": "86400000ms",
    "stats.service.max_bytes_per_sec": "40mb",
    "udc.enabled": True,
    "udc.initial_delay": "600000ms",
    "udc.interval": "86400000ms",
    "udc.url": "https://udc.crate.io/",
}
_ALLOCATION = {"all", "primaries", "new_primaries", "none"}


def _leaves(shape: Shape, prefix: str = "") -> dict[str, Shape]:
    out: dict[str, Shape] = {}
    for key, value in shape.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            out.update(_leaves(value, f"{name}."))
        else:
            out[name] = value
    return out


_TYPES = _leaves(CLUSTER_SETTINGS)


class ClusterSettings:
    """The two levels of values and the defaults under them."""

    def __init__(self) -> None:
        """Start with nothing set."""
        self.persistent: dict[str, Any] = {}
        self.transient: dict[str, Any] = {}

    def set(self, name: str, value: object, *, persistent: bool) -> None:
        """Set one value on one level, or raise 400/4000."""
        (self.persistent if persistent else self.transient)[name] = _accept(name, value)

    def reset(self, name: str) -> None:
        """Forget a setting, or a whole group of them, on both levels."""
        if name not in _TYPES and not any(known.startswith(f"{name}.") for known in _TYPES):
            raise invalid(f"Setting '{name}' is not supported")
        for level in (self.persistent, self.transient):
            for known in [k for k in level if k == name or k.startswith(f"{name}.")]:
                del level[known]

    def get(self, name: str) -> Any:
        """Return the value in force."""
        for level in (self.transient, self.persistent):
            if name in level:
                return level[name]
        return _DEFAULTS.get(name)

    def ms(self, name: str) -> int:
        """Return a time in milliseconds however it was typed."""
        return options.parse_ms(self.get(name))

    def shown(self) -> dict[str, Any]:
        """Return the `settings` object of sys.cluster."""
        out: dict[str, Any] = {}
        for name in _TYPES:
            here = out
            *parents, last = name.split(".")
            for parent in parents:
                here = here.setdefault(parent, {})
            here[last] = self._below(name) if _TYPES[name] == OPEN else self.get(name)
        return out

    def _below(self, name: str) -> dict[str, Any]:
        """Return what was set of a filter such as `cluster.routing.allocation.exclude`."""
        found = {**self.persistent, **self.transient}
        head = f"{name}."
        return {key.removeprefix(head): found[key] for key in found if key.startswith(head)}


def _accept(name: str, value: object) -> Any:
    shape = _TYPES.get(name)
    if shape is None:
        if name.startswith(("logger.", "cluster.routing.allocation.exclude.",
                            "cluster.routing.allocation.include.",
                            "cluster.routing.allocation.require.")):  # fmt: skip
            return str(value)
        raise invalid(f"Setting '{name}' is not supported")
    if value is None:
        raise invalid(f"Cannot set NULL to property {name}.")
    if shape == BOOL:
        return options.parse_bool(name, value)
    if shape in {INT, REAL}:
        try:
            return int(str(value)) if shape == INT else float(str(value))
        except ValueError:
            raise invalid(f"Cannot cast `'{value}'` of type `text` to type `integer`") from None
    if name == "cluster.routing.allocation.enable" and str(value).lower() not in _ALLOCATION:
        raise invalid(f"Illegal allocation.enable value [{str(value).upper()}]")
    if name.endswith((".timeout", "interval")):
        options.parse_ms(value)
    return str(value)
