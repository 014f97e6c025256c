"""Workloads of the binlog benchmarks: made by a real MySQL once, kept as the packets it sent."""

from __future__ import annotations

import contextlib
import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.servers.mysql import MySQL
from lab.servers.sql import Sql

_COM_BINLOG_DUMP = 0x12
_NON_BLOCK = 1
_DATABASE = "caretaker_bench"
_ROWS_A_TRANSACTION = 500
#: Rows that one INSERT statement of the preparation holds.
_ROWS_A_STATEMENT = 100

_NARROW = """CREATE TABLE {name} (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0,
    c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '')"""
_WIDE = (
    "CREATE TABLE {name} (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, "
    + "".join(f"b{n} BIGINT, " for n in range(7))
    + "".join(f"v{n} VARCHAR(60), " for n in range(8))
    + "".join(f"t{n} DATETIME(6), " for n in range(4))
    + "".join(f"d{n} DECIMAL(12,2), " for n in range(3))
    + "".join(f"f{n} DOUBLE, " for n in range(3))
    + "e ENUM('new','paid','shipped','returned'), small TINYINT, j JSON, notes TEXT)"
)


@dataclass(frozen=True)
class Workload:
    """What a server sent for a workload.

    Attributes:
        packets: Payloads of the dump, from its made-up rotate on.
        rows: Changes of rows among them.
    """

    name: str
    packets: list[bytes]
    rows: int


def workloads(*, quick: bool) -> Iterator[Workload]:
    """Yield the five workloads; ServerUnavailableError where this machine has no MySQL."""
    with contextlib.ExitStack() as stack:
        if given := os.environ.get("CARETAKER_TEST_MYSQL_URL"):
            server = Sql(given)
        else:
            server = stack.enter_context(MySQL())
        yield from _recorded(server, 5_000 if quick else 40_000)


def _recorded(server: Sql, narrow: int) -> Iterator[Workload]:
    wide, single = narrow // 5, narrow // 5
    plans: list[tuple[str, int, Callable[[Any], None], Callable[[Any], None]]] = [
        ("narrow_insert", narrow, _made(_NARROW), _inserts(narrow, _narrow_row)),
        (
            "narrow_update",
            narrow,
            _made(_NARROW, narrow, _narrow_row),
            _updates(narrow, "k = k + 1"),
        ),
        ("wide_insert", wide, _made(_WIDE), _inserts(wide, _wide_row)),
        (
            "wide_update",
            wide,
            _made(_WIDE, wide, _wide_row),
            _updates(wide, "b1 = b1 + 1, v2 = 'changed', t1 = NOW(6)"),
        ),
        ("single_row_transactions", single, _made(_NARROW), _inserts(single, _narrow_row, 1)),
    ]
    for name, rows, prepare, change in plans:
        with contextlib.closing(server.connect(autocommit=False)) as connection:
            cursor = connection.cursor()
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {_DATABASE}")
            cursor.execute(f"USE {_DATABASE}")
            cursor.execute("DROP TABLE IF EXISTS t")
            prepare(cursor)
            connection.commit()
            cursor.execute("FLUSH BINARY LOGS")
            cursor.execute("SHOW BINARY LOG STATUS")
            file = cursor.fetchone()[0]
            change(cursor)
            connection.commit()
            packets = list(_dump(server, file))
            cursor.execute("DROP TABLE t")
            connection.commit()
        yield Workload(name, packets, rows)


def _made(
    definition: str, rows: int = 0, row: Callable[[random.Random], list[Any]] | None = None
) -> Callable[[Any], None]:
    def prepare(cursor: Any) -> None:
        cursor.execute(definition.format(name="t"))
        if row is not None:
            _inserts(rows, row)(cursor)

    return prepare


def _inserts(
    rows: int, row: Callable[[random.Random], list[Any]], a_transaction: int = _ROWS_A_TRANSACTION
) -> Callable[[Any], None]:
    def change(cursor: Any) -> None:
        chance = random.Random(1)  # noqa: S311 - the same rows each time
        a_statement = min(a_transaction, _ROWS_A_STATEMENT)
        for first in range(0, rows, a_statement):
            values = [row(chance) for _ in range(min(a_statement, rows - first))]
            places = ",".join(["%s"] * len(values[0]))
            cursor.executemany(f"INSERT INTO t VALUES ({places})", values)  # noqa: S608
            if (first + a_statement) % a_transaction == 0:
                cursor.connection.commit()
        cursor.connection.commit()

    return change


def _updates(rows: int, assignment: str) -> Callable[[Any], None]:
    def change(cursor: Any) -> None:
        cursor.execute("SELECT MIN(id) FROM t")
        lowest = cursor.fetchone()[0]
        for first in range(lowest, lowest + rows, _ROWS_A_TRANSACTION):
            last = first + _ROWS_A_TRANSACTION
            cursor.execute(
                f"UPDATE t SET {assignment} WHERE id >= {first} AND id < {last}"  # noqa: S608
            )
            cursor.connection.commit()

    return change


def _narrow_row(chance: random.Random) -> list[Any]:
    digits = "-".join(f"{chance.randrange(10**11):011}" for _ in range(10))
    pad = "-".join(f"{chance.randrange(10**11):011}" for _ in range(5))
    return [None, chance.randrange(10**6), digits, pad]


def _wide_row(chance: random.Random) -> list[Any]:
    def moment() -> str:
        day = f"{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
        return (
            f"20{chance.randrange(10, 30)}-{day} "
            f"{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}."
            f"{chance.randrange(10**6):06}"
        )

    customer = chance.randrange(10**6)
    document = {"customer": customer, "tags": ["a", "bb"], "paid": True, "name": "x y"}
    return [
        None,
        *(chance.randrange(-(10**15), 10**15) for _ in range(7)),
        *("v" * chance.randrange(5, 50) + str(chance.randrange(10**6)) for _ in range(8)),
        *(moment() for _ in range(4)),
        *(f"{chance.randrange(-(10**9), 10**9)}.{chance.randrange(100):02}" for _ in range(3)),
        *(chance.random() * 10**6 for _ in range(3)),
        chance.choice(["new", "paid", "shipped", "returned"]),
        chance.randrange(-128, 128),
        json.dumps(document),
        "note " * chance.randrange(2, 40),
    ]


def _dump(server: Sql, file: str) -> Iterator[bytes]:
    with contextlib.closing(server.connect()) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET @source_binlog_checksum = 'CRC32'")
        body = struct.pack("<BIHI", _COM_BINLOG_DUMP, 4, _NON_BLOCK, 4713) + file.encode()
        connection._write_bytes(struct.pack("<I", len(body)) + body)  # noqa: SLF001 - as the client
        connection._next_seq_id = 1  # noqa: SLF001
        while True:
            packet = connection._read_packet()  # noqa: SLF001
            if packet.is_eof_packet():
                return
            yield packet.get_all_data()
