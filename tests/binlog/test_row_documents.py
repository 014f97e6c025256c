"""What a change looks like in the trail: keys, NULL and JSON null, partial images, schemas."""

from __future__ import annotations

import struct
from typing import Any
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import Binary, Decimal128

from caretaker.binlog.batcher import Batcher
from caretaker.binlog.document import LocalTime
from caretaker.binlog.filters import Filters
from caretaker.binlog.model import Checkpoint, Flavor, Position
from caretaker.binlog.rows import OnPartialImage, RowsEncoder
from caretaker.binlog.tablemap import TableMaps
from caretaker.errors import CorruptEventError, InvalidSettingError, RefusedError
from tests.binlog.captures import ID_PREFIX, ROWS_EVENTS, TABLE_MAP, a_context, recorded

BOTH = pytest.mark.parametrize("flavor", [Flavor.MYSQL, Flavor.MARIADB])
FILLING = "x" * 60


def trail(name: str, encoder: RowsEncoder | None = None):
    """(op, table, pk, chg) of a recording."""
    documents = recorded(name)[0].documents(encoder)
    return [(d["op"], d["meta"]["tbl"], d["meta"]["pk"], d["chg"]) for d in documents]


def of_table(name: str, table: str):
    return [(op, key, change) for op, tbl, key, change in trail(name) if tbl == table]


# --- keys -----------------------------------------------------------------------------------------


@BOTH
def test_a_composite_key_is_in_key_order_and_of_the_before_image(flavor):
    changes = of_table(f"{flavor}-keys", "composite")
    assert [list(key.items()) for _, key, _ in changes] == [
        [("b", "x"), ("a", 1)],
        [("b", "x"), ("a", 1)],
        [("b", "x"), ("a", 7)],
    ]
    assert changes[1][2] == {"a": {"f": 1, "t": 7}, "c": {"f": 2, "t": 3}}


@BOTH
def test_a_key_on_a_prefix_is_the_whole_value(flavor):
    ((_, key, _),) = of_table(f"{flavor}-keys", "prefix")
    assert key == {"b": 2, "a": "abcdef"}


@BOTH
def test_rows_without_a_key_have_none_and_ids_all_the_same(flavor):
    documents = recorded(f"{flavor}-keys")[0].documents()
    keyless = [d for d in documents if d["meta"]["tbl"] == "keyless"]
    assert [d["meta"]["pk"] for d in keyless] == [None, None]
    assert keyless[0]["_id"] < keyless[1]["_id"]


@BOTH
def test_a_key_above_what_int64_holds_is_a_decimal(flavor):
    keys = [key for _, key, _ in of_table(f"{flavor}-keys", "unsigned_key")]
    largest = Decimal128(str(2**64 - 1))
    assert keys == [largest, 3, 3, largest]


@BOTH
def test_generated_and_invisible_columns_are_columns(flavor):
    inserted, updated = of_table(f"{flavor}-keys", "made")
    assert inserted[2] == {
        n: {"t": v} for n, v in {"id": 1, "a": 1, "b": 5, "c": 2, "d": 3}.items()
    }
    assert updated[2] == {
        "a": {"f": 1, "t": 9},
        "c": {"f": 2, "t": 10},
        "d": {"f": 3, "t": 11},
    }


def test_a_generated_key_is_the_key():
    assert trail("mysql-gipk") == [
        ("i", "gipk", 1, {"my_row_id": {"t": 1}, "a": {"t": 7}}),
        ("u", "gipk", 1, {"a": {"f": 7, "t": 8}}),
    ]


# --- NULL -----------------------------------------------------------------------------------------


@BOTH
def test_nulls_move_no_neighbour(flavor):
    kept = [1, "b", "2020-01-02 03:04:05.600000", Decimal128("1.50"), 2, "f", 3, 1.5, "i"]
    names = "abcdefghi"
    changes = trail(f"{flavor}-nulls")
    inserted = {key: change for op, _, key, change in changes if op == "i"}
    assert len(inserted) == 14
    for key, change in inserted.items():
        wanted = [None if key >> bit & 1 else value for bit, value in enumerate(kept)]
        assert change == {"id": {"t": key}} | {
            n: {"t": v} for n, v in zip(names, wanted, strict=True)
        }
    state = {key: {n: c["t"] for n, c in change.items()} for key, change in inserted.items()}
    for op, _, key, change in changes:
        if op == "i":
            continue
        assert all(sides["f"] == state[key][name] for name, sides in change.items())
        if op == "d":
            assert set(change) == {"id", *names}
            del state[key]
        else:
            assert all(sides["t"] != sides["f"] for sides in change.values())
            state[key] |= {name: sides["t"] for name, sides in change.items()}
    assert state == {}


