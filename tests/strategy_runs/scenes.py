"""Scenes: a cluster, its strategies, and what there must be in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.strategy_runs.bench import Bench


@dataclass(frozen=True)
class Scene:
    """Something to do: `prepare` makes it so, `wanted` are the replicas in the end.

    `moves` is what happens after each cycle, beside time going by.
    """

    name: str
    prepare: Callable[[Bench], None]
    wanted: dict[str, str]

    def __str__(self) -> str:
        return self.name


def _target(bench: Bench) -> None:
    bench.lab.cluster("prod", {"r1": "25cc"})
    bench.lab.index("prod", "i")
    bench.lab.make_ready("prod")
    bench.strategy("prod", "target_size", target_size="50cc")


def _burst(bench: Bench) -> None:
    """The one that is there takes 50 s to be ready; burst is, after 5, and goes again."""
    bench.lab.cluster("prod")
    bench.lab.index("prod", "i", hydrate_s=100)
    bench.lab.call(
        {
            "op": "create_replica",
            "cluster": "prod",
            "name": "r1",
            "options": {"SIZE": "25cc"},
        }
    )
    bench.pass_(10)
    bench.strategy("prod", "burst", burst_replica_size="400cc")


def _shrink(bench: Bench) -> None:
    bench.lab.cluster("prod")
    bench.lab.index("prod", "i")
    bench.strategy("prod", "shrink_to_fit", max_replica_size="100cc")


def _idle(bench: Bench) -> None:
    bench.lab.cluster("prod", {"r1": "25cc", "r2": "25cc"})
    bench.lab.statement_ran("prod", seconds_ago=7200)
    bench.pass_(7200)
    bench.strategy("prod", "idle_suspend", idle_after_s=600)


def _resize(bench: Bench) -> None:
    bench.lab.managed_cluster("prod", "25cc")
    bench.lab.speed = 200.0  # WAIT UNTIL READY: somebody must get ready meanwhile
    bench.strategy("prod", "target_size", target_size="50cc")


def _suspend(bench: Bench) -> None:
    bench.lab.managed_cluster("prod", "25cc", 2)
    bench.lab.statement_ran("prod", seconds_ago=7200)
    bench.pass_(7200)
    bench.strategy("prod", "idle_suspend", idle_after_s=600)


TARGET = Scene("target_size", _target, {"r_50cc": "50cc"})
BURST = Scene("burst", _burst, {"r1": "25cc"})
SHRINK = Scene("shrink_to_fit", _shrink, {"prod_25cc": "25cc"})
IDLE = Scene("idle_suspend", _idle, {})
RESIZE = Scene("resize", _resize, {"r1": "50cc"})
SUSPEND = Scene("suspend", _suspend, {})
SCENES = (TARGET, BURST, SHRINK, IDLE, RESIZE, SUSPEND)
