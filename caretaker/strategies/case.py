"""Reading a case: plain JSON in, or a CaseError that names the path of what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

from caretaker.errors import CaseError
from caretaker.strategies.model import (
    MAX_FACTOR,
    Activity,
    Case,
    Cluster,
    ConfigRow,
    Json,
    Limits,
    Replica,
)
from caretaker.strategies.moments import AN_AWARE_TIME, moment
from caretaker.strategies.shown import name_of, shown
from caretaker.strategies.sizes import read_sizes

_KEYS = frozenset({"now", "sizes", "cluster", "strategies", "signals", "state", "limits"})

#: Counts as a catalog can hold them.
_MOST = 2**63 - 1

#: What is remembered lies up to years after `now`, and a time has four digits of them.
_FIRST_YEAR, _LAST_YEAR = 1970, 9000

#: The whole path of a value, or the list it is in and its place there: most are never needed.
Where: TypeAlias = str | tuple[str, int]

_NO_REPLICA_SIGNALS: Json = {}
_MISSING: Any = object()


def read_case(given: object) -> Case:
    """Return the case, or raise CaseError; no input raises anything else."""
    if not isinstance(given, dict):
        raise wrong("case", "", given, "an object")
    for key in given:
        if key not in _KEYS:
            raise wrong("", name_of(key), key, f"one of {', '.join(sorted(_KEYS))}")
    now = _time(given, "now", "", required=True)
    if now is None or not _FIRST_YEAR <= now.year <= _LAST_YEAR:
        raise wrong("now", "", given["now"], f"a time from {_FIRST_YEAR} to {_LAST_YEAR}")
    signals = _object(given, "signals", "")
    of_replicas = _object(signals, "replicas", "signals", default=_NO_REPLICA_SIGNALS)
    return Case(
        now=now,
        sizes=read_sizes(_present(given, "sizes", "")),
        cluster=_cluster(_object(given, "cluster", ""), _replica_signals(of_replicas)),
        rows=[_config_row(row, n) for n, row in enumerate(_list(given, "strategies", ""))],
        activity=_activity(signals.get("activity")),
        state=_state(_object(given, "state", "", default={})),
        limits=_limits(_object(given, "limits", "", default={})),
    )


def wrong(where: Where, key: str, found: object, allowed: str) -> CaseError:
    """Return the error that names what is wrong with a case, and where."""
    prefix = where if isinstance(where, str) else f"{where[0]}[{where[1]}]"
    path = f"{prefix}.{key}" if prefix and key else prefix or key
    return CaseError(f"{path}: found {shown(found)}, expected {allowed}", target=path)


def _cluster(row: Json, signals: dict[str, tuple[Any, ...]]) -> Cluster:
    where = "cluster"
    managed = _flag(row, "managed", where)
    cluster = Cluster(
        id=_name(row, "id", where),
        name=_name(row, "name", where),
        managed=managed,
        size=_text(row, "size", where),
        replication_factor=_count(row, "replication_factor", where),
        schedule=_text(row, "schedule", where) or "manual",
        pending=_flag(row, "pending", where),
        auto_scaling=_flag(row, "auto_scaling", where),
        serves_us=_flag(row, "serves_us", where),
        replicas=[
            _replica(replica, ("cluster.replicas", n), signals)
            for n, replica in enumerate(_list(row, "replicas", where))
        ],
    )
    if managed and cluster.size is None:
        raise wrong(where, "size", None, "the size of a managed cluster")
    factor = cluster.replication_factor
    if (managed and factor is None) or (factor is not None and factor > MAX_FACTOR):
        allowed = f"a whole number from 0 to {MAX_FACTOR}"
        raise wrong(where, "replication_factor", factor, allowed)
    if len({replica.name for replica in cluster.replicas}) < len(cluster.replicas):
        _refuse_twice(cluster.replicas, "name", lambda replica: replica.name)
    if len({replica.id for replica in cluster.replicas}) < len(cluster.replicas):
        _refuse_twice(cluster.replicas, "id", lambda replica: replica.id)
    # A catalog has no order, and a decision must not depend on one.
    cluster.replicas.sort(key=lambda replica: replica.name)
    return cluster


def _replica(row: object, where: Where, signals: dict[str, tuple[Any, ...]]) -> Replica:
    if not isinstance(row, dict):
        raise wrong(where, "", row, "an object")
    name = _name(row, "name", where)
    ready, oom_count, crash_count = signals.get(name, (None, None, None))
    return Replica(
        _name(row, "id", where),
        name,
        _text(row, "size", where),
        _time(row, "created_at", where),
        _flag(row, "internal", where),
        _flag(row, "pending", where),
        ready,
        oom_count,
        crash_count,
    )


def _refuse_twice(replicas: list[Replica], key: str, of: Callable[[Replica], str]) -> None:
    seen: set[str] = set()
    for number, replica in enumerate(replicas):
        if of(replica) in seen:
            raise wrong(("cluster.replicas", number), key, of(replica), "one that no other has")
        seen.add(of(replica))


def _replica_signals(given: Json) -> dict[str, tuple[Any, ...]]:
    signals = {}
    for name, row in given.items():
        if row is None:
            continue
        where = f"signals.replicas.{name_of(name)}"
        if not isinstance(row, dict):
            raise wrong(where, "", row, "an object or null")
        ready = row.get("ready")
        if ready is not None and not isinstance(ready, bool):
            raise wrong(where, "ready", ready, "true, false or null")
        signals[name] = ready, _count(row, "oom_count", where), _count(row, "crash_count", where)
    return signals


def _activity(given: object) -> Activity | None:
    """Return when the cluster was last used; without a count of what runs now nobody knows."""
    where = "signals.activity"
    if given is None:
        return None
    if not isinstance(given, dict):
        raise wrong(where, "", given, "an object or null")
    running = _count(given, "running", where)
    last_at = _time(given, "last_at", where)
    # A last_at that is null says "never"; one that is absent says nothing.
    return None if running is None or "last_at" not in given else Activity(last_at, running)


def _config_row(row: object, number: int) -> ConfigRow:
    where = ("strategies", number)
    if not isinstance(row, dict):
        raise wrong(where, "", row, "an object")
    updated_at = _time(row, "updated_at", where)
    return ConfigRow(_name(row, "type", where), row.get("config"), updated_at)


def _state(given: Json) -> dict[str, Json]:
    state: dict[str, Json] = {}
    for name, entry in given.items():
        if entry is None:
            continue
        if not isinstance(entry, dict):
            raise wrong("state", name_of(name), entry, "an object")
        state[name] = entry
    return state


def _limits(given: Json) -> Limits:
    if not given:
        return Limits()
    for key in given:
        if key not in Limits._fields:
            raise wrong("limits", name_of(key), key, f"one of {', '.join(Limits._fields)}")
    most = given.get("max_credits_per_hour")
    if most is not None and (type(most) not in (int, float) or not 0 <= most <= _MOST):
        raise wrong("limits", "max_credits_per_hour", most, "a number of at least 0, or null")
    min_ready = _count(given, "min_ready", "limits")
    max_replicas = _count(given, "max_replicas", "limits")
    default = Limits()
    return Limits(
        min_ready=default.min_ready if min_ready is None else min_ready,
        max_replicas=default.max_replicas if max_replicas is None else max_replicas,
        max_credits_per_hour=most,
        allow_downtime=_flag(given, "allow_downtime", "limits"),
    )


def _present(row: Json, key: str, where: Where) -> Any:
    if key not in row:
        raise wrong(where, key, None, "a value: it is missing")
    return row[key]


def _object(row: Json, key: str, where: Where, default: Json | None = None) -> Json:
    value = row.get(key, _MISSING)
    if type(value) is dict:
        return value
    if default is not None and (value is None or value is _MISSING):
        return default
    if value is _MISSING:
        _present(row, key, where)
    raise wrong(where, key, value, "an object")


def _list(row: Json, key: str, where: Where) -> list[Any]:
    value = row.get(key, _MISSING)
    if type(value) is list:
        return value
    if value is _MISSING:
        _present(row, key, where)
    raise wrong(where, key, value, "a list")


def _name(row: Json, key: str, where: Where) -> str:
    value = row.get(key, _MISSING)
    if type(value) is str and value:
        return value
    if value is _MISSING:
        _present(row, key, where)
    raise wrong(where, key, value, "a text that is not empty")


def _text(row: Json, key: str, where: Where) -> str | None:
    value = row.get(key)
    if value is None or type(value) is str:
        return value
    raise wrong(where, key, value, "a text or null")


def _flag(row: Json, key: str, where: Where) -> bool:
    value = row.get(key)
    if value is None:
        return False
    if value is True or value is False:
        return value
    raise wrong(where, key, value, "true or false")


def _count(row: Json, key: str, where: Where) -> int | None:
    value = row.get(key)
    if value is None or (type(value) is int and 0 <= value <= _MOST):
        return value
    raise wrong(where, key, value, "a whole number of at least 0, or null")


def _time(row: Json, key: str, where: Where, *, required: bool = False) -> datetime | None:
    value = row.get(key)
    if value is None and not required:
        return None
    at = moment(value)
    if at is None:
        if key not in row:
            _present(row, key, where)
        raise wrong(where, key, value, AN_AWARE_TIME if required else f"{AN_AWARE_TIME}, or null")
    return at