def test_a_json_null_is_told_from_null():
    changes = [(op, key, change["j"]) for op, _, key, change in trail("mysql-json_null")]
    assert changes == [
        ("i", 1, {"t": None}),
        ("i", 2, {"t": None, "json_null": ["t"]}),
        ("i", 3, {"t": 1}),
        ("u", 1, {"f": None, "t": None, "json_null": ["t"]}),
        ("u", 3, {"f": 1, "t": None, "json_null": ["t"]}),
        ("u", 1, {"f": None, "t": None, "json_null": ["f"]}),
        ("u", 2, {"f": None, "t": 2, "json_null": ["f"]}),
        ("d", 1, {"f": None}),
        ("d", 2, {"f": 2}),
        ("d", 3, {"f": None, "json_null": ["f"]}),
    ]


# --- what the servers log otherwise ---------------------------------------------------------------


def test_json_that_is_logged_as_differences_is_whole_in_the_trail():
    changes = [change for op, _, _, change in trail("mysql-partial_json") if op == "u"]
    old = {"a": {"b c": [1, 2, 3]}, "d": FILLING, "e": 0}
    after = [
        {"a": {"b c": [1, "new", 3]}, "d": FILLING, "e": 0},
        {"a": {"b c": ["new", 3]}, "d": FILLING, "e": 0},
        {"a": {"b c": ["new", 3]}, "d": FILLING, "e": 0, "cc": {"y": None}},
        {"a": {"b c": [True, "new", 3]}, "d": FILLING, "e": 0, "cc": {"y": None}},
        {"a": {"b c": [True, "new", 3]}, "d": FILLING, "e": 1, "cc": {"y": None}},
        {"a": {"b c": [True, "new", 3]}, "d": FILLING, "e": 1, "cc": {"y": None}, 'q"t': 1},
        {"a": {"b c": [True, "new", 3]}, "e": 1, "cc": {"y": None}, 'q"t': 1},
    ]
    j = [change["j"] for change in changes if "j" in change]
    assert [sides["t"] for sides in j] == after
    assert [sides["f"] for sides in j] == [old, *after[:-1]]
    assert [change["k"] for change in changes if "k" in change] == [
        {"f": [1], "t": [1, 5]},
        {"f": [1, 5], "t": None},
        {"f": None, "t": 7},
    ]
    assert [change["x"] for change in changes if "x" in change] == [
        {"f": 1, "t": 2},
        {"f": 2, "t": 3},
    ]


def test_rows_that_mariadb_compressed_are_rows():
    long = "x" * 500
    assert trail("mariadb-compressed_rows") == [
        ("i", "c", None, {"a": {"t": 1}, "b": {"t": long}}),
        ("u", "c", None, {"a": {"f": 1, "t": 2}}),
        ("d", "c", None, {"a": {"f": 2}, "b": {"f": long}}),
    ]


@BOTH
def test_a_row_without_all_its_columns_stops_and_names_the_setting(flavor):
    with pytest.raises(RefusedError, match=r"the source logged the row without b") as no:
        trail(f"{flavor}-minimal_image")
    assert "binlog_row_image = 'FULL'" in no.value.hint


@BOTH
def test_a_row_without_all_its_columns_says_so_where_that_is_accepted(flavor):
    encoder = RowsEncoder(on_partial_image=OnPartialImage.MARK)
    documents = recorded(f"{flavor}-minimal_image")[0].documents(encoder)
    assert [(d["op"], d["meta"]["pk"], d["chg"], d["partial"]) for d in documents] == [
        ("i", 1, {"id": {"t": 1}, "a": {"t": 2}}, True),
        ("u", 1, {"b": {"t": 6}}, True),
        ("d", 1, {"id": {"f": 1}}, True),
    ]


@BOTH
def test_a_table_without_names_stops_and_names_the_setting(flavor):
    with pytest.raises(RefusedError, match="lacks the names") as no:
        trail(f"{flavor}-minimal_metadata")
    assert "binlog_row_metadata = 'FULL'" in no.value.hint


# --- schemas --------------------------------------------------------------------------------------


