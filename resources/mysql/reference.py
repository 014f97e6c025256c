"""Rows events decoded by mysql-replication: a second opinion on our own decoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pymysql.protocol import MysqlPacket
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import (
    DeleteRowsEvent,
    TableMapEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
)

from caretaker.binlog.model import EventType, Flavor
from caretaker.errors import CorruptEventError

_EVENTS = [TableMapEvent, WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent]
_ROWS = frozenset(
    {
        EventType.WRITE_ROWS_V1,
        EventType.UPDATE_ROWS_V1,
        EventType.DELETE_ROWS_V1,
        EventType.WRITE_ROWS,
        EventType.UPDATE_ROWS,
        EventType.DELETE_ROWS,
    }
)
_HEADER = 20


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """A row as mysql-replication reads it; None for the image that an insert or delete lacks."""

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class Reference:
    """Remembers the table maps of one dump, and decodes the rows events that it is asked for."""

    def __init__(self, flavor: Flavor) -> None:
        self._tables: dict[int, Any] = {}
        self._maps: dict[bytes, bytes] = {}
        self._control = SimpleNamespace(
            charset="utf8mb4", _get_dbms=lambda: flavor.value, _get_table_information=lambda *_: []
        )
        self._payload: bytes | None = None

    def see(self, payload: bytes) -> None:
        """Take the next payload of the dump; decode nothing yet."""
        self._payload = None
        if len(payload) <= _HEADER or payload[0]:
            return
        kind = payload[5]
        if kind == EventType.TABLE_MAP:
            table_id, body = payload[_HEADER : _HEADER + 6], payload[_HEADER + 6 : -4]
            if self._maps.get(table_id) != body:
                self._maps[table_id] = body
                self._tables.pop(int.from_bytes(table_id, "little"), None)
                self._read(payload)
        elif kind in _ROWS:
            self._payload = payload

    def rows(self) -> list[ReferenceRow] | None:
        """Decode the rows of the last payload; None where it held no rows that it can read.

        Compressed transactions and rows are among those: it knows neither.
        """
        if self._payload is None:
            return None
        event = self._read(self._payload)
        if event is None:
            return None
        if isinstance(event, UpdateRowsEvent):
            return [ReferenceRow(r["before_values"], r["after_values"]) for r in event.rows]
        if isinstance(event, WriteRowsEvent):
            return [ReferenceRow(None, row["values"]) for row in event.rows]
        return [ReferenceRow(row["values"], None) for row in event.rows]

    def _read(self, payload: bytes) -> Any:
        try:
            wrapper = BinLogPacketWrapper(
                MysqlPacket(payload, "utf8mb4"),
                self._tables,
                self._control,
                (8, 0, 14),
                True,  # noqa: FBT003 - its arguments have no names a caller could keep to
                _EVENTS,
                None,
                None,
                None,
                None,
                False,  # noqa: FBT003
                False,  # noqa: FBT003
                False,  # noqa: FBT003
                True,  # noqa: FBT003
                False,  # noqa: FBT003
            )
            event = wrapper.event
            if event is not None and not isinstance(event, TableMapEvent):
                _ = event.rows
        except Exception as error:  # whatever it raises: it is a library with no list of it
            raise CorruptEventError(
                f"mysql-replication cannot read the event: {type(error).__name__}: {error}"
            ) from error
        return event
