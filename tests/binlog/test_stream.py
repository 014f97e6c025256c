"""What the trail gets of what a server logged: all that counts, nothing else, or a stop."""

from __future__ import annotations

from typing import Any

import pytest

from caretaker.binlog.model import (
    Abandoned,
    Checkpoint,
    Commit,
    Ddl,
    EndOfLog,
    EventType,
    Flavor,
    Heartbeat,
    Inflight,
    Position,
    RotateTo,
    Rows,
    SchemaChanged,
)
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.tablemap import TableMaps
from caretaker.binlog.xa import XaSpool
from caretaker.errors import (
    CorruptEventError,
    LostPositionError,
    RefusedError,
)
from tests.binlog import wire
from tests.binlog.recordings import (
    IDENTITY,
    OpaqueTables,
    a_stream,
    all_recordings,
    decompress,
    drained,
    image_of,
    items_of,
    recording,
)

START = Checkpoint("", Position("binlog.000001", 4), 0)
FILE_START = Checkpoint(None, Position("binlog.000001", 4), 0)


def fresh(checkpoint: Checkpoint = START, flavor: Flavor = Flavor.MYSQL) -> Stream:
    return Stream(
        Source(flavor, IDENTITY), checkpoint, OpaqueTables(), decompress, XaSpool(1 << 20)
    )


def fed(*payloads: bytes, checkpoint: Checkpoint = START) -> list[object]:
    stream = fresh(checkpoint)
    return [
        item
        for payload in (wire.rotate(), wire.description(log_pos=127), *payloads)
        for item in stream.feed(payload)
    ]


def of(kind: type, items: list[Any]) -> list[Any]:
    return [item for item in items if isinstance(item, kind)]


COUNTED = [
    name
    for name in all_recordings()
    if "story.t" in recording(name).tables and "statement" not in name
]


@pytest.mark.parametrize("name", COUNTED)
def test_the_documents_add_up_to_what_the_tables_hold(name):
    """Inserts less deletes is what a SELECT COUNT(*) on the server said, undone rows and all."""
    told = recording(name)
    tables, encoder = TableMaps(told.flavor), RowsEncoder()
    source = Source(told.flavor, IDENTITY)
    stream = Stream(source, told.start(), tables, decompress, XaSpool(1 << 20))
    left = dict.fromkeys(told.tables, 0)
    for item in items_of(told, stream):
        if isinstance(item, Ddl) and item.sql.startswith("TRUNCATE"):
            left["story.d"] = 0
        if isinstance(item, Rows):
            item.context.seq = 1
            table = tables.get(int.from_bytes(item.body[:6], "little"))
            encoded = encoder.documents(item.event_type, item.body, table, item.context)
            name_ = f"{item.table.schema}.{item.table.name}"
            delta = {"WRITE": 1, "DELETE": -1}.get(EventType(item.event_type).name.split("_")[0], 0)
            left[name_] = left.get(name_, 0) + delta * len(encoded.documents)
            assert encoded.documents

    assert {table: left[table] for table in told.tables} == told.tables


@pytest.mark.parametrize("name", COUNTED)
def test_every_transaction_since_the_start_is_committed_once(name):
    told = recording(name)
    commits = [item for item in items_of(told) if isinstance(item, Commit)]
    names = [commit.transaction for commit in commits]

    assert names
    assert len(names) == len(set(names))


def test_ids_of_a_server_sort_as_it_committed():
    for name in ("mysql-plain", "mariadb-plain", "mysql-anonymous"):
        prefixes = [item.context.id_prefix for item in of(Rows, items_of(recording(name)))]
        assert prefixes == sorted(prefixes)
        assert len(set(map(len, prefixes))) == 1


def test_a_rotation_leads_into_the_next_file():
    items = items_of(recording("mysql-plain"))
    files = [item.position.file for item in items if isinstance(item, RotateTo)]
    rows = of(Rows, items)

    assert len(files) == 2
    assert rows[-1].context.file == files[1]


def test_a_compressed_transaction_is_read_like_any_other():
    items = items_of(recording("mysql-compressed"))
    rows = of(Rows, items)

    assert sum(len(image_of(row)) for row in rows) > 30_000
    assert {EventType(row.event_type).name for row in rows} == {
        "WRITE_ROWS",
        "UPDATE_ROWS",
        "DELETE_ROWS",
    }
    assert all(row.context.commit_us for row in rows)


