"""Several processes, several threads, and a process that is killed: real ones."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from caretaker.errors import FencedError
from resources.state_store import StateStore

ROUNDS = 30

RACE_FOR_TICKETS = """
from datetime import UTC, datetime
from caretaker.errors import UnsafeError
from caretaker.translog.model import Owner, ResetTicket, TableRef
from resources.state_store import StateStore

url, run_id, rounds = arguments
owner = Owner(run_id, "here", 1, "boot")
with StateStore.open(url) as store:
    go()
    for number in range(int(rounds)):
        table = TableRef("doc", f"t{number}")
        ticket = ResetTicket("c1", table, "1", owner, datetime.now(UTC), 1)
        try:
            store.open_ticket(ticket)
            print(number)
        except UnsafeError:
            pass
"""

RACE_FOR_LOCKS = """
from caretaker.errors import UnsafeError
from caretaker.translog.model import Owner
from resources.state_store import StateStore

url, run_id, rounds = arguments
owner = Owner(run_id, "here", 1, "boot")
with StateStore.open(url) as store:
    go()
    for number in range(int(rounds)):
        try:
            # Those held by "old" are taken over, those of the other racer are not.
            store.acquire_lock(f"c{number}", owner, purpose="race",
                               is_dead=lambda holder, beat: holder.run_id == "old")
            print(number)
        except UnsafeError:
            pass
"""

OPEN_AND_DIE = """
import os, signal
from datetime import UTC, datetime
from caretaker.translog.model import Owner, ResetTicket, TableRef
from resources.state_store import StateStore

store = StateStore.open(arguments[0])
owner = Owner("run-1", "here", os.getpid(), "boot")
store.open_ticket(ResetTicket("c1", TableRef("doc", "t"), "0-1", owner, datetime.now(UTC), 1))
os.kill(os.getpid(), signal.SIGKILL)
"""

HOLD_THE_FILE = """
from resources.state_store import StateStore
store = StateStore.open(arguments[0])
with store._database.write():
    go()
"""


def winners(said):
    return [[int(line) for line in text.split()] for text in said]


def test_of_two_processes_one_gets_the_ticket(store, url, run_race):
    said = run_race(RACE_FOR_TICKETS, [(url, "run-a", str(ROUNDS)), (url, "run-b", str(ROUNDS))])
    first, second = winners(said)
    assert sorted(first + second) == list(range(ROUNDS))
    held = {ticket.target.name: ticket.owner.run_id for ticket in store.open_tickets()}
    assert held == {f"t{n}": "run-a" for n in first} | {f"t{n}": "run-b" for n in second}


def test_of_two_processes_one_gets_the_lock(store, url, run_race, owner):
    for number in range(0, ROUNDS, 2):
        store.acquire_lock(f"c{number}", owner("old"), purpose="x", is_dead=lambda *_: False)
    said = run_race(RACE_FOR_LOCKS, [(url, "run-a", str(ROUNDS)), (url, "run-b", str(ROUNDS))])
    first, second = winners(said)
    assert sorted(first + second) == list(range(ROUNDS))
    for number in range(ROUNDS):
        lock = store.lock(f"c{number}")
        assert lock.owner.run_id == ("run-a" if number in first else "run-b")
        assert lock.epoch == (2 if number % 2 == 0 else 1)


def test_of_many_who_take_a_ticket_over_one_succeeds(store, new_ticket, owner):
    ticket = store.open_ticket(new_ticket())
    together = threading.Barrier(8)

    def take(number):
        together.wait()
        try:
            return store.take_over(ticket, owner(f"taker-{number}"))
        except FencedError:
            return None

    with ThreadPoolExecutor(8) as pool:
        taken = [one for one in pool.map(take, range(8)) if one is not None]
    assert len(taken) == 1
    assert store.ticket(ticket.id) == taken[0]


def test_a_ticket_outlives_a_process_killed_right_after_it_was_opened(url, child):
    killed = child(OPEN_AND_DIE, url)
    killed.said()
    assert killed.process.returncode == -signal.SIGKILL
    with StateStore.open(url) as store:
        [ticket] = store.open_tickets()
        assert (ticket.original_replicas, ticket.owner.run_id) == ("0-1", "run-1")
        assert ticket.owner.pid == killed.process.pid


def test_eight_threads_write_and_beat_without_getting_in_each_others_way(store, new_ticket):
    own = [store.open_ticket(new_ticket(f"t{number}", f"run-{number}")) for number in range(8)]

    def work(number):
        ticket = own[number]
        for attempt in range(1, 26):
            ticket = store.advance(ticket, attempts=attempt)
            assert store.beat(ticket.owner.run_id, [ticket.id]) == 1
        return ticket

    with ThreadPoolExecutor(8) as pool:
        assert [ticket.attempts for ticket in pool.map(work, range(8))] == [25] * 8
    assert [ticket.attempts for ticket in store.open_tickets()] == [25] * 8


def test_a_reader_does_not_wait_for_a_writer_in_another_process(sqlite_url, child, new_ticket):
    with StateStore.open(sqlite_url + "?timeout=0.1") as store:
        ticket = store.open_ticket(new_ticket())
        holder = child(HOLD_THE_FILE, sqlite_url)
        holder.until_ready()
        store.check_epoch(ticket)
        assert store.open_tickets() == [ticket]


def test_a_writer_does_not_wait_for_a_reader(sqlite_url, new_ticket):
    impatient = sqlite_url + "?timeout=0.1"
    with StateStore.open(sqlite_url) as reader, StateStore.open(impatient) as store:
        ticket = store.open_ticket(new_ticket())
        with reader._database.read() as connection:
            connection.exec_driver_sql("SELECT * FROM caretaker_tickets").all()
            assert store.advance(ticket, attempts=1).attempts == 1
