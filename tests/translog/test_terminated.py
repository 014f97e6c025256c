"""A run is terminated in Dagster's web page, in each of its states: the replicas are back.

One Dagster serves all of them, with its daemon, so the sensor that restores is on as it ships.
"""

from __future__ import annotations

import itertools
import re
import threading
from dataclasses import dataclass, field

import pytest

from lab.cratedb import LabCrateDB
from lab.cratedb.handles import Handle
from lab.faults import Fault
from resources.state_store import StateStore
from tests.translog.dagster_here import ENDED, dagster_in
from tests.waiting import in_time
from tests.world import SET_REPLICAS

TABLE_READ = "information_schema.tables"
LEASES = "retention_leases"


@pytest.fixture(scope="module")
def lab():
    with LabCrateDB(nodes=3, recovery_s=0.04) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def store(home):
    with StateStore.open(f"sqlite:///{home / 'caretaker.db'}") as opened:
        yield opened


@pytest.fixture(scope="module")
def page(lab, home):
    """Dagster against the lab, with its state in `store`."""
    with dagster_in(
        home,
        CRATE_CONNECTION_STRING=lab.connection_string,
        CARETAKER_STATE_URL=f"sqlite:///{home / 'caretaker.db'}",
    ) as served:
        yield served


numbers = itertools.count()


@dataclass
class Held:
    """A run that does not get past a certain point until it is let go.

    Attributes:
        here: It is there.
        go_on: It may go on.
    """

    here: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def wait(self, _entry):
        self.here.set()
        self.go_on.wait(600)


@dataclass
class Case:
    """One sick table, and the ticket that a run writes for it."""

    lab: LabCrateDB
    store: StateStore
    name: str
    table: Handle
    held: Held

    def ticket(self):
        """Return its ticket, open or closed, or None."""
        found = [row for row in self.store.tickets(include_closed=True) if self._ours(row.ticket)]
        return found[0] if found else None

    def state(self):
        row = self.ticket()
        return row.ticket.state.value if row is not None else None

    def _ours(self, ticket):
        return str(ticket.target) == self.name

    def at(self, match, state, *, after=False, nth=1, block=True):
        """Hold the run at the n-th statement of this kind that it sends in this state."""
        seen = itertools.count(1)

        def here(entry):
            if self.state() == state and next(seen) == nth:
                self.held.wait(entry) if block else self.held.here.set()

        rule = Fault(match, after=here) if after else Fault(match, before=here)
        self.lab.faults.add(rule)

    @property
    def sent(self):
        """The replicas that were asked for, in order."""
        quoted = '"' + self.name.replace(".", '"."') + '"'
        return [
            entry.args[-1]
            for entry in self.lab.journal
            if entry.args and re.search(SET_REPLICAS, entry.stmt) and quoted in entry.stmt
        ]


@pytest.fixture
def case(lab, store):
    """A table of its own for each test; what holds the run is let go at the end."""
    name = f"doc.t{next(numbers)}"
    table = lab.table(name, shards=1, replicas="1", sick_mb=1200)
    made = Case(lab, store, name, table, Held())
    yield made
    made.held.go_on.set()
    lab.faults.clear()
    lab.world.recovery_s = 0.04
    # Its copies may still be on their way, and the next run wants a GREEN cluster.
    table.drop()


def launched(page, case, **options):
    """Start a reset of the one table in the page, and return once it is held."""
    run = page.launch("translog_reset", table=re.escape(case.name), **options)
    in_time(lambda: case.held.here.is_set() or page.status(run) in ENDED)
    assert case.held.here.is_set(), (page.status(run), case.sent, case.ticket())
    return run


def before_its_ticket(case):
    case.at("sys.snapshots", None, nth=2)


def detected(case):
    case.at(TABLE_READ, "DETECTED")


def waiting(case):
    """In a pause of ten minutes between two looks at the leases."""
    case.table.leases_stuck = True
    case.at(LEASES, "MONITORING_LEASES", after=True, block=False)


