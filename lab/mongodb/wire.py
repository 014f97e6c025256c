"""Messages between a driver and a MongoDB: OP_MSG, and OP_QUERY for a driver's first hello."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

MAX_MESSAGE_BYTES = 48_000_000
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024

_HEADER = struct.Struct("<iiii")
_SECTION = struct.Struct("<Bi")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_CHECKSUM, _MORE_TO_COME = 1, 2
_AWAIT_CAPABLE = 8


class ProtocolViolationError(Exception):
    """Bytes that are no message; the connection is of no further use."""


@dataclass(frozen=True)
class Request:
    """A command as it came.

    Attributes:
        raw: The command's document.
        sequence: BSON documents in a row, of a command whose list came beside its document.
        wants_reply: False for an unacknowledged write.
        legacy: Came as OP_QUERY, and is answered as such.

    """

    id: int
    raw: bytes
    sequence: bytes | None = None
    wants_reply: bool = True
    legacy: bool = False

    @cached_property
    def body(self) -> RawBSONDocument:
        """The command's document, decoded as far as one looks into it."""
        return RawBSONDocument(self.raw)

    @cached_property
    def name(self) -> str:
        """The command's name, which is its first key."""
        return next(iter(self.body), "")

    @property
    def db(self) -> str:
        """The database it is for."""
        return str(self.body["$db"])

    @property
    def collection(self) -> str:
        """The collection it is for, where it is for one."""
        return str(self.body[self.name])

    @cached_property
    def session(self) -> bytes | None:
        """The session's id."""
        return bytes(self.body["lsid"]["id"]) if "lsid" in self.body else None

    @cached_property
    def number(self) -> int | None:
        """The number of its transaction, or of the write that may be sent again."""
        found = self.body.get("txnNumber")
        return None if found is None else int(found)

    @property
    def in_transaction(self) -> bool:
        """Whether it is part of a transaction, its end included."""
        return self.number is not None and self.body.get("autocommit") is False

    @property
    def starts_transaction(self) -> bool:
        """Whether it is the first of one."""
        return bool(self.body.get("startTransaction"))

    def documents(self) -> list[dict[str, Any]]:
        """Return the documents of an insert."""
        if self.sequence is not None:
            return bson.decode_all(self.sequence)
        found: list[dict[str, Any]] = bson.decode(self.raw).get("documents", [])
        return found


def read(receive: Callable[[int], bytes]) -> Request:
    """Read one request; `receive` returns exactly so many bytes, or raises OSError."""
    size, number, _, opcode = _HEADER.unpack(receive(_HEADER.size))
    if not _HEADER.size < size <= MAX_MESSAGE_BYTES:
        raise ProtocolViolationError(f"a message of {size} bytes")
    body = receive(size - _HEADER.size)
    try:
        if opcode == _OP_QUERY:
            # flags, "db.$cmd\0", numberToSkip, numberToReturn, document
            start = body.index(b"\0", 4) + 1 + 8
            return Request(number, _document(body, start), legacy=True)
        if opcode == _OP_MSG:
            return _message(number, body)
    except (struct.error, ValueError, IndexError) as error:
        raise ProtocolViolationError(f"a malformed message: {error}") from error
    raise ProtocolViolationError(f"opcode {opcode}")


def reply(request: Request, document: bytes) -> bytes:
    """Return the bytes that answer a request."""
    if request.legacy:
        head = struct.pack("<iqii", _AWAIT_CAPABLE, 0, 0, 1)
        size = _HEADER.size + len(head) + len(document)
        return _HEADER.pack(size, 0, request.id, _OP_REPLY) + head + document
    size = _HEADER.size + 5 + len(document)
    return _HEADER.pack(size, 0, request.id, _OP_MSG) + b"\0\0\0\0\0" + document


def _message(number: int, body: bytes) -> Request:
    flags = int.from_bytes(body[:4], "little")
    if flags & 0xFFFF & ~(_CHECKSUM | _MORE_TO_COME):
        # Of the low half a server must know every bit.
        raise ValueError(f"flags {flags:#x}")
    end = len(body) - (4 if flags & _CHECKSUM else 0)
    at, command, sequence = 4, None, None
    while at < end:
        kind, length = _SECTION.unpack_from(body, at)
        part = _document(body, at + 1)
        if kind == 0:
            command = part
        elif kind == 1:
            sequence = part[part.index(b"\0", 4) + 1 :]
        else:
            raise ValueError(f"a section of kind {kind}")
        at += 1 + length
    if command is None:
        raise ValueError("no command")
    return Request(number, command, sequence, wants_reply=not flags & _MORE_TO_COME)


def _document(body: bytes, start: int) -> bytes:
    """Return what begins at `start` with its own length."""
    length = int.from_bytes(body[start : start + 4], "little", signed=True)
    if length < 5 or start + length > len(body):  # noqa: PLR2004 - an empty document
        raise ValueError(f"{length} bytes at {start} of {len(body)}")
    return body[start : start + length]
