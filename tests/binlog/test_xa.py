"""XA transactions: rows count at XA COMMIT, never before, never twice, whatever is restarted."""

from __future__ import annotations

import pytest

from caretaker.binlog.batcher import Batcher, Limits
from caretaker.binlog.gtid import GtidSet, MariadbPosition
from caretaker.binlog.model import (
    BeforeTheTrail,
    Checkpoint,
    Commit,
    Position,
    Prepared,
    Rows,
    Skipped,
)
from caretaker.binlog.xa import XaSpool
from caretaker.errors import LostPositionError, RefusedError
from tests.binlog.recordings import (
    Recording,
    a_stream,
    all_recordings,
    batches_of,
    documents_of,
    drained,
    items_of,
    recording,
    trail_of,
)
from tests.binlog.served import serve, started_before


def texts(told: Recording) -> list[str]:
    """The values in the rows of a story, as far as they are readable in the raw rows."""
    rows = [item.body for item in items_of(told) if isinstance(item, Rows)]
    return [bytes(b for b in body if 32 <= b < 127).decode() for body in rows]


@pytest.mark.parametrize("name", ["mysql-xa", "mariadb-xa", "mysql-anonymous_xa"])
def test_rows_count_at_xa_commit_and_not_without_it(name):
    seen = " ".join(texts(recording(name)))

    for kept in ("prepared, committed", "changed", "between", "one phase", "same xid", "after"):
        assert kept in seen
    for undone in ("rolled back", "never prepared", "left so"):
        assert undone not in seen


@pytest.mark.parametrize("name", ["mysql-xa", "mariadb-xa"])
def test_rows_carry_the_gtid_that_made_them_count(name):
    items = items_of(recording(name))
    prepared = {item.transaction for item in items if isinstance(item, Prepared)}
    rows = {item.transaction for item in items if isinstance(item, Rows)}

    assert prepared
    assert not prepared & rows


@pytest.mark.parametrize("name", ["mysql-xa", "mariadb-xa"])
def test_the_checkpoint_never_passes_what_is_prepared(name):
    told = recording(name)
    start = served_from_the_start(told)
    end = trail_of(told, start)[-1].checkpoint
    [late] = [i for i in items_of(told) if isinstance(i, Prepared) and "6c617465" in i.xid]

    if told.flavor == "mysql":
        missing = GtidSet.parse(told.executed_after).subtract(GtidSet.parse(end.gtid or ""))
        assert str(missing) == late.transaction
        assert end.ahead is None
    else:
        assert end.ahead == told.executed_after
        assert late.gtid is not None
        before = MariadbPosition.parse(end.gtid or "").last(0)
        assert before is not None
        assert before.seq == late.gtid[2] - 1


def served_from_the_start(told: Recording) -> Checkpoint:
    """A checkpoint by GTID just before the first transaction of a recording."""
    return Checkpoint(started_before(told), told.dumped_from, 0)


RESUMED = [
    name
    for name in all_recordings()
    if recording(name).packets[2:]
    and not any(word in name for word in ("statement", "anonymous", "held", "middle", "behind"))
]
RESUMED_BY_FILE = [*RESUMED, "mysql-anonymous", "mysql-anonymous_xa"]


@pytest.mark.parametrize("name", RESUMED)
def test_going_on_from_any_checkpoint_gives_the_same_trail(name):
    """Killed after every document, and read on from what was saved, by GTID."""
    told = recording(name)
    whole = trail_of(told, served_from_the_start(told), Limits(documents=1))
    assert whole
    for done, batch in enumerate(whole, 1):
        again = list(go_on(told, batch.checkpoint))
        assert documents_of(again) == documents_of(whole[done:])


@pytest.mark.parametrize("name", RESUMED_BY_FILE)
def test_going_on_from_any_checkpoint_by_file_gives_the_same_trail(name):
    told = recording(name)
    whole = trail_of(told, told.start(), Limits(documents=1))
    assert whole
    for done, batch in enumerate(whole, 1):
        again = list(go_on(told, batch.checkpoint))
        assert documents_of(again) == documents_of(whole[done:])


@pytest.mark.parametrize("name", RESUMED)
def test_being_killed_again_and_again_gives_the_same_trail(name):
    """One document, then a restart, until the end: what is held back stays held back."""
    told = recording(name)
    start = served_from_the_start(told)
    whole = documents_of(trail_of(told, start))
    checkpoint, got = start, []
    for _ in range(len(whole) + 5):
        batches = list(go_on(told, checkpoint))
        if not batches:
            break
        got += batches[0].documents
        checkpoint = batches[0].checkpoint
        if not batches[0].documents:
            break

    assert got == whole


def go_on(told: Recording, checkpoint: Checkpoint):
    stream = a_stream(told, checkpoint)
    items = drained(stream, serve(told, checkpoint))
    return batches_of(items, Batcher(checkpoint, told.flavor, Limits(documents=1)))