def restoring(case):
    """Its ALTER has arrived, and is neither applied nor answered."""
    case.at(SET_REPLICAS, "RESTORING_REPLICAS")


def verifying(case):
    """Replicas that need an hour to come back."""
    case.at(TABLE_READ, "VERIFYING", nth=3, block=False)
    case.lab.faults.add(
        Fault(
            SET_REPLICAS,
            after_matches=1,
            times=1,
            before=lambda _: setattr(case.lab.world, "recovery_s", 3600.0),
        )
    )


#: How to hold a run, what it has sent in the end, and how the store says that it ended.
STATES = {
    "before its ticket": (before_its_ticket, [], []),
    "DETECTED": (detected, [], ["SKIPPED"]),
    "MONITORING_LEASES": (waiting, ["0", "1"], ["FAILED_RESTORED"]),
    "RESTORING_REPLICAS": (restoring, ["0", "1", "1"], ["FAILED_RESTORED"]),
    "VERIFYING": (verifying, ["0", "1"], ["FAILED_RESTORED"]),
}


@pytest.mark.parametrize(("hold", "sent", "told"), STATES.values(), ids=STATES.keys())
def test_the_text_is_back_before_the_run_is_called_canceled_in(page, case, hold, sent, told):
    hold(case)
    run = launched(page, case, wait_ladder_s=[600])

    page.terminate(run)

    assert page.ended(run) == "CANCELED"
    assert case.table.number_of_replicas == "1"
    assert case.sent == sent
    row = case.ticket()
    assert (row is not None and row.closed_at is not None) is bool(told)
    outcomes = [one for one in case.store.outcomes() if str(one.target) == case.name]
    assert [one.outcome for one in outcomes] == told
    assert all(one.final_replicas == "1" for one in outcomes)


def test_called_off_at_once_it_still_keeps_its_promise_and_nobody_else_may(page, case):
    """Dagster says CANCELED and knows nothing; the ticket's heart beats."""
    # Whatever it sends to restore hangs, however often it is interrupted and sends it again.
    case.lab.faults.add(Fault(SET_REPLICAS, after_matches=1, before=case.held.wait))
    run = launched(page, case)
    page.force_termination(run)
    assert page.ended(run) == "CANCELED"
    ticket = case.ticket().ticket
    assert (ticket.state.value, case.table.number_of_replicas) == ("RESTORING_REPLICAS", "0")

    asked_for = page.launch("translog_restore", ticket_ids=[ticket.id])
    assert page.ended(asked_for) == "FAILURE"
    of_the_dead = page.launch("translog_restore")
    assert page.ended(of_the_dead) == "SUCCESS"
    assert case.ticket().ticket.epoch == 1
    assert case.table.number_of_replicas == "0"

    case.held.go_on.set()
    in_time(lambda: case.ticket().closed_at is not None)
    assert case.table.number_of_replicas == "1"
    assert case.ticket().ticket.epoch == 1
    assert page.status(run) == "CANCELED"


def test_terminated_while_the_zero_is_unanswered_it_leaves_the_watch_to_the_sensor(page, case):
    """The original is sent at once; whether the 0 still lands is for another run to see."""
    case.at(SET_REPLICAS, "SETTING_REPLICAS_ZERO")
    run = launched(page, case)

    page.terminate(run)

    assert page.ended(run) == "CANCELED"
    assert (case.sent, case.table.number_of_replicas) == (["0", "1"], "1")
    row = case.ticket()
    assert (row.closed_at, row.ticket.zero_acknowledged) == (None, False)

    restored_by = in_time(lambda: case.ticket().ticket.epoch == 2 and case.ticket().ticket.owner)
    assert restored_by.run_id in {one["runId"] for one in page.runs_of("translog_restore")}
    in_time(lambda: len(case.sent) == 3)
    case.held.go_on.set()
    in_time(lambda: len(case.sent) == 4)
    assert case.sent == ["0", "1", "1", "1"]
    in_time(lambda: case.table.number_of_replicas == "1")
