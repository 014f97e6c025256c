"""What mysql-replication reads wrongly or loses, read rightly here; and what it reads rightly.

Stock mysql-replication, without any change, is the flawed reader: each case is red with it and
green with ours, on the same recorded events. Its answers are judged kindly: a `datetime` or a `set`
is spelled as the table of types wants it before it counts as wrong.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any

import bson
import pytest
from bson import Decimal128

from benchmarks.stock_reader import stock_events
from caretaker.binlog.model import EventType, Flavor, Rows
from caretaker.binlog.rows import RowsEncoder
from caretaker.binlog.stream import Source, Stream
from caretaker.binlog.tablemap import TableMap, TableMaps
from caretaker.binlog.xa import XaSpool
from caretaker.errors import CorruptEventError, RefusedError
from tests.binlog import row_stories, wire
from tests.binlog.captures import TABLE_MAP, Captured, recorded
from tests.binlog.recordings import IDENTITY, Recording, decompress, recording
from tests.binlog.type_cases import CASES, MARIADB, MYSQL, Case

Spelled = Callable[[Any], Any]


# --- the two readers ------------------------------------------------------------------------------


def packets_of(captured: Captured, table: str | None = None) -> list[bytes]:
    """Packets of a dump with the events of one table, or all."""
    # Stock looks at the lengths of headers that a real server lists there.
    opening = recording(f"{captured.flavor}-plain").payloads
    packets = [wire.rotate(), *filter(is_description, opening)]
    chosen = table is None
    maps = TableMaps(captured.flavor)
    for kind, body in captured.events:
        if kind == TABLE_MAP and table is not None:
            chosen = maps.add(body).name == table
        if chosen:
            packets.append(wire.event(kind, body, log_pos=4))
    return packets


def is_description(payload: bytes) -> bool:
    return payload[5:6] == bytes((EventType.FORMAT_DESCRIPTION,))


def by_stock(captured: Captured, case: Case) -> list[Any]:
    """The values that stock inserts; what it could not read is its error."""
    values: list[Any] = []
    packets = packets_of(captured, case.name)
    try:
        for event in stock_events(packets, _DBMS[captured.flavor]):
            values += [row["values"]["v"] for row in event.rows if "values" in row]
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return [error] * len(case.values)
    return values[: len(case.values)]


_DBMS = {MYSQL: "mysql", MARIADB: "mariadb"}


def by_ours(captured: Captured, case: Case) -> list[Any]:
    return inserted(captured.flavor)[case.name]


@cache
def inserted(flavor: Flavor) -> dict[str, list[Any]]:
    values = defaultdict(list)
    captured = recorded(f"{flavor}-types")[0]
    for document in captured.documents(known_types=row_stories.known_types("recorded")):
        if document["op"] == "i":
            values[document["meta"]["tbl"]].append(document["chg"]["v"]["t"])
    return values


# --- kindness -------------------------------------------------------------------------------------


def as_it_is(value: Any) -> Any:
    return value


def moment(digits: int, between: str = " ") -> Spelled:
    def spelled(value: Any) -> Any:
        if not isinstance(value, date):
            return value
        form = f"%Y-%m-%d{between}%H:%M:%S" if isinstance(value, datetime) else "%Y-%m-%d"
        fraction = f".{value:%f}"[: digits + 1] if digits else ""
        return value.strftime(form).rjust(10, "0") + fraction

    return spelled


def clock(digits: int) -> Spelled:
    def spelled(value: Any) -> Any:
        if not isinstance(value, timedelta):
            return value
        micros = abs(value) // timedelta(microseconds=1)
        sign = "-" * (value < timedelta(0))
        seconds, micros = divmod(micros, 10**6)
        hours, minutes = divmod(seconds // 60, 60)
        fraction = f".{micros:06}"[: digits + 1] if digits else ""
        return f"{sign}{hours:02}:{minutes:02}:{seconds % 60:02}{fraction}"

    return spelled


def plain(value: Any) -> Any:
    """A value of ours or stock's as what both could have meant."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, set):
        return sorted(value)
    return value


def bits(value: Any) -> Any:
    return int(value, 2) if isinstance(value, str) else value