def test_tagged_transactions_have_names_and_ids_of_their_own():
    rows = of(Rows, items_of(recording("mysql-tagged")))
    names = [row.transaction for row in rows]

    assert any(":foo_1:" in name for name in names)
    assert any(":bar:" in name for name in names)
    assert len({row.context.id_prefix for row in rows}) == len(rows)


def test_a_transaction_without_rows_moves_the_set_all_the_same():
    items = items_of(recording("mysql-tagged"))
    empty = "11111111-2222-3333-4444-555555555555:7"

    assert empty in [commit.transaction for commit in of(Commit, items)]
    assert empty not in [row.transaction for row in of(Rows, items)]


def test_definitions_are_in_the_trail_between_the_rows_they_separate():
    items = items_of(recording("mysql-ddl"))
    told = [
        item.sql if isinstance(item, Ddl) else type(item).__name__
        for item in items
        if isinstance(item, Ddl | Rows | SchemaChanged)
    ]

    alter = told.index("ALTER TABLE d ADD COLUMN v INT")
    assert told[alter - 2 : alter] == ["SchemaChanged", "Rows"]
    assert told[alter + 1 : alter + 3] == ["SchemaChanged", "Rows"]
    assert "CREATE TABLE `größe` (id INT)" in told
    changed = of(SchemaChanged, items)
    assert [change.known for change in changed[:2]] == [False, True]
    administrative = [item.sql for item in of(Ddl, items) if item.administrative]
    assert administrative == ["ANALYZE TABLE d", "OPTIMIZE TABLE d", "FLUSH TABLES"]


def test_create_table_select_is_a_definition_and_rows_of_one_transaction():
    items = items_of(recording("mysql-ddl"))
    [create] = [i for i in of(Ddl, items) if i.sql.startswith("CREATE TABLE `e`")]
    rows = [row for row in of(Rows, items) if row.transaction == create.transaction]

    assert len(rows) == 1
    assert [c.transaction for c in of(Commit, items)].count(create.transaction) == 1


def test_an_alter_in_two_halves_is_in_the_trail_once_and_not_at_all_if_it_failed():
    items = items_of(recording("mariadb-two_phase_alter"))

    assert [item.sql for item in of(Ddl, items)] == [
        "ALTER TABLE story.t ADD COLUMN w INT",
        "ALTER TABLE story.t ADD UNIQUE (w)",
    ]
    assert len(of(Commit, items)) == 6


@pytest.mark.parametrize("name", ["mysql-statement", "mariadb-statement"])
def test_rows_logged_as_a_statement_stop_the_stream(name):
    told = recording(name)
    stream = a_stream(told)
    statement = next(n for n, p in enumerate(told.payloads) if b"INSERT INTO" in p)
    got = drained(stream, told.payloads[:statement])
    with pytest.raises(RefusedError, match=r"cannot be audited: INSERT INTO story\.t") as stopped:
        stream.feed(told.payloads[statement])

    assert len(of(Rows, got)) == 1
    assert f"{told.dumped_from.file}:" in str(stopped.value)
    assert "binlog_format" in stopped.value.hint


def test_passwords_that_mariadb_logs_as_typed_are_masked():
    items = fed(wire.gtid(1), wire.query(b"CREATE USER u IDENTIFIED BY 'hunter2'"))
    [ddl] = of(Ddl, items)
    assert "hunter2" not in ddl.sql


def test_a_rolled_back_transaction_of_mixed_engines_is_kept_and_marked():
    items = fed(
        wire.gtid(1),
        wire.query(b"BEGIN"),
        wire.table_map(),
        wire.rows(b"happened, perhaps"),
        wire.query(b"ROLLBACK"),
    )
    assert len(of(Rows, items)) == 1
    assert [commit.rolled_back for commit in of(Commit, items)] == [True]


def test_a_rollback_to_a_savepoint_is_marked():
    items = fed(
        wire.gtid(1),
        wire.query(b"BEGIN"),
        wire.query(b"ROLLBACK TO `s`"),
        wire.xid(),
    )
    assert [commit.rolled_back for commit in of(Commit, items)] == [True]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (wire.event(200, log_pos=150), "event type 200"),
        (wire.event(EventType.START_ENCRYPTION, log_pos=150), "encrypted"),
        (wire.event(EventType.EXECUTE_LOAD_QUERY, log_pos=150), "LOAD DATA"),
        (wire.event(20, log_pos=150), "event type 20"),
        (wire.event(EventType.ANONYMOUS_GTID, bytes(42), log_pos=192), "without a GTID"),
    ],
    ids=["unknown", "encrypted", "load", "rows before 5.1", "anonymous"],
)
def test_what_must_not_be_passed_over_stops_the_stream(payload, reason):
    with pytest.raises(RefusedError, match=reason) as stopped:
        fed(payload)
    assert "binlog.000001:127" in str(stopped.value)


