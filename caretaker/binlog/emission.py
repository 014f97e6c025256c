"""Python source that reads one column of a row image and writes it as BSON.

What a column yields is a `Fragment`: fields that one `struct` call takes together with those of
its neighbours, lines of source, and the parts of its BSON value: bytes that never change, or
expressions. `decoders` puts the fragments of a table together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from caretaker.binlog import decimals, lookups
from caretaker.binlog.bson_writer import (
    BINARY,
    DATE,
    DECIMAL128,
    DOUBLE,
    INT32,
    INT64,
    MOST_DIGITS,
    NULL,
    TEXT,
    array,
    decimal128,
    element,
    text,
)
from caretaker.binlog.changes import JSON_NULL, ColumnPlan
from caretaker.binlog.charsets import Charsets, Transcoder, checked
from caretaker.binlog.columns import Column
from caretaker.binlog.columns import ColumnType as C
from caretaker.binlog.temporal import fraction_width, zero_timestamp
from caretaker.binlog.values import is_bytes, labels

#: Bytes that are always the same, or an expression that yields bytes.
Part: TypeAlias = bytes | str
#: Given the length of a value's bytes: what stands before its type.
Before: TypeAlias = Callable[[int], bytes]

#: Leads by what they are for: (column, BSON name, kind, the lead of length 0).
SharedLeads: TypeAlias = dict[tuple[int, bytes, str, bytes], lookups.Leads]

_i32 = struct.Struct("<i").pack
_TEXTS = {C.STRING, C.VARCHAR, C.VAR_STRING, C.BLOB, C.TINY_BLOB, C.MEDIUM_BLOB, C.LONG_BLOB}
_INT64_TOP = 127


@dataclass(slots=True)
class Names:
    """The globals of a generated function: each object under a name of its own."""

    objects: dict[str, object] = field(default_factory=dict)

    def of(self, thing: object) -> str:
        """Return the name under which the source finds `thing`."""
        name = f"g{len(self.objects)}"
        self.objects[name] = thing
        return name


@dataclass(slots=True)
class Written:
    """A value under a name: its parts, and their length as a number plus expressions."""

    parts: list[Part]
    fixed: int
    varying: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Fragment:
    """How a column is read.

    Attributes:
        fields: (struct format, variable) of a column of fixed width, in big-endian order.
        width: Its bytes; 0 for a column with its length before it.
        lines: Source that runs once the variables are there; not indented.
        write: (what stands before, BSON name) -> the value's parts.
    """

    fields: list[tuple[str, str]]
    width: int
    lines: list[str]
    write: Callable[[Before, bytes], Written]


class Emitter:
    """Fragments for the columns of one generated function."""

    def __init__(self, names: Names, charsets: Charsets, side: bytes, shared: SharedLeads) -> None:
        self._names = names
        self._charsets = charsets
        self._side = side
        self._shared = shared

    def fragment(self, plan: ColumnPlan, column: Column) -> Fragment:
        """Return how to read a column and write its value."""
        if plan.treat is None and column.known is None:
            made = self._integer(column) or self._other_fixed(column)
            if made is not None:
                return made
            if column.type in _TEXTS:
                return self._characters(plan, column)
        return self._any(plan)

    def _constant(
        self,
        fields: list[tuple[str, str]],
        code: bytes,
        parts: list[Part],
        size: int,
        lines: list[str] | None = None,
    ) -> Fragment:
        """A column whose values all have one type and one length."""

        def write(before: Before, name: bytes) -> Written:
            lead = before(size) + code + name + b"\0"
            return Written([lead, *parts], len(lead) + size)

        return Fragment(fields, _width(fields), lines or [], write)

    def _integer(self, column: Column) -> Fragment | None:
        x = f"x{column.index}"
        low = f"l{column.index}"
        match column.type, column.unsigned:
            case C.TINY, False:
                table = self._names.of(lookups.SIGNED_BYTE)
                return self._constant([("B", x)], INT32, [f"{table}[{x}]"], 4)
            case C.TINY, True:
                return self._constant([("s", x)], INT32, [x, bytes(3)], 4)
            case C.SHORT, False:
                table = self._names.of(lookups.HIGH_OF_TWO)
                return self._constant([("s", low), ("B", x)], INT32, [low, f"{table}[{x}]"], 4)
            case C.SHORT, True:
                return self._constant([("2s", x)], INT32, [x, bytes(2)], 4)
            case C.INT24, False:
                table = self._names.of(lookups.HIGH_OF_THREE)
                return self._constant([("2s", low), ("B", x)], INT32, [low, f"{table}[{x}]"], 4)
            case C.INT24, True:
                return self._constant([("3s", x)], INT32, [x, bytes(1)], 4)
            case C.LONG, False:
                return self._constant([("4s", x)], INT32, [x], 4)
            case C.LONG, True:
                return self._constant([("4s", x)], INT64, [x, bytes(4)], 8)
            case C.LONGLONG, False:
                return self._constant([("8s", x)], INT64, [x], 8)
            case C.LONGLONG, True:
                return self._unsigned64(x)
        return None

    def _unsigned64(self, x: str) -> Fragment:
        wide = self._names.of(lambda raw: decimal128(int.from_bytes(raw, "little"), 0))
        lines = [
            f"q{x} = {x}[7] > {_INT64_TOP}",
            f"if q{x}: {x} = {wide}({x})",
        ]
        return Fragment([("8s", x)], 8, lines, self._either(x, (INT64, 8), (DECIMAL128, 16)))

    def _either(
        self, x: str, usual: tuple[bytes, int], other: tuple[bytes, int]
    ) -> Callable[[Before, bytes], Written]:
        """Values of two types: which one is in q, a truth value."""

        def write(before: Before, name: bytes) -> Written:
            leads = [before(size) + code + name + b"\0" for code, size in (usual, other)]
            picked = self._names.of(tuple(leads))
            return Written([f"{picked}[q{x}]", x], len(leads[0]), [f"len({x})"])

        return write

    def _other_fixed(self, column: Column) -> Fragment | None:
        x = f"x{column.index}"
        match column.type:
            case C.DOUBLE:
                return self._constant([("8s", x)], DOUBLE, [x], 8)
            case C.FLOAT:
                single = self._names.of(struct.Struct("<f").unpack)
                double = self._names.of(struct.Struct("<d").pack)
                return self._constant([("4s", x)], DOUBLE, [f"{double}(*{single}({x}))"], 8)
            case C.YEAR:
                table = self._names.of(lookups.YEAR)
                return self._constant([("B", x)], INT32, [f"{table}[{x}]"], 4)
            case C.BIT if column.size <= 8:  # noqa: PLR2004
                table = self._names.of(lookups.BITS)
                return self._constant([("B", x)], INT64, [f"{table}[{x}]"], 8)
            case C.DATE | C.NEWDATE:
                return self._text_of([("3s", x)], [f"{self._names.of(lookups.DATES)}[{x}]"], 10)
            case C.DATETIME2:
                return self._datetime(column)
            case C.TIMESTAMP2 if column.size <= 3:  # noqa: PLR2004
                return self._timestamp(column)
            case C.NEWDECIMAL if column.size <= MOST_DIGITS:
                return self._decimal(column)
            case C.ENUM:
                return self._enum(column)
        return None

    def _text_of(
        self,
        fields: list[tuple[str, str]],
        parts: list[Part],
        size: int,
        lines: list[str] | None = None,
    ) -> Fragment:
        """Text of one length."""
        return self._constant(fields, TEXT, [_i32(size + 1), *parts, b"\0"], size + 5, lines)

    def _fraction(self, column: Column) -> tuple[list[tuple[str, str]], list[Part]]:
        """Fields and parts of the fraction of a second."""
        index, digits = column.index, column.size
        if not digits:
            return [], []
        if digits <= 4:  # noqa: PLR2004 - one or two bytes
            table = self._names.of(lookups.fractions(digits))
            return [("B" if digits <= 2 else "H", f"f{index}")], [f"{table}[f{index}]"]  # noqa: PLR2004
        first = self._names.of(lookups.POINT_AND_THREE_DIGITS)
        last = self._names.of(lookups.THREE_DIGITS)
        micros = f"f{index}"
        parts: list[Part] = [
            f"{first}[{micros} // 1000]",
            f"{last}[{micros} % 1000]" + ("[:2]" if digits == 5 else ""),  # noqa: PLR2004
        ]
        return [("B", f"h{index}"), ("H", micros)], parts

    def _datetime(self, column: Column) -> Fragment:
        index, digits = column.index, column.size
        days = self._names.of(lookups.DAYS)
        fields, parts = self._fraction(column)
        lines = [f"d{index}, c{index} = {days}[d{index}]"]
        if digits > 4:  # noqa: PLR2004
            lines.append(f"f{index} |= h{index} << 16")
        return self._text_of(
            [("3s", f"d{index}"), ("H", f"c_{index}"), *fields],
            [f"d{index}", f"c{index}[c_{index}]", *parts],
            19 + (digits + 1 if digits else 0),
            lines,
        )

    def _timestamp(self, column: Column) -> Fragment:
        x, digits = f"x{column.index}", column.size
        zero = self._names.of(text(zero_timestamp(digits))[1])
        pack = self._names.of(struct.Struct("<q").pack)
        fields = [("I", x)]
        millis = f"{x} * 1000"
        some = x
        if digits:
            fields.append(("B" if digits <= 2 else "H", f"f{x}"))  # noqa: PLR2004
            # Hundredths, or ten-thousandths; of both one digit more than the column may have.
            millis += f" + f{x} {('// 10 * 100', '* 10', '// 10')[digits - 1]}"
            some = f"{x} or f{x}"
        lines = [f"q{x} = not ({some})", f"{x} = {zero} if q{x} else {pack}({millis})"]
        if digits:
            most = 10 ** (2 * fraction_width(digits)) - 1
            lines.insert(0, f"if f{x} > {most}: raise ValueError('no fraction of a second')")
        size = len(text(zero_timestamp(digits))[1])
        return Fragment(fields, _width(fields), lines, self._either(x, (DATE, 8), (TEXT, size)))

    def _decimal(self, column: Column) -> Fragment:
        """All groups as one number: above zero less the sign bit's share, below zero inverted."""
        index, precision, scale = column.index, column.size, column.scale
        fields: list[tuple[str, str]] = []
        number = ""
        above: list[str] = []
        below: list[str] = []
        most, top = 0, 0
        for place, (size, digits) in enumerate(decimals.groups(precision, scale)):
            group = f"p{index}_{place}"
            value = group
            if size == 3:  # noqa: PLR2004 - struct knows 1, 2 and 4
                fields += [("B", f"{group}h"), ("H", group)]
                value = f"({group}h << 16 | {group})"
            else:
                fields.append(({1: "B", 2: "H", 4: "I"}[size], group))
            number = f"({number}) * {10**digits} + {value}" if number else value
            # More than so many digits hold; the sign bit is set above zero, below all are inverted.
            sign = 0 if place else 1 << 8 * size - 1
            above.append(f"{value} > {sign + 10**digits - 1}")
            below.append(f"{value} < {(1 << 8 * size) - sign - 10**digits}")
            most = most * 10**digits + (1 << 8 * size) - 1
            top = top * 10**digits if place else 1 << 8 * size - 1
        # Inverted, the sign bit is a 0 that becomes 1: take its share off, too.
        most -= top
        first_format, first = fields[0]
        bit = {"B": 1 << 7, "H": 1 << 15, "I": 1 << 31}[first_format]
        pack = self._names.of(struct.Struct("<QQ").pack)
        zero = decimal128(0, scale)
        high = int.from_bytes(zero[8:], "little")
        minus = high | 1 << 63
        n = f"n{index}"
        sane = f"if ({' or '.join(above)}) if {first} & {bit} else ({' or '.join(below)}):"
        lines = [f"{sane} raise ValueError('no DECIMAL')", f"{n} = {number}"]
        if precision <= 18:  # noqa: PLR2004 - fits the lower half
            lines.append(
                f"{n} = {pack}({n} - {top}, {high}) if {first} & {bit} else "
                f"{pack}({most} - {n}, {minus})"
            )
        else:
            low = (1 << 64) - 1
            lines += [
                f"if {first} & {bit}: {n} -= {top}; {n} = {pack}({n} & {low}, {high} | {n} >> 64)",
                f"else: {n} = {most} - {n}; {n} = {pack}({n} & {low}, {minus} | {n} >> 64)",
            ]
        return self._constant(fields, DECIMAL128, [n], 16, lines)

    def _enum(self, column: Column) -> Fragment:
        x = f"x{column.index}"
        told = (b"", *labels(column, self._charsets))
        table = self._names.of([text(label)[1] for label in told])
        fields = [("B", x)] if column.size == 1 else [("B", f"l{column.index}"), ("B", x)]
        index = x if column.size == 1 else f"l{column.index} | {x} << 8"
        leads = f"{x} = {table}[{index}]"

        def write(before: Before, name: bytes) -> Written:
            def write_lead(size: int) -> bytes:
                return before(size) + TEXT + name + b"\0"

            lead = self._leads(column.index, name, "enum", write_lead)
            fixed = len(before(0)) + len(name) + 2
            return Written([f"{lead}[len({x})]", x], fixed, [f"len({x})"])

        return Fragment(fields, column.size, [leads], write)

    def _characters(self, plan: ColumnPlan, column: Column) -> Fragment:
        i = column.index
        n, v = f"n{i}", f"v{i}"
        if not is_bytes(column):
            return Fragment([], 0, self._transcoding(n, v, column), self._text(i, n, v))
        if column.type is not C.STRING:
            return Fragment([], 0, [], self._binary(i, n, v))
        return self._any(plan)

    def _transcoding(self, n: str, v: str, column: Column) -> list[str]:
        collation = column.collation or 0
        transcode: Transcoder | None = self._charsets.transcoder(collation)
        name = self._names.of(transcode or checked)
        if transcode is None:
            return [f"if not {v}.isascii(): {name}({v})"]
        if self._charsets.ascii_inside(collation):
            return [f"if not {v}.isascii(): {v} = {name}({v}); {n} = len({v})"]
        return [f"{v} = {name}({v}); {n} = len({v})"]

    def _text(self, i: int, n: str, v: str) -> Callable[[Before, bytes], Written]:
        def write(before: Before, name: bytes) -> Written:
            def lead(length: int) -> bytes:
                return before(length + 5) + TEXT + name + b"\0" + _i32(length + 1)

            table = self._leads(i, name, "text", lead)
            return Written([f"{table}[{n}]", v, b"\0"], len(lead(0)) + 1, [n])

        return write

    def _binary(self, i: int, n: str, v: str) -> Callable[[Before, bytes], Written]:
        def write(before: Before, name: bytes) -> Written:
            def lead(length: int) -> bytes:
                return before(length + 5) + BINARY + name + b"\0" + _i32(length) + b"\0"

            table = self._leads(i, name, "binary", lead)
            return Written([f"{table}[{n}]", v], len(lead(0)), [n])

        return write

    def _any(self, plan: ColumnPlan) -> Fragment:
        """Whatever the plain function makes of the bytes: any type, any length."""
        i = plan.index
        n, v, t = f"n{i}", f"v{i}", f"t{i}"
        lines = [f"{t}, {v} = {self._names.of(plan.to_bson)}({v})"]
        if plan.may_be_json_null:
            # Behind the null, which takes no bytes, stands what says that it is JSON's.
            mark = self._names.of(json_null_mark(self._side))
            lines.append(f"if {t} == {NULL!r}: {v} = {mark}")
        lines.append(f"{n} = len({v})")

        def write(before: Before, name: bytes) -> Written:
            parts: list[Part] = [t, name + b"\0", v]
            if before(0):
                parts.insert(0, f"{self._leads(i, name, 'any', before)}[{n}]")
            return Written(parts, len(before(0)) + 1 + len(name) + 1, [n])

        fields = [(f"{plan.codec.width}s", v)] if plan.codec.width else []
        return Fragment(fields, plan.codec.width, lines, write)

    def _leads(self, index: int, name: bytes, kind: str, write: Callable[[int], bytes]) -> str:
        """Return the name of a column's leads, the same in all decoders of a table."""
        key = (index, name, kind, write(0))
        if key not in self._shared:
            self._shared[key] = lookups.Leads(write)
        return self._names.of(self._shared[key])


def json_null_mark(side: bytes) -> bytes:
    """Return the element that says a side's null is the JSON literal."""
    return element(JSON_NULL, array([text(side)]))


def _width(fields: list[tuple[str, str]]) -> int:
    return struct.calcsize(">" + "".join(code for code, _ in fields))