@BOTH
def test_a_table_may_change_between_its_rows(flavor):
    two = {"renamed": "é日", "id": 2}
    assert trail(f"{flavor}-schema") == [
        ("i", "s", 1, {"id": {"t": 1}, "a": {"t": 10}, "b": {"t": "é"}}),
        ("u", "s", 1, {"a": {"f": 10, "t": 11}}),
        (
            *("i", "s", 2),
            {
                "first_": {"t": "x"},
                "id": {"t": 2},
                "a": {"t": 20},
                "b": {"t": "ö"},
                "c": {"t": 1},
            },
        ),
        ("u", "s", 1, {"b": {"f": "é", "t": "ü"}}),
        ("u", "s", 2, {"renamed": {"f": "ö", "t": "ß"}}),
        ("u", "s", 2, {"renamed": {"f": "ß", "t": "é日"}}),
        ("u", "s", 2, {"c": {"f": 1, "t": -5}}),
        (
            *("d", "s", {"renamed": "ü", "id": 1}),
            {
                "c": {"f": 4294967295},
                "first_": {"f": "f"},
                "id": {"f": 1},
                "renamed": {"f": "ü"},
            },
        ),
        ("u", "s2", two, {"c": {"f": -5, "t": 6}}),
        (
            *("i", "s2", {"renamed": "n", "id": 3}),
            {"c": {"t": None}, "first_": {"t": "f"}, "id": {"t": 3}, "renamed": {"t": "n"}},
        ),
    ]


@BOTH
def test_equal_table_maps_are_one_version_and_every_change_is_another(flavor):
    tables = recorded(f"{flavor}-schema")[0].tables()
    versions = {id(table) for table in tables}
    assert len({table.fingerprint for table in tables}) == len(versions) == 9
    assert tables[3] is not tables[2]


@BOTH
def test_five_hundred_columns(flavor):
    inserted, updated, deleted = (change for *_, change in trail(f"{flavor}-many_columns"))
    assert len(inserted) == len(deleted) == 500
    assert updated == {
        "c0": {"f": 7, "t": 8},
        "c251": {"f": "v", "t": "w"},
        "c498": {"f": "2026-01-02 03:04:05.678", "t": "2027-01-02 03:04:05.678"},
    }
    assert inserted["c494"] == {"t": Decimal128(str(2**64 - 1))}


@BOTH
def test_all_kinds_of_metadata_in_one_table(flavor):
    ((_, _, key, change),) = trail(f"{flavor}-mixed")
    values = {name: sides["t"] for name, sides in change.items()}
    point = bytes(4) + bytes.fromhex("0101000000000000000000f03f0000000000000040")
    vector = Binary(bytes.fromhex("27000000803f00000040"), 9)
    others: dict[str, Any] = {"g": point, "x": vector, "j": {}}
    if flavor is Flavor.MARIADB:
        others |= {"x": "zz", "j": "{}"}
    assert key is None
    assert values == others | {
        "y": 2000,
        "a": 4000000000,
        "b": "é",
        "c": "é",
        "bi": 3,
        "d": b"\xff",
        "e": -1,
        "t": "П",
        "en": "x",
        "s": ["q"],
        "w": "é",
    }


# --- around the change ----------------------------------------------------------------------------


def test_a_document_is_as_the_page_says():
    document = recorded("mysql-keys")[0].documents()[1]
    assert list(document) == ["_id", "ts", "op", "meta", "seq", "chg", "src"]
    assert list(document["meta"]) == ["db", "tbl", "pk"]
    assert document["ts"].isoformat() == "2026-09-21T14:13:20"
    assert document["seq"] == 2
    assert document["src"] == {
        "binlog": {"file": "binlog.000007", "pos": 5_000_000_000},
        "gtid": "3e11fa47-71ca-11e1-9e33-c80aa9429562:23",
        "server_id": 4_000_000_001,
        "commit_us": 1_790_000_000_123_456,
    }


def test_a_source_without_gtids_says_null():
    context = a_context(gtid=None, commit_us=None)
    document = recorded("mysql-keys")[0].documents(context=context)[0]
    assert document["src"]["gtid"] is None
    assert document["src"]["commit_us"] is None


def test_a_zone_gives_a_local_time_beside_ts():
    encoder = RowsEncoder(local_time=LocalTime("ist", ZoneInfo("Asia/Kolkata")))
    document = recorded("mysql-keys")[0].documents(encoder)[0]
    assert document["ts_ist"] == "2026-09-21 19:43:20"


def test_ids_and_numbers_go_on_over_events_of_a_transaction():
    documents = recorded("mysql-nulls")[0].documents()
    assert [d["seq"] for d in documents] == list(range(1, len(documents) + 1))
    ids = [bytes(d["_id"]) for d in documents]
    assert ids == sorted(set(ids))
    assert all(found.startswith(ID_PREFIX) and len(found) == 30 for found in ids)
    rows = [struct.unpack(">I", found[-4:])[0] for found in ids]
    assert rows == list(range(len(ids)))


