"""Cases as hypothesis draws them: whatever a catalog, a config table and signals may hold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.strategies.cases import NOW, SIZES, ago
from tests.strategies.test_guard import PRICED

HOSTILE = [
    'a"b',
    "c'd",
    '"; DROP CLUSTER prod; --',
    "x\\",
    "$1 ? %s {}",
    "\N{SNOWMAN}\N{GRINNING FACE}",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "n" * 255,
    "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 127,
    "n" * 256,
    "a\0b",
    "a\nb",
    "\x85",
    "\ud800",
    " ",
]

SIGNAL = ["ready", "oom_count", "crash_count"]
READINESS = [True, True, True, False, False, None]
COUNTS = [0, 0, 0, 0, 0, 0, 1, 3, None]
AGES = [ago(30 * 86400), ago(30 * 86400), ago(4000), ago(60), None]
ACTIVITIES = [
    {"last_at": NOW, "running": 0},
    None,
    {"last_at": ago(30 * 86400), "running": 1},
    {"last_at": ago(30 * 86400), "running": 0},
    {"last_at": None, "running": 0},
]
NAMES = ["r1", "r2", "r_50cc", "r_200cc", "prod_burst", "prod_25cc", "prod_400cc", "main"]
COOLDOWNS = [{}, {}, {"cooldown_s": 60}, {"cooldown_s": 4000}]
TIMES = [None, ago(30), ago(600), ago(99999), ago(-30), ago(-99999)]
CONFIGS: dict[str, tuple[str, list[Any], list[dict[str, Any]]]] = {
    "target_size": (
        "target_size",
        SIZES,
        [{}, {"replica_name": "main"}, {"pending_timeout_s": 600}],
    ),
    "shrink_to_fit": (
        "max_replica_size",
        SIZES,
        [{}, {"min_oom_count": 2}, {"min_crash_count": 2}],
    ),
    "burst": ("burst_replica_size", SIZES, [{}]),
    "idle_suspend": ("idle_after_s", [60, 1800, 7200], [{}]),
}
CREDIT_LIMITS = [20, 4.5, 1]


class Dice:
    """Choices read off bytes: one draw a case, where a draw a choice costs ten times the case.

    Zeros choose what stands first, so that hypothesis arrives at the plain when it shrinks.
    """

    def __init__(self, rolls: bytes) -> None:
        self._rolls = iter(rolls)

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of several."""
        return copy.deepcopy(options[next(self._rolls, 0) % len(options)])

    def some(self, options: Sequence[Any], most: int) -> list[Any]:
        """Return up to so many of several, none of them twice."""
        return sorted({self.pick(options) for _ in range(self.pick(range(most + 1)))})

    def signals(self) -> dict[str, Any] | None:
        """Return what may be known of a replica."""
        known = [self.pick(READINESS), self.pick(COUNTS), self.pick(COUNTS)]
        drawn: dict[str, Any] | None = self.pick(
            [dict(zip(SIGNAL, known, strict=True))] * 9 + [None]
        )
        return drawn


def _payloads(dice: Dice, ids: list[str]) -> dict[str, Any]:
    """Return what each strategy may remember, true or not."""
    some_ids = ["u-gone", *ids]
    burst = {"name": dice.pick(NAMES), "id": dice.pick([None, *some_ids])}
    created_at = dice.pick(TIMES) or NOW
    pending = {"name": dice.pick(NAMES), "size": dice.pick(SIZES), "created_at": created_at}
    target = {"name": dice.pick(NAMES), "id": dice.pick(some_ids)}
    oom = {dice.pick(SIZES): dice.pick(TIMES) or NOW}
    whole = {
        "target_size": {
            "pending_target_replica": dice.pick([None, pending]),
            "target_replica": dice.pick([None, target]),
        },
        "shrink_to_fit": {
            "oom_sizes": dice.pick([{}, oom]),
            "replicas": dice.pick([{}, {target["name"]: target["id"]}]),
            "untried": dice.pick([[], SIZES[:3]]),
        },
        "burst": {"burst_replica": dice.pick([None, burst])},
        "idle_suspend": {"replication_factor": dice.pick([None, 1, 3])},
    }
    return {
        name: {"version": 1, "payload": {"last_decision_ts": dice.pick(TIMES), **whole[name]}}
        for name in dice.some(sorted(whole), 3)
    }


