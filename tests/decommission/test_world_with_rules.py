"""A world with rules: whatever happens in whatever order, the promises about a restart are kept.

Hypothesis draws a cluster, a restart of it, and everything that may befall both: deaths of the
owner at any touch, effects without an answer, late or refused, statuses that lag, systems that are
away, nodes that hang. The witness looks after every event; in the end all must be as promised.

`pytest --hypothesis-profile=long tests/decommission/test_world_with_rules.py` looks much longer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from caretaker.decommission.cluster_settings import FORCE, MIN_AVAILABILITY, TIMEOUT
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.steps import RestartOutcome
from tests.decommission.test_killed import killed_at
from tests.decommission.world import KilledError, Runner, Trouble, World, a_world

clusters = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["manual", "manual", "kubernetes_managed"]),
        "size": st.sampled_from([3, 3, 4]),
        "master": st.integers(0, 2),
        "probes": st.booleans(),
        "lag_s": st.sampled_from([0.0, 0.0, 0.4, 1.0]),
        "move_s": st.sampled_from([0.1, 0.3, 2.0]),
        "restart_s": st.sampled_from([0.0, 1.0, 1.0]),
        "persistent": st.fixed_dictionaries(
            {},
            optional={
                TIMEOUT: st.sampled_from(["900s", "720s"]),
                FORCE: st.booleans(),
                MIN_AVAILABILITY: st.sampled_from(["FULL", "NONE"]),
            },
        ),
        "hung": st.sets(st.integers(0, 2), max_size=2),
    }
)
policies = st.fixed_dictionaries(
    {
        "delete_when": st.sampled_from(["drained", "drained", "exited"]),
        "min_availability": st.sampled_from(["PRIMARIES", "PRIMARIES", "FULL"]),
        "recreate_pod": st.booleans(),
        "settle_s": st.sampled_from([0, 30]),
    }
)
troubles = st.lists(
    st.builds(
        Trouble,
        at=st.integers(0, 20),
        kind=st.sampled_from(["lost", "late", "silent", "not sent"]),
        count=st.integers(1, 2),
    ),
    max_size=3,
)
deaths = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0.0, 1.0, 6.0, 40.0])), max_size=5)
absences = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from(["kube_away", "crate_away"]), st.integers(1, 20)),
    max_size=2,
)


def made(cluster: dict[str, Any]) -> World:
    world = a_world(cluster["strategy"], cluster["size"])
    world.probes, world.lag_s = cluster["probes"], cluster["lag_s"]
    world.kube.restart_s = cluster["restart_s"]
    world.crate.move_s = cluster["move_s"]
    world.crate.master = f"data-hot-{cluster['master']}"
    world.crate.persistent = dict(cluster["persistent"])
    if cluster["strategy"] == "manual":
        # A managed drain that hangs waits for its own timeout: nobody asks for less.
        world.crate.hung = {f"data-hot-{n}" for n in cluster["hung"]}
    world.promise()
    return world


# Without shrinking: an example is small enough to read, and making it smaller takes minutes.
@settings(
    max_examples=60,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(clusters, policies, troubles, deaths, absences)
def test_whatever_befalls_a_restart_its_promises_are_kept(cluster, policy, befalls, dies, gone):
    world = made(cluster)
    left = list(dies)

    def absent(runner: Runner) -> None:
        for at, which, seconds in gone:
            if runner.looks == at:
                setattr(world, which, True)
                world.time.after(seconds, partial(world.come_back, which))

    runner = Runner(world, RestartPolicy.checked(**policy), troubles=list(befalls), between=absent)
    outcome = None
    while outcome is None:
        runner.touch = killed_at(left[0][0]) if left else lambda _: None
        try:
            outcome = runner.take_over() if runner.stored else runner.start()
        except KilledError:
            world.time.advance(left.pop(0)[1])
    # Nothing that was sent long ago undoes it afterwards.
    world.time.advance(120)

    event(f"{outcome} after {len(dies) - len(left)} deaths")
    world.check_settings()
    assert world.worst_down <= 1
    if outcome is RestartOutcome.REFUSED:
        assert gone
        world.check_restarted([])
        return
    assert outcome is RestartOutcome.COMPLETED, runner.conclusion
    world.check_restarted(world.pods)