def test_mysql_sends_what_the_set_lacks_and_nothing_is_doubled():
    """The dump of this recording was asked for with the hole that a checkpoint leaves."""
    told = recording("mysql-held")
    items = items_of(told, a_stream(told, told.start(told.known)))
    saved = GtidSet.parse(told.known or "")
    commits = [item for item in items if isinstance(item, Commit)]

    assert commits
    assert not any(str(saved.union(GtidSet.parse(c.transaction))) == str(saved) for c in commits)
    assert len([item for item in items if isinstance(item, Rows)]) == 4
    end = list(batches_of(items, Batcher(told.start(told.known), told.flavor)))[-1].checkpoint
    assert end.gtid == told.executed_after


def test_mariadb_dumps_from_before_it_and_nothing_is_doubled():
    told = recording("mariadb-held")
    checkpoint = Checkpoint(told.known, told.dumped_from, 9, None, told.marks["saved"])
    items = items_of(told, a_stream(told, checkpoint))
    rows = [item for item in items if isinstance(item, Rows)]

    assert len([item for item in items if isinstance(item, Skipped)]) == 3
    assert len(rows) == 4
    end = list(batches_of(items, Batcher(checkpoint, told.flavor)))[-1].checkpoint
    assert (end.gtid, end.ahead) == (told.executed_after, None)


def test_mariadb_that_never_reaches_what_the_trail_has_is_another_history():
    told = recording("mariadb-held")
    ahead = told.marks["saved"].replace("0-7-", "0-8-", 1)
    checkpoint = Checkpoint(told.known, told.dumped_from, 9, None, ahead)
    with pytest.raises(LostPositionError, match="never sent 0-8-"):
        items_of(told, a_stream(told, checkpoint))


def test_a_stop_before_it_caught_up_leaves_the_checkpoint_as_it_was():
    told = recording("mariadb-held")
    checkpoint = Checkpoint(told.known, told.dumped_from, 9, None, told.marks["saved"])
    batcher, stream = Batcher(checkpoint, told.flavor), a_stream(told, checkpoint)
    for payload in told.payloads:
        for item in stream.feed(payload):
            if isinstance(item, Commit):
                return
            list(batches_of([item], batcher)) if not isinstance(item, Rows) else None
            now = batcher.checkpoint()
            if isinstance(item, Prepared):
                assert (now.gtid, now.ahead) == (checkpoint.gtid, checkpoint.ahead)


def test_rows_prepared_before_the_trail_began_are_a_loud_loss():
    told = recording("mysql-xa")
    payloads = told.payloads
    commit = next(n for n, p in enumerate(payloads) if b"XA COMMIT X'646f6e65'" in p)
    head = [p for p in payloads if p[5:6] in (b"\x04", b"\x0f")][:2]
    late = [*head, *payloads[commit - 1 :]]

    start = Checkpoint("", told.dumped_from, 0)
    with pytest.raises(LostPositionError, match="X'646f6e65'"):
        drained(a_stream(told, start), late)

    items = drained(a_stream(told, start, gap_before=True), late)
    assert len([item for item in items if isinstance(item, BeforeTheTrail)]) == 1


class Folder:
    """A store of the caller's."""

    def __init__(self) -> None:
        self.held: dict[str, list[bytes]] = {}
        self.puts = 0

    def put(self, xid: str, record: bytes) -> None:
        self.held.setdefault(xid, []).append(record)
        self.puts += 1

    def records(self, xid: str):
        return iter(self.held.get(xid, []))

    def drop(self, xid: str) -> None:
        self.held.pop(xid, None)


@pytest.mark.parametrize("limit", [0, 100, 250, 400])
@pytest.mark.parametrize("name", ["mysql-xa", "mariadb-xa"])
def test_what_does_not_fit_into_memory_waits_in_the_store(name, limit):
    told, folder = recording(name), Folder()
    stream = a_stream(told, spool_bytes=limit, store=folder)

    assert image(items_of(told, stream)) == image(items_of(told))
    assert folder.puts
    assert list(folder.held) in ([], ["X'6c617465',X'',1"])  # the one that is left prepared


def image(items) -> list[tuple[str, bytes, int]]:
    return [(i.transaction, i.body, i.context.pos) for i in items if isinstance(i, Rows)]


def test_without_a_store_too_much_is_refused():
    told = recording("mysql-xa")
    with pytest.raises(RefusedError, match="does not fit into the 100 bytes"):
        items_of(told, a_stream(told, spool_bytes=100))


def test_memory_is_given_back_when_transactions_are_settled():
    spool = XaSpool(1000)
    event = next_event()
    for number in range(50):
        xid = f"X'{number}'"
        spool.begin(xid, None)
        spool.put(xid, event)
        spool.drop(xid)


def next_event():
    from caretaker.binlog.frames import Event  # noqa: PLC0415

    return Event(30, 1, 1, 0, "binlog.000001", 1 << 33, 50, bytes(400))


def test_an_event_comes_out_of_the_spool_as_it_went_in():
    spool = XaSpool(1000)
    event = next_event()
    spool.begin("x", None)
    spool.put("x", event)

    assert list(spool.replay("x")) == [event]
    assert event.start == Position("binlog.000001", (1 << 33) - 50)