def _rows(dice: Dice) -> list[dict[str, Any]]:
    rows = []
    for name in sorted({dice.pick(sorted(CONFIGS)) for _ in range(dice.pick([1, 2, 3, 4, 5]))}):
        key, values, more = CONFIGS[name]
        config = {key: dice.pick(values), **dice.pick(more), **dice.pick(COOLDOWNS)}
        rows.append({"type": name, "config": config, "updated_at": None})
    return rows


def _limits(dice: Dice) -> dict[str, Any]:
    most = dice.pick([*[5] * 8, *range(1, 9)])
    limits = {"min_ready": dice.pick([1, 1, 1, 2, 3]), "max_replicas": most}
    if dice.pick([*[False] * 5, True]):
        limits["max_credits_per_hour"] = dice.pick(CREDIT_LIMITS)
    return limits


def _unmanaged(dice: Dice, names: list[str]) -> dict[str, Any]:
    there = []
    shown = {}
    for name in dice.some(names, 5):
        kind = dice.pick([*[""] * 14, "internal", "pending"])
        there.append(
            {
                "id": f"u-{name}",
                "name": name,
                "size": dice.pick([*SIZES * 4, None, "retired"]),
                "created_at": dice.pick(AGES),
                "internal": kind == "internal",
                "pending": kind == "pending",
            }
        )
        shown[name] = dice.signals()
    return {
        "now": NOW,
        "sizes": dice.pick([SIZES, PRICED]),
        "cluster": {
            "id": "u7",
            "name": "prod",
            "managed": False,
            "size": None,
            "replication_factor": None,
            "schedule": "manual",
            "serves_us": dice.pick([False, False, False, True]),
            "replicas": there,
        },
        "strategies": _rows(dice),
        "signals": {"activity": dice.pick(ACTIVITIES), "replicas": shown},
        "state": _payloads(dice, [one["id"] for one in there]),
        "limits": _limits(dice),
    }


def _managed(dice: Dice) -> dict[str, Any]:
    given = _unmanaged(dice, [""])
    size, factor = dice.pick(SIZES), dice.pick([0, 0, 1, 2, 3, 4])
    given["cluster"].update(managed=True, size=size, replication_factor=factor)
    given["cluster"]["replicas"] = [
        {"id": f"u{n}", "name": f"r{n}", "size": size, "created_at": dice.pick(AGES)}
        for n in range(1, factor + 1)
    ]
    given["signals"]["replicas"] = {}
    factor = dice.pick([None, 1, 2, 3, 4])
    payload = {"last_decision_ts": dice.pick(TIMES), "replication_factor": factor}
    given["state"]["idle_suspend"] = {"version": 1, "payload": payload}
    return given


rolls = st.binary(min_size=100, max_size=100)


def unmanaged(named: list[str] = NAMES) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a case of an unmanaged cluster."""
    return rolls.map(lambda drawn: _unmanaged(Dice(drawn), named))


def managed() -> st.SearchStrategy[dict[str, Any]]:
    """Draw a case of a managed cluster."""
    return rolls.map(lambda drawn: _managed(Dice(drawn)))


#: What a replica of each size shows once it was created.
of_new_replicas = rolls.map(lambda drawn: _of_new(Dice(drawn)))

anyones = unmanaged() | unmanaged() | unmanaged() | managed()


def _of_new(dice: Dice) -> dict[str, Any]:
    return {size: dice.signals() for size in SIZES}


#: JSON, and what Python's reader lets through.
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*HOSTILE, NOW, "50cc", "burst", "target_size"])
)
any_json = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """Draw a case with anything at all in one to three of its places."""
    given = draw(anyones)
    for _ in range(draw(st.integers(1, 3))):
        inner: Any = given
        while True:
            keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
            if not keys:
                break
            key = draw(st.sampled_from(list(keys)))
            if not isinstance(inner[key], dict | list) or draw(st.integers(0, 5)) == 0:
                inner[key] = draw(any_json)
                break
            inner = inner[key]
    return given
