"""PostgreSQL's messages, as bytes and back."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any

from lab.materialize.errors import MaterializeError

PROTOCOL_3 = 196608
CANCEL_REQUEST, SSL_REQUEST, GSS_REQUEST = 80877102, 80877103, 80877104
_TEXT_OID = 25
#: A letter and a length.
_HEAD = 5
#: What a startup packet can be long, its length not counted: PostgreSQL's own bounds.
_LEAST_STARTUP, _MOST_STARTUP = 4, 10_000


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its letter and what follows the length."""

    kind: bytes
    body: bytes

    def packed(self) -> bytes:
        """Return it as it goes over the wire."""
        return self.kind + struct.pack("!i", len(self.body) + 4) + self.body


class ClosedError(Exception):
    """The other side is gone."""


class Stream:
    """A socket that is read by the message and written by the batch."""

    def __init__(self, sock: socket.socket) -> None:
        """Take a connected socket."""
        self.sock = sock
        self._read = bytearray()
        self._unsent = bytearray()
        #: While held, what is put stays here: a fault decides what becomes of it.
        self.held = False

    @property
    def has_more(self) -> bool:
        """Return whether a whole message has been read already."""
        return (
            len(self._read) >= _HEAD
            and len(self._read) > struct.unpack_from("!i", self._read, 1)[0]
        )

    def _fill(self, size: int) -> None:
        while len(self._read) < size:
            try:
                data = self.sock.recv(65536)
            except OSError as error:
                raise ClosedError from error
            if not data:
                raise ClosedError
            self._read += data

    def _take(self, size: int) -> bytes:
        self._fill(size)
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def message(self) -> Message:
        """Read one message; ClosedError where the other side is gone."""
        head = self._take(_HEAD)
        size = struct.unpack_from("!i", head, 1)[0] - 4
        if size < 0:
            raise ClosedError
        return Message(head[:1], self._take(size))

    def startup(self) -> bytes:
        """Read what a client says first: a length and a body without a letter."""
        size = struct.unpack("!i", self._take(4))[0] - 4
        if not _LEAST_STARTUP <= size <= _MOST_STARTUP:
            raise ClosedError
        return self._take(size)

    def put(self, *messages: Message) -> None:
        """Write with the next flush."""
        for message in messages:
            self._unsent += message.packed()
        if len(self._unsent) > 1 << 16 and not self.held:
            self.flush()

    def put_raw(self, data: bytes) -> None:
        """Write bytes with the next flush."""
        self._unsent += data

    def unsent(self) -> bytes:
        """Return and forget what was not written yet."""
        data = bytes(self._unsent)
        self._unsent.clear()
        return data

    def flush(self) -> None:
        """Write all that was put; ClosedError where the other side is gone."""
        if self.held:
            return
        data = self.unsent()
        try:
            if data:
                self.sock.sendall(data)
        except OSError as error:
            raise ClosedError from error


class Reader:
    """Walks a message's body."""

    def __init__(self, body: bytes) -> None:
        """Stand at its beginning."""
        self.body = body
        self.at = 0

    def string(self) -> str:
        """Read a string that ends with a zero byte."""
        end = self.body.find(b"\0", self.at)
        if end < 0:
            raise ClosedError  # rubbish; the other side speaks something else
        text = self.body[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return text

    def rest(self) -> bytes:
        """Return what is left."""
        return self.body[self.at :]


def c_string(text: str) -> bytes:
    """Return a string as messages carry it."""
    return text.encode() + b"\0"


def query(sql: str) -> Message:
    """Return a simple query."""
    return Message(b"Q", c_string(sql))


def parse(name: str, sql: str, types: bytes = b"\0\0") -> Message:
    """Return a Parse; `types` as the client sent them, their number first."""
    return Message(b"P", c_string(name) + c_string(sql) + types)


def bind(portal: str, statement: str, rest: bytes = b"\0\0\0\0\0\0") -> Message:
    """Return a Bind; `rest` is formats, values and result formats."""
    return Message(b"B", c_string(portal) + c_string(statement) + rest)


def text_values(*values: str) -> bytes:
    """Return the rest of a Bind with these values as text, results as text."""
    packed = b"".join(struct.pack("!i", len(v.encode())) + v.encode() for v in values)
    return struct.pack("!hh", 0, len(values)) + packed + b"\0\0"


def execute(portal: str, rows: int = 0) -> Message:
    """Return an Execute."""
    return Message(b"E", c_string(portal) + struct.pack("!i", rows))


SYNC = Message(b"S", b"")


def ready(status: str) -> Message:
    """Return ReadyForQuery."""
    return Message(b"Z", status.encode())


def complete(tag: str) -> Message:
    """Return CommandComplete."""
    return Message(b"C", c_string(tag))


def parameter_status(name: str, value: str) -> Message:
    """Return ParameterStatus."""
    return Message(b"S", c_string(name) + c_string(value))


def error(refusal: MaterializeError) -> Message:
    """Return an ErrorResponse with the fields that Materialize fills."""
    severity = "FATAL" if refusal.fatal else "ERROR"
    fields = {"S": severity, "V": severity, "C": refusal.code, "M": refusal.message,
              "D": refusal.detail, "H": refusal.hint,
              "P": "" if refusal.position is None else str(refusal.position)}  # fmt: skip
    return Message(b"E", _packed_fields(fields))


def _packed_fields(fields: dict[str, str]) -> bytes:
    return b"".join(k.encode() + c_string(v) for k, v in fields.items() if v) + b"\0"


def fields_of(message: Message) -> dict[str, str]:
    """Return the fields of an ErrorResponse or a NoticeResponse."""
    reader, fields = Reader(message.body), {}
    while reader.at < len(message.body) and message.body[reader.at] != 0:
        letter = chr(message.body[reader.at])
        reader.at += 1
        fields[letter] = reader.string()
    return fields


def without_context(message: Message) -> Message:
    """Return an error or notice without where in PostgreSQL's source or the lab's it came from."""
    fields = {k: v for k, v in fields_of(message).items() if k in "SVCMDHP"}
    if fields.get("S") == "LOG":
        fields["S"] = "NOTICE"
    return Message(message.kind, _packed_fields(fields))


def row_description(names: list[str]) -> Message:
    """Return a RowDescription of text columns."""
    parts = [struct.pack("!h", len(names))]
    parts += [c_string(n) + struct.pack("!ihihih", 0, 0, _TEXT_OID, -1, -1, 0) for n in names]
    return Message(b"T", b"".join(parts))


def data_row(values: list[Any]) -> Message:
    """Return a DataRow in text."""
    parts = [struct.pack("!h", len(values))]
    for value in values:
        if value is None:
            parts.append(struct.pack("!i", -1))
        else:
            text = ("t" if value else "f") if isinstance(value, bool) else str(value)
            parts.append(struct.pack("!i", len(text.encode())) + text.encode())
    return Message(b"D", b"".join(parts))
