"""Two ways to one CrateDB, exec in its pods and its address: what works is used, the rest is said.

The clients are a restart's own, without a restart; one cluster serves all cases.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from caretaker.decommission.cluster_settings import ALLOCATION
from caretaker.decommission.model import ClusterRef
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.restart import begin
from caretaker.decommission.steps import ResetGlobal, SetGlobal, Verdict
from caretaker.decommission.ticket import DecommissionState
from caretaker.errors import CaretakerError, RefusedError, TransientError, UnsafeError
from lab.cratedb import LabCrateDB
from lab.faults import Fault
from ops.decommission_look import Looker
from ops.decommission_perform import Performer
from ops.decommission_way import Crates, Way, crates_of
from resources.clock import Clock, utc_now
from resources.cratedb.resource import CrateDBResource
from resources.kubernetes.client import KubernetesClient
from resources.kubernetes.settings import KubernetesSettings
from resources.process import owner_of_run
from resources.state_store import StateStore

POLICY = RestartPolicy()


@pytest.fixture(scope="module")
def shared(module_start):
    """Three pods, and a user who may see everything and set nothing."""
    world = module_start()
    world.crate.create_user("ops", "secret", "DQL")
    return world


@pytest.fixture(scope="module")
def other():
    """A CrateDB that has nothing to do with those pods."""
    with LabCrateDB(1, cluster_name="other", seed=99) as lab:
        yield lab


class Ways:
    """A restart's clients, for one address and one operator's choice."""

    def __init__(self, world, plane, store, opened):
        self._world, self._store, self._opened = world, store, opened
        settings = KubernetesSettings(kubeconfig=str(plane.kubeconfig(world.pods.namespace)))
        self.kube = opened.enter_context(KubernetesClient(settings))
        self.found = self.kube.cluster(world.name)
        self.seen = self.kube.seen(self.found)

    def crates(self, hosts, way="auto", **user):
        """Return how CrateDB is reached."""
        crates, self.cluster_id = self._opened.enter_context(
            crates_of(
                self.kube,
                self.seen,
                Way(sql=way),
                CrateDBResource(hosts=hosts, **user),
                namespace=self.found.ref.namespace,
                container=POLICY.container,
                statement_timeout_s=10.0,
            )
        )
        return crates

    def ticket(self, under_way=None):
        """Return a ticket for all pods, perhaps with one of them on its way out."""
        ref = ClusterRef(self.found.ref.namespace, self.found.ref.name, self.cluster_id)
        ticket = begin(ref, self.seen.pods, self.seen, POLICY, utc_now())
        if under_way is None:
            return ticket
        pod = ticket.pod(under_way)
        return ticket.with_pod(replace(pod, state=DecommissionState.DELETING, began_at=utc_now()))

    def looker(self, crates):
        """Return who looks."""
        look = self._opened.enter_context(self.kube.look(self.found))
        return Looker(look, crates, self._store, Clock(), self.cluster_id)

    def performer(self, crates):
        """Return who acts."""
        return Performer(crates, self._store, Clock(), self.found.ref.namespace)


@pytest.fixture
def store(home):
    """The state store of the test's own home."""
    with StateStore.open(f"sqlite:///{home / 'caretaker.db'}") as opened:
        yield opened


@pytest.fixture
def ways(shared, plane, store):
    """Make a restart's clients."""
    with ExitStack() as opened:
        yield Ways(shared, plane, store, opened)
    shared.crate.faults.clear()


@pytest.mark.parametrize("under_way", [None, 0], ids=["between two pods", "one on its way out"])
def test_what_the_user_of_an_address_may_not_set_is_set_by_exec_in_a_pod_that_stays(
    shared, ways, store, under_way
):
    crates = ways.crates(shared.crate.connection_string, username="ops", password="secret")
    going = None if under_way is None else shared.pod(under_way)
    ticket, looker = ways.ticket(going), ways.looker(crates)
    held = store.open_restart(ticket, owner_of_run("r", 1), purpose="rolling_restart", way={})

    def perform(action):
        seen = looker.observe(ticket)
        assert seen.crate is not None, seen.crate_error
        performer, good_until = ways.performer(crates), looker.clock.monotonic() + 60.0
        entry = performer.begin(action, held)
        answer = performer.perform(
            action, held, entry, through=looker.through, good_until=good_until
        )
        assert answer.verdict is Verdict.DONE, answer
        return seen.crate.user

    try:
        assert perform(SetGlobal(ALLOCATION, "primaries", timeout_s=10.0)) == "ops"
        assert shared.settings[ALLOCATION] == "primaries"
        assert perform(ResetGlobal((ALLOCATION,), timeout_s=10.0)) == "ops"
        assert shared.settings[ALLOCATION] == "all"
    finally:
        shared.crate.sql(f'RESET GLOBAL "{ALLOCATION}"')
    assert looker.through in set(shared.pods.pods) - {going}


