"""Ctrl-C and SIGTERM in every state of a reset; the wait itself is in `test_signals`."""

from __future__ import annotations

import itertools
import signal
import threading

import dagster as dg
import pytest

from lab.faults import Fault
from tests.console.conftest import IMPATIENT, changes_of

ALTER = "^ALTER"
TABLE_READ = "information_schema.tables"

REMEDY = """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '1')"""


class Held:
    """Holds a run at the first statement of a kind that it sends in a state, until let go."""

    def __init__(self, lab, store):
        self._lab = lab
        self._store = store
        self._go_on = threading.Event()

    def at(self, match, state=None, *, nth=1):
        """Return an event that says when it is there."""
        here, seen = threading.Event(), itertools.count(1)

        def stop(_):
            if not here.is_set() and self._state() == state and next(seen) == nth:
                here.set()
                self._go_on.wait(90)

        self._lab.faults.add(Fault(match, before=stop))
        return here

    def anywhere(self):
        """Hold whatever it asks next."""
        here = threading.Event()

        def stop(_):
            here.set()
            self._go_on.wait(90)

        self._lab.faults.clear()
        self._lab.faults.add(Fault(before=stop))
        return here

    def let_go(self):
        self._lab.faults.clear()
        self._go_on.set()

    def _state(self):
        found = self._store.tickets(include_closed=True)
        return found[0].ticket.state.value if found else None


@pytest.fixture
def store(caretaker):
    with caretaker.store as opened:
        yield opened


@pytest.fixture
def held(lab, store):
    holding = Held(lab, store)
    yield holding
    holding.let_go()


@pytest.fixture
def table(lab):
    return lab.table("doc.metrics", shards=1, replicas="1", sick_mb=1840)


@pytest.fixture
def start(caretaker):
    """Start a reset, and return its process once it is held."""

    def begun(here):
        config = caretaker.config(max_wait_s=600, wait_ladder_s=[600], restore_timeout_s=20)
        process = caretaker.start("translogs", "--autoexec", "--config", config)
        assert here.wait(60), process.poll()
        return process

    return begun


#: Where it is held, and what was sent in the end.
ONCE = {
    "SETTING_REPLICAS_ZERO": (ALTER, ["0", "1"]),
    "RESTORING_REPLICAS": (ALTER, ["0", "1", "1"]),
    "VERIFYING": (TABLE_READ, ["0", "1"]),
}


def sent(lab):
    return [e.args[-1] for e in lab.journal if e.stmt.startswith("ALTER")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", ONCE)
def test_once_puts_back_and_closes_the_ticket_in(
    caretaker, lab, table, store, held, start, state, number
):
    """Where an ALTER is unanswered the command itself watches whether it lands."""
    match, statements = ONCE[state]
    process = start(held.at(match, state))

    process.send_signal(number)
    ended = caretaker.wait(process)

    assert ended.code == 3, ended.err
    assert "Traceback" not in ended.err
    assert "FAILED_RESTORED" in ended.out
    assert (table.number_of_replicas, store.open_tickets()) == ("1", [])
    asked = sent(lab)
    # An unanswered 0 is followed by the original twice: by the run, and by whoever watches.
    assert asked[: len(statements)] == statements
    assert set(asked[len(statements) :]) <= {"1"}
    assert [row.final_replicas for row in store.outcomes()] == ["1"]
    with caretaker.instance() as instance:
        watches = instance.get_runs(dg.RunsFilter(job_name="translog_restore"))
    # It keeps to the limits that were given to the reset.
    assert len(watches) == (state == "SETTING_REPLICAS_ZERO")
    assert all(run.run_config["settle_s"] == IMPATIENT["settle_s"] for run in watches)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("match", "state", "nth"),
    [("sys.snapshots", None, 2), (TABLE_READ, "DETECTED", 1)],
    ids=["before its ticket", "DETECTED"],
)
def test_once_before_anything_was_sent_is_as_if_nothing_had_been(
    caretaker, lab, table, store, held, start, number, match, state, nth
):
    """In the second look at the cluster, or with the ticket just written."""
    process = start(held.at(match, state, nth=nth))

    process.send_signal(number)
    ended = caretaker.wait(process)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-1] == "error: the run was stopped"
    assert "Traceback" not in ended.err
    assert changes_of(lab) == []
    assert store.open_tickets() == []
    assert len(store.tickets(include_closed=True)) == (state is not None)
    assert table.number_of_replicas == "1"


@pytest.mark.parametrize("state", ["SETTING_REPLICAS_ZERO", "VERIFYING"])
def test_twice_leaves_at_once_and_resume_finishes_it_in(
    caretaker, table, store, held, start, state
):
    """The first lets it look at the table, which hangs; the second is not waited for."""
    match, _ = ONCE[state]
    process = start(held.at(match, state))

    second = held.anywhere()
    process.send_signal(signal.SIGINT)
    assert second.wait(60)
    process.send_signal(signal.SIGINT)
    ended = caretaker.wait(process)

    assert ended.code == 4, ended.err
    assert REMEDY in ended.out
    assert "Traceback" not in ended.err
    assert [ticket.original_replicas for ticket in store.open_tickets()] == ["1"]

    held.let_go()
    config = caretaker.config()
    assert caretaker("translogs", "--resume", "--config", config).code == 0
    assert (table.number_of_replicas, store.open_tickets()) == ("1", [])
