"""Two decoders read the same bytes; where they differ the sync stops."""

from __future__ import annotations

import pytest

from caretaker.binlog import rows
from caretaker.errors import CorruptEventError


@pytest.fixture
def typed(either_bench):
    bench = either_bench
    bench.setup()
    bench.sql(
        f"CREATE TABLE {bench.name}.t (id BIGINT UNSIGNED PRIMARY KEY, a TINYINT, f FLOAT,"
        " g DOUBLE, d DECIMAL(30, 5), s VARCHAR(30) CHARACTER SET utf8mb4, y YEAR,"
        " at DATETIME(3), secret VARCHAR(9))",
        f"INSERT INTO {bench.name}.t VALUES"
        " (18446744073709551615, -5, 1.5, -2.25, -12.50001, 'é', 0, '2026-01-02 03:04:05.6', 'x'),"
        " (2, NULL, NULL, NULL, NULL, '', NULL, NULL, 'y')",
        f"UPDATE {bench.name}.t SET a = 7, s = 'ü' WHERE id = 2",
        f"DELETE FROM {bench.name}.t WHERE a = -5",
    )
    return bench


def test_they_agree_on_what_both_can_read(typed):
    typed.sync(cross_check_percent=100, mask=[r".*\.secret"])

    assert [each["op"] for each in typed.rows("t")] == ["i", "i", "u", "d"]


def test_a_difference_stops_before_the_row_is_written(typed, monkeypatch):
    """Our own encoder is made to lie: the documents it hands out say 99 where a byte says -5."""
    sound = rows.RowsEncoder.documents

    def lying(self, *args, **options):
        encoded = sound(self, *args, **options)
        encoded.documents[:] = [
            document.replace(b"\x10t\x00\xfb\xff\xff\xff", b"\x10t\x00\x63\x00\x00\x00")
            for document in encoded.documents
        ]
        return encoded

    monkeypatch.setattr(rows.RowsEncoder, "documents", lying)

    with pytest.raises(CorruptEventError, match=r"a\.t: we read 99, mysql-replication -5"):
        typed.sync(cross_check_percent=100)
    assert typed.rows("t") == []


def test_compressed_transactions_are_checked_too(start_mysql, mongodb_server, name, monkeypatch):
    from resources.mongodb.settings import MongoDBSettings  # noqa: PLC0415
    from resources.mysql.reference import ReferenceDecoder  # noqa: PLC0415
    from tests.binlog_sync.bench import Bench  # noqa: PLC0415

    checked = []
    sound = ReferenceDecoder.differences

    def watched(self, event_type, body, table, documents, *, left_out=()):
        yield from sound(self, event_type, body, table, documents, left_out=left_out)
        checked.append(self.compared)

    monkeypatch.setattr(ReferenceDecoder, "differences", watched)
    server = start_mysql(binlog_transaction_compression=True)
    with Bench(server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        bench.setup()
        bench.sql(
            f"CREATE TABLE {name}.t (id INT PRIMARY KEY)", f"INSERT INTO {name}.t VALUES (1), (2)"
        )
        bench.sync(cross_check_percent=100)
        assert len(bench.rows("t")) == 2
    assert checked[-1] == 2