def test_a_pod_in_which_a_change_came_to_nothing_is_not_taken_for_the_next(shared, ways):
    """It may be Ready, and hang with every exec: no setting would ever be put back."""
    crates = ways.crates(shared.crate.connection_string, username="ops", password="secret")
    ticket, looker = ways.ticket(), ways.looker(crates)
    looker.observe(ticket)
    taken = looker.through
    assert taken in shared.pods.pods

    looker.shunned = taken
    looker.observe(ticket)

    assert looker.through in set(shared.pods.pods) - {taken}


def test_a_run_that_is_suspended_while_its_store_answers_sends_nothing(
    shared, ways, store, monkeypatch
):
    """An hour later, nothing of what it saw need be true; its ticket is its own all the same."""
    crates = ways.crates(shared.crate.connection_string)
    held = store.open_restart(
        ways.ticket(), owner_of_run("r", 1), purpose="rolling_restart", way={}
    )
    slept_s, check = [0.0], store.check_restart

    def and_sleep(row):
        check(row)
        slept_s[0] = 3600.0

    monkeypatch.setattr(store, "check_restart", and_sleep)
    clock = Clock(monotonic=lambda: slept_s[0])
    performer = Performer(crates, store, clock, shared.pods.namespace)
    action = SetGlobal(ALLOCATION, "primaries", timeout_s=10.0)

    answer = performer.perform(
        action, held, performer.begin(action, held), through="", good_until=2.5
    )

    assert answer.verdict is Verdict.NOT_SENT
    assert shared.settings[ALLOCATION] == "all"


def test_an_address_that_stops_answering_is_looked_past_through_a_pod(shared, ways):
    crates = ways.crates(shared.crate.urls[2])
    ticket, looker = ways.ticket(shared.pod(2)), ways.looker(crates)
    assert looker.observe(ticket).crate is not None
    assert looker.through == ""
    shared.crate.faults.add(Fault(action="refuse", node=2))

    seen = looker.observe(ticket)

    assert seen.crate is not None, seen.crate_error
    assert looker.through in {shared.pod(0), shared.pod(1)}


def an_address_that(is_of_no_use, shared, other):
    """Return an address, and what is said of it."""
    return {
        "is dead": ({"hosts": "http://127.0.0.1:9"}, "Connection refused"),
        "is another cluster's": ({"hosts": other.url}, "leads to cluster"),
        "refuses the password": (
            {"hosts": shared.crate.url, "username": "ops", "password": "wrong"},
            "wrong user or password",
        ),
    }[is_of_no_use]


USELESS = ["is dead", "is another cluster's", "refuses the password"]


@pytest.mark.parametrize("why", USELESS)
def test_an_address_of_no_use_is_said_and_does_not_block_what_exec_can_do(shared, ways, other, why):
    given, said = an_address_that(why, shared, other)
    ids = shared.crate.sql("SELECT id FROM sys.cluster")["rows"]

    crates = ways.crates(**given)

    assert ways.cluster_id == ids[0][0]
    assert crates.address is None
    assert "CRATE_CONNECTION_STRING is not used" in crates.note
    assert said in crates.note
    looker = ways.looker(crates)
    assert looker.observe(ways.ticket()).crate is not None
    assert looker.through in shared.pods.pods


@pytest.mark.parametrize("why", USELESS)
def test_an_address_that_is_insisted_on_must_be_of_use(shared, ways, other, why):
    given, said = an_address_that(why, shared, other)

    with pytest.raises(CaretakerError, match=said):
        ways.crates(**given, way="address")


@pytest.mark.parametrize(
    ("why", "hint"),
    [
        (RefusedError("Forbidden", status=403, hint="add the rule"), "--sql address says"),
        (RefusedError("no exec: container crate is not valid", status=400), ""),
        (TransientError("no route to host"), ""),
    ],
    ids=["forbidden", "no such container", "away for now"],
)
def test_to_insist_on_the_address_is_advised_only_where_exec_is_forbidden(
    shared, ways, monkeypatch, why, hint
):
    def in_pod(*_):
        raise why

    monkeypatch.setattr(Crates, "in_pod", in_pod)
    with pytest.raises(UnsafeError, match="cannot be seen") as refused:
        ways.crates(shared.crate.connection_string)

    assert refused.value.hint.startswith(hint)
    assert bool(refused.value.hint) == bool(hint)


def test_a_plan_is_made_by_exec_and_says_that_the_address_is_dead(shared, caretaker):
    command = caretaker(shared, address=False)
    command.environment["CRATE_CONNECTION_STRING"] = "http://127.0.0.1:9"

    run = command.restart(shared, "--dry-run")

    assert run.code == 0, run.err
    assert "CRATE_CONNECTION_STRING is not used" in run.err