def right(values: list[Any], case: Case, spelled: Spelled) -> bool:
    expected = [plain(value) for _, value in case.values]
    if case.name.startswith("several"):
        expected = [sorted(value) for value in expected]
    return [plain(spelled(value)) for value in values] == expected


# --- values ---------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, Spelled]] = {
    "year_": ("0000 is 1900", as_it_is),
    "time_6": ("below zero with a fraction", clock(6)),
    "time_2": ("below zero with a fraction", clock(2)),
    "timestamp_0": ("the zero timestamp is 1970", as_it_is),
    "date_": ("zero and partial dates are None", moment(0)),
    "datetime_0": ("zero and partial dates are None", moment(0)),
    "latin1_": ("the holes of cp1252 are an error", as_it_is),
    "utf16_": ("the other byte order", as_it_is),
    "utf32_": ("an error", as_it_is),
    "ucs2_": ("bytes", as_it_is),
    "choice_latin1": ("labels are decoded as UTF-8", as_it_is),
    "several": ("the empty set is None", as_it_is),
    "binary_": ("without its trailing zeros", as_it_is),
    "varbinary_": ("no bytes at all are text", as_it_is),
    "blob_": ("no bytes at all are text", as_it_is),
    "json_": ("bytes for text, opaque values as they lie", as_it_is),
    "vector_": ("an error in the table map", as_it_is),
    "uuid_": ("bytes in the order in which they are stored", as_it_is),
    "inet6_": ("bytes", as_it_is),
    "compressed_varchar": ("an error", as_it_is),
    "compressed_blob": ("an error", as_it_is),
}
SOUND: dict[str, Spelled] = {
    **dict.fromkeys(("tiny", "tiny_u", "small_u", "medium", "whole", "whole_u"), as_it_is),
    **dict.fromkeys(("big", "big_u", "double_", "decimal_12_2", "decimal_34_30"), as_it_is),
    **dict.fromkeys(("choice_300", "char_", "varchar_", "cp1251_", "koi8r_", "gbk_"), as_it_is),
    **dict.fromkeys(("sjis_text", "point_", "utf8mb3_", "longtext_"), as_it_is),
    "bit_1": bits,
    "bit_12": bits,
    "bit_64": bits,
    "time_0": clock(0),
}
BY_NAME = {case.name: case for case in CASES}


def on_its_flavors(names: Any) -> Iterator[Any]:
    for name in names:
        if name in BY_NAME:
            for flavor in BY_NAME[name].flavors:
                yield pytest.param(flavor, name, id=f"{flavor}-{name}")


@pytest.mark.parametrize(("flavor", "name"), list(on_its_flavors(WRONG)))
def test_what_stock_reads_wrongly_is_right(flavor, name):
    captured, case = recorded(f"{flavor}-types")[0], BY_NAME[name]
    about, spelled = WRONG[name]
    ours = by_ours(captured, case)
    if name == "several":
        ours = [sorted(value) for value in ours]
    assert right(ours, case, as_it_is), about
    assert not right(by_stock(captured, case), case, spelled), about


@pytest.mark.parametrize(("flavor", "name"), list(on_its_flavors(SOUND)))
def test_what_stock_reads_rightly_is_the_same(flavor, name):
    """The reference decoder on what it is sound in; it also shows that the other test is fair."""
    captured, case = recorded(f"{flavor}-types")[0], BY_NAME[name]
    assert right(by_ours(captured, case), case, as_it_is)
    assert right(by_stock(captured, case), case, SOUND[name])


def test_a_json_null_is_null_to_stock():
    captured = recorded("mysql-json_null")[0]
    events = list(stock_events(packets_of(captured)))
    rows = [row["values"]["j"] for row in events[0].rows]
    assert rows[:2] == [None, None]
    of_ours = [document["chg"]["j"] for document in captured.documents()[:2]]
    assert of_ours == [{"t": None}, {"t": None, "json_null": ["t"]}]