def test_a_filter_renumbers_no_other_table():
    """Ids are the table's own, so a filter that changes gives no row another id."""
    keys = recorded("mysql-keys")[0]
    whole = {bytes(d["_id"]): d for d in keys.documents()}
    some = keys.documents(RowsEncoder(filters=Filters(exclude=(r".*\.composite", ".*keyless"))))
    assert {d["meta"]["tbl"] for d in some} == {"prefix", "unsigned_key", "made"}
    assert [d["seq"] for d in some] == list(range(1, len(some) + 1))
    for document in some:
        assert document["chg"] == whole[bytes(document["_id"])]["chg"]


def test_columns_are_masked_hashed_or_left_out():
    filters = Filters(
        mask=(r".*\.made\.a",), hash=(r".*\.made\.b",), drop=(r".*\.made\.d",), secret=b"s" * 16
    )
    documents = recorded("mysql-keys")[0].documents(RowsEncoder(filters=filters))
    inserted, updated = (d["chg"] for d in documents if d["meta"]["tbl"] == "made")
    assert inserted["a"] == {"t": "***"}
    assert len(inserted["b"]["t"]) == 64
    assert "d" not in inserted
    assert inserted["c"] == {"t": 2}
    assert updated == {"a": {"f": "***", "t": "***"}, "c": {"f": 2, "t": 10}}


@pytest.mark.parametrize("treatment", ["mask", "drop"])
def test_a_key_is_never_masked_nor_left_out(treatment):
    pattern = (r".*\.made\.id",)
    filters = Filters(mask=pattern) if treatment == "mask" else Filters(drop=pattern)
    with pytest.raises(InvalidSettingError, match="hash it"):
        recorded("mysql-keys")[0].documents(RowsEncoder(filters=filters))


def test_a_hashed_key_is_hashed_in_pk_too():
    filters = Filters(hash=(r".*\.made\.id",), secret=b"s" * 16)
    documents = recorded("mysql-keys")[0].documents(RowsEncoder(filters=filters))
    inserted = next(d for d in documents if d["meta"]["tbl"] == "made")
    assert inserted["meta"]["pk"] == inserted["chg"]["id"]["t"]
    assert len(inserted["meta"]["pk"]) == 64


# --- going on in the middle -----------------------------------------------------------------------


@pytest.mark.parametrize("skip", range(5))
def test_rows_that_are_in_the_trail_are_counted_and_left_out(skip):
    """What comes behind them is the same, byte for byte, as if they had been written."""
    captured = recorded("mysql-nulls")[0]
    tables = captured.tables()
    body = next(body for kind, body in captured.events if kind in ROWS_EVENTS and len(body) > 300)
    kind = next(k for k, b in captured.events if b is body)
    context = a_context()
    whole = RowsEncoder().documents(kind, body, tables[0], context)
    again = a_context(seq=1 + skip)
    rest = RowsEncoder().documents(kind, body, tables[0], again, skip=skip)
    assert rest.skipped == skip
    assert rest.documents == whole.documents[skip:]
    assert [rest.crc(n) for n in range(len(rest.documents))] == [
        whole.crc(n) for n in range(skip, len(whole.documents))
    ]
    assert again.seq == context.seq
    assert again.next_row == context.next_row


def test_rows_go_to_a_batch_as_they_are():
    captured = recorded("mysql-nulls")[0]
    start = Checkpoint(None, Position("binlog.000007", 4), 0)
    batcher = Batcher(start, Flavor.MYSQL)
    context = a_context()
    documents = []
    for encoded in captured.encoded(context=context):
        documents += encoded.documents
        assert list(batcher.rows("t", encoded)) == []
    (batch,) = batcher.flush()
    assert list(batch.documents) == documents
    assert [bson.decode(d)["seq"] for d in batch.documents] == list(range(1, len(documents) + 1))


# --- what is no rows event ------------------------------------------------------------------------


def test_rows_of_another_number_of_columns_stop_with_their_place():
    captured = recorded("mysql-keys")[0]
    tables = captured.tables()
    kind, body = next(event for event in captured.events if event[0] in ROWS_EVENTS)
    with pytest.raises(CorruptEventError, match=r"binlog.000007:5000000000: recorded.* columns"):
        RowsEncoder().documents(kind, body, tables[-1], a_context())


def test_a_value_that_is_none_of_its_type_stops_with_its_column():
    captured = recorded("mysql-types")[0]
    maps = TableMaps(Flavor.MYSQL)
    table = None
    for kind, body in captured.events:
        if kind == TABLE_MAP:
            table = maps.add(body)
        elif table is not None and table.name == "choice":
            with pytest.raises(CorruptEventError, match="'v': ENUM index 9 of 3 labels"):
                RowsEncoder().documents(kind, body[:-1] + b"\x09", table, a_context())
            return
    pytest.fail("no such table")