def test_an_unknown_event_that_may_be_ignored_is():
    assert len(fed(wire.event(200, flags=0x80))) == 1


def test_an_incident_is_lost_history():
    with pytest.raises(LostPositionError, match="gone"):
        fed(wire.event(EventType.INCIDENT, b"\1\0\4gone"))


@pytest.mark.parametrize(
    "payloads",
    [
        [wire.table_map()],
        [wire.gtid(1), wire.rows(b"x")],
        [wire.gtid(1), wire.query(b"BEGIN"), wire.rows(b"x", table_id=9)],
        [wire.gtid(1), wire.gtid(2)],
        [wire.gtid(1), wire.query(b"BEGIN"), wire.query(b"BEGIN")],
        [wire.gtid(1), wire.query(b"BEGIN"), wire.description(log_pos=127)],
        [wire.xid()],
        [wire.query(b"COMMIT")],
        [wire.gtid(0)],
        [wire.event(EventType.TRANSACTION_PAYLOAD, b"\0")],
        [wire.gtid(1), wire.query(b"XA START X'61',X'',1"), wire.xid()],
        [wire.event(EventType.HEARTBEAT, b"other.000009")],
    ],
)
def test_a_log_that_makes_no_sense_is_corrupt_with_its_place(payloads):
    with pytest.raises(CorruptEventError, match=r"binlog\.000001:"):
        fed(*payloads)


def test_a_transaction_that_a_dying_server_never_finished_is_abandoned():
    items = fed(
        wire.gtid(1),
        wire.query(b"BEGIN"),
        wire.rotate("binlog.000002"),
        wire.description(created=1700000000),
        wire.gtid(1),
        wire.query(b"BEGIN"),
        wire.xid(),
    )
    assert [type(i).__name__ for i in items if isinstance(i, Abandoned | Commit)] == [
        "Abandoned",
        "Commit",
    ]


def test_a_transaction_without_a_gtid_event_is_named_by_its_place():
    items = fed(wire.query(b"BEGIN", log_pos=200), wire.xid(log_pos=231), checkpoint=FILE_START)
    [commit] = of(Commit, items)

    assert commit.gtid is None
    assert commit.transaction.startswith("binlog.000001:")


def test_anonymous_transactions_of_a_real_server():
    items = items_of(recording("mysql-anonymous"))
    names = [commit.transaction for commit in of(Commit, items)]

    assert all(row.context.gtid is None for row in of(Rows, items))
    assert len(names) == len(set(names))
    assert {row.transaction for row in of(Rows, items)} < set(names)


def test_going_on_needs_the_transaction_that_is_in_flight():
    inflight = Inflight(f"{wire.SERVER_TEXT}:2", 1, 0)
    checkpoint = Checkpoint(f"{wire.SERVER_TEXT}:1", Position("binlog.000001", 4), 3, inflight)

    with pytest.raises(LostPositionError, match=r"goes on with 1111.*:3"):
        fed(wire.gtid(3), wire.query(b"BEGIN"), checkpoint=checkpoint)
    assert of(Commit, fed(wire.gtid(2), wire.query(b"BEGIN"), wire.xid(), checkpoint=checkpoint))


@pytest.mark.parametrize("name", ["mysql-quiet", "mysql-quiet_v2", "mariadb-quiet"])
def test_heartbeats_say_where_the_log_ends(name):
    items = items_of(recording(name))
    beats = of(Heartbeat, items)

    assert len(beats) == 2
    assert {beat.position for beat in beats} == {of(Commit, items)[-1].position}


def test_a_dump_from_the_middle_of_a_file_knows_where_it_is():
    told = recording("mysql-middle")
    items = items_of(told)

    assert isinstance(items[0], RotateTo)
    assert items[0].position == told.dumped_from
    assert of(Commit, items)[-1].position.pos > told.dumped_from.pos


@pytest.mark.parametrize("name", ["mysql-behind", "mariadb-behind"])
def test_a_source_with_nothing_new_sends_no_row(name):
    told = recording(name)
    items = items_of(told, a_stream(told, told.start(told.known)))

    assert not of(Rows, items)
    assert of(Heartbeat, items)


def test_every_recording_ends_as_its_dump_did():
    for name in all_recordings():
        told = recording(name)
        if told.payloads[-1][:1] == b"\xfe" and "statement" not in name:
            assert isinstance(items_of(told)[-1], EndOfLog)