@pytest.mark.parametrize("flavor", [MYSQL, MARIADB])
def test_a_composite_key_is_in_key_order_and_stock_has_it_in_the_tables(flavor):
    captured = recorded(f"{flavor}-keys")[0]
    event = next(iter(stock_events(packets_of(captured, "composite"), _DBMS[flavor])))
    assert tuple(event.primary_key) == ("a", "b")
    assert list(captured.documents()[0]["meta"]["pk"]) == ["b", "a"]


# --- events ---------------------------------------------------------------------------------------


def rows_by_stock(packets: list[bytes], flavor: Flavor) -> int:
    return sum(len(event.rows) for event in stock_events(packets, _DBMS[flavor]))


def documents_by_ours(told: Recording) -> list[bytes]:
    stream = Stream(
        Source(told.flavor, IDENTITY),
        told.start(),
        TableMaps(told.flavor),
        decompress,
        XaSpool(1 << 20),
    )
    encoder = RowsEncoder()
    documents: list[bytes] = []
    for payload in told.payloads:
        for item in stream.feed(payload):
            if isinstance(item, Rows):
                assert isinstance(item.table, TableMap)
                encoded = encoder.documents(item.event_type, item.body, item.table, item.context)
                documents += encoded.documents
    return documents


def net(documents: list[bytes]) -> int:
    """How many rows the tables have after these changes."""
    return sum({"i": 1, "d": -1}.get(bson.decode(d)["op"], 0) for d in documents)


@pytest.mark.parametrize("name", ["mysql-compressed", "mariadb-compressed"])
def test_compressed_transactions_and_events_are_read_and_stock_loses_rows_of_them(name):
    told = recording(name)
    ours = documents_by_ours(told)
    assert net(ours) == sum(told.tables.values())
    assert rows_by_stock(told.payloads, told.flavor) < len(ours)


@pytest.mark.parametrize("name", ["mysql-xa", "mariadb-xa"])
def test_xa_that_was_rolled_back_is_not_in_the_trail_and_stock_delivers_it(name):
    told = recording(name)
    ours = documents_by_ours(told)
    assert net(ours) == sum(told.tables.values())
    assert rows_by_stock(told.payloads, told.flavor) > len(ours)


def test_partial_json_is_read_and_stock_loses_the_updates():
    captured = recorded("mysql-partial_json")[0]
    ours = captured.documents()
    assert len(ours) == 10
    assert rows_by_stock(packets_of(captured), MYSQL) < len(ours)


def test_rows_that_mariadb_compressed_are_read_and_stock_loses_them():
    captured = recorded("mariadb-compressed_rows")[0]
    assert len(captured.documents()) == 3
    assert rows_by_stock(packets_of(captured), MARIADB) < 3


def test_statements_stop_us_and_are_nothing_to_stock():
    """Rows that were logged as a statement would be a hole in the trail that nobody sees."""
    told = recording("mysql-statement")
    with pytest.raises(RefusedError):
        documents_by_ours(told)
    assert rows_by_stock(told.payloads, told.flavor) < sum(told.tables.values())


def test_a_wrong_checksum_stops_us_and_not_stock():
    captured = recorded("mysql-keys")[0]
    packets = packets_of(captured, "keyless")
    assert rows_by_stock([*packets[:-1], flipped(packets[-1])], MYSQL) == 2
    told = recording("mysql-plain")
    payloads = [
        flipped(payload) if payload[5:6] in {b"\x1e", b"\x1f", b"\x20"} else payload
        for payload in told.payloads
    ]
    with pytest.raises(CorruptEventError, match="checksum"):
        documents_by_ours(replace(told, packets=(b"".join(map(wire.packet, payloads, count())),)))


def flipped(payload: bytes) -> bytes:
    """A payload with another last byte before its checksum."""
    return payload[:-5] + bytes((payload[-5] ^ 1,)) + payload[-4:]


def test_the_readers_are_asked_the_same():
    """The case of JSON, once: the same event, the same column, two answers."""
    captured, case = recorded("mysql-types")[0], BY_NAME["json_"]
    stock, ours = by_stock(captured, case), by_ours(captured, case)
    assert ours[2] == json.loads('{"": "", "a": -1.5, "bb": [1, true, false, null, {"x": "é"}]}')
    assert stock[2] != ours[2]
