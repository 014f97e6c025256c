"""Source of the generated functions: what `emission` makes of columns, put together to rows."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from caretaker.binlog.bson_writer import (
    DOCUMENT,
    DOUBLE,
    INT32,
    INT64,
    NULL,
    NULL_VALUE,
    TEXT,
    document,
    element,
)
from caretaker.binlog.changes import ColumnPlan, TablePlan, changed_column
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.columns import Column, ColumnType
from caretaker.binlog.document import Op
from caretaker.binlog.emission import (
    Emitter,
    Fragment,
    Names,
    Part,
    SharedLeads,
    Written,
)
from caretaker.binlog.images import bits
from caretaker.binlog.values import is_bytes

_i32 = struct.Struct("<i").pack

_SIGNATURE = "def decode(b, o, end, row, seq, id_head, head, tail, add, mark):"
_SEQ = b"\x12seq\0"
_CHG = b"\x03chg\0"
#: Around the elements of a document: its length and its end.
_DOCUMENT_BYTES = 5
_LENGTH = 4
#: Of `f` or `t` in `chg`: type, name, NUL.
_SIDE_BYTES = 3
_SEGMENT_FIXED = 10
_SEGMENT_VARYING = 4

_RUNTIME = {
    "J": b"".join,
    "I": _i32,
    "R": struct.Struct(">I").pack,
    "Q": struct.Struct("<q").pack,
    "F": int.from_bytes,
}


@dataclass(slots=True)
class _Image:
    """Where the walk through an image is: a variable and a number of bytes behind it."""

    base: str
    offset: int

    def at(self, extra: int = 0) -> str:
        offset = self.offset + extra
        return f"{self.base} + {offset}" if offset else self.base


@dataclass(slots=True)
class _Source:
    """Lines of a function with their indentation."""

    lines: list[str] = field(default_factory=list)

    def add(self, depth: int, *lines: str) -> None:
        self.lines += [" " * depth + line for line in lines]

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def _take_fields(names: Names, buffer: str, at: str, fields: Sequence[tuple[str, str]]) -> str:
    """Return the line that reads `fields` from `at` on."""
    if len(fields) == 1:
        code, name = fields[0]
        if code == "B":
            return f"{name} = {buffer}[{at}]"
        if code.endswith("s"):
            return f"{name} = {buffer}[{at}:{at} + {int(code[:-1] or 1)}]"
    unpack = names.of(struct.Struct(">" + "".join(code for code, _ in fields)).unpack_from)
    taken = ", ".join(name for _, name in fields if name)
    return f"{taken}, = {unpack}({buffer}, {at})" if taken else f"{unpack}({buffer}, {at})"


def _prefixed_end(at: str, prefix: int) -> str:
    """Return the end of a value whose length of `prefix` bytes is at `at`."""
    return f"{at} + {prefix} + {_length_at(at, prefix)}"


def _length_at(at: str, prefix: int) -> str:
    if prefix == 1:
        return f"b[{at}]"
    if prefix == 2:  # noqa: PLR2004
        return f"(b[{at}] | b[{at} + 1] << 8)"
    return f"F(b[{at}:{at} + {prefix}], 'little')"


def walker_source(plan: TablePlan, nulls: bytes) -> tuple[str, dict[str, object]]:
    """Return the function that finds the end of an image behind its bitmap."""
    source = _Source(["def decode(b, o):"])
    image = _Image("o", 0)
    for column, null in zip(plan.columns, bits(nulls, len(plan.columns)), strict=True):
        if not null:
            _step(source, 1, image, column, f"e{column.index}")
    source.add(1, f"return {image.at()}")
    return source.text(), dict(_RUNTIME)


def _step(source: _Source, depth: int, image: _Image, column: ColumnPlan, end: str) -> str:
    """Go over one column; return the slice of its value."""
    if column.codec.width:
        start = image.at()
        image.offset += column.codec.width
        return f"b[{start}:{image.at()}]"
    at = image.at()
    value = image.at(column.codec.prefix)
    source.add(depth, f"{end} = {_prefixed_end(at, column.codec.prefix)}")
    image.base, image.offset = end, 0
    return f"b[{value}:{end}]"


class _DocumentSource:
    """What inserts, deletes and updates have in common: all of a document but `chg`'s columns."""

    def __init__(
        self, plan: TablePlan, charsets: Charsets, meta: bytes, shared: SharedLeads, op: Op
    ) -> None:
        self.plan = plan
        self.meta = meta
        self.names = Names(dict(_RUNTIME))
        self.side = b"f" if op is Op.DELETE else b"t"
        self.emitter = Emitter(self.names, charsets, self.side, shared)

    def column(self, plan: ColumnPlan) -> Column:
        return self.plan.table.columns[plan.index]

    def key(self, fragments: dict[int, Fragment]) -> Written:
        """Return `pk` of the key columns' fragments; one that is missing is NULL."""
        key = self.plan.table.key
        if not key:
            return _constant(element(b"pk", NULL_VALUE))
        if len(key) == 1:
            return self._key_part(key[0], b"pk", fragments)
        parts: list[Part] = []
        fixed, varying = 0, []
        for index in key:
            name = self.plan.columns[index].name.encode()
            part = self._key_part(index, name, fragments)
            parts += part.parts
            fixed += part.fixed
            varying += part.varying
        size = _sum(fixed + _DOCUMENT_BYTES, varying)
        length: Part = f"I({size})" if varying else _i32(fixed + _DOCUMENT_BYTES)
        lead = DOCUMENT + b"pk\0"
        return Written([lead, length, *parts, b"\0"], fixed + len(lead) + _DOCUMENT_BYTES, varying)

    def _key_part(self, index: int, name: bytes, fragments: dict[int, Fragment]) -> Written:
        if index not in fragments:
            return _constant(element(name, NULL_VALUE))
        return fragments[index].write(lambda _: b"", name)

    def document(self, key: Written, columns: Written) -> tuple[list[str], str]:
        """Return the lines before the loop, and the expression of a whole document."""
        meta_fixed = len(self.meta) + key.fixed + _DOCUMENT_BYTES
        meta_length: Part = (
            f"I({_sum(meta_fixed, key.varying)})" if key.varying else _i32(meta_fixed)
        )
        chg_fixed = columns.fixed + _DOCUMENT_BYTES
        chg_length: Part = (
            f"I({_sum(chg_fixed, columns.varying)})" if columns.varying else _i32(chg_fixed)
        )
        parts = _merged(
            [
                *(meta_length, self.meta, *key.parts, b"\0"),
                *(_SEQ, "Q(seq)", _CHG, chg_length, *columns.parts, b"\0"),
            ]
        )
        first = parts.pop(0) if isinstance(parts[0], bytes) else b""
        last = parts.pop() if isinstance(parts[-1], bytes) else b""
        fixed = meta_fixed + len(_SEQ) + 8 + len(_CHG) + chg_fixed
        # the document's own length, the row number
        fixed += _LENGTH + 4
        total = _sum("k", [*key.varying, *columns.varying])
        prologue = [
            f"h = head + {first!r}",
            f"t = {last!r} + tail",
            f"k = {fixed} + len(id_head) + len(head) + len(tail)",
        ]
        items = ", ".join(part if isinstance(part, str) else repr(part) for part in parts)
        return prologue, f"J((I({total}), id_head, R(row), h, {items}{', ' if items else ''}t))"


def _constant(written: bytes) -> Written:
    return Written([written], len(written))


def _sum(first: int | str, varying: Iterable[str]) -> str:
    return " + ".join((str(first), *varying))


def _merged(parts: Iterable[Part]) -> list[Part]:
    out: list[Part] = []
    for part in parts:
        if isinstance(part, bytes) and out and isinstance(out[-1], bytes):
            out[-1] += part
        elif part != b"":
            out.append(part)
    return out


class WholeRowSource(_DocumentSource):
    """Inserts and deletes: one image, every column written."""

    def write(self, nulls: bytes) -> tuple[str, dict[str, object]]:
        """Return the function for rows with this bitmap, and its globals."""
        columns = self.plan.columns
        null = bits(nulls, len(columns))
        fragments = {
            column.index: self.emitter.fragment(column, self.column(column))
            for column in columns
            if not null[column.index]
        }
        body = self._reading(fragments, len(nulls))
        written = _joined(
            self._column(column, fragments.get(column.index)) for column in columns if column.kept
        )
        prologue, expression = self.document(self.key(fragments), written)
        source = _Source([_SIGNATURE])
        source.add(1, *prologue)
        source.add(1, f"while o < end and b[o:o + {len(nulls)}] == {nulls!r}:")
        source.add(2, "mark(o)", *body)
        source.add(2, "if o > end: raise IndexError", f"add({expression})")
        source.add(2, "row += 1; seq += 1")
        source.add(1, "return o, row, seq")
        return source.text(), self.names.objects

    def _reading(self, fragments: dict[int, Fragment], offset: int) -> list[str]:
        """Return the lines that read all columns, and leave `o` behind the image."""
        lines: list[str] = []
        fields: list[tuple[str, str]] = []
        later: list[str] = []
        start = offset
        for column in self.plan.columns:
            fragment = fragments.get(column.index)
            if fragment is None:
                continue
            if fragment.width:
                if column.kept:
                    fields += fragment.fields
                    later += fragment.lines
                else:
                    fields.append((f"{fragment.width}x", ""))
                offset += fragment.width
                continue
            lines += self._run(fields, start) + later
            fields, later = [], []
            lines += self._varying(column, fragment, offset)
            start = offset = 0
        lines += self._run(fields, start) + later
        if offset:
            lines.append(f"o += {offset}")
        return lines

    def _run(self, fields: list[tuple[str, str]], start: int) -> list[str]:
        if not any(name for _, name in fields):
            return []
        return [_take_fields(self.names, "b", f"o + {start}" if start else "o", fields)]

    def _varying(self, column: ColumnPlan, fragment: Fragment, offset: int) -> list[str]:
        n, v, prefix = f"n{column.index}", f"v{column.index}", column.codec.prefix
        at = f"o + {offset}" if offset else "o"
        lines = [
            f"{n} = {_length_at(at, prefix)}; s = o + {offset + prefix}; o = s + {n}",
        ]
        if column.kept:
            lines += [f"{v} = b[s:o]", *fragment.lines]
        return lines

    def _column(self, column: ColumnPlan, fragment: Fragment | None) -> Written:
        if fragment is None:
            return _constant(column.head + document([element(self.side, NULL_VALUE)]))

        def before(size: int) -> bytes:
            return column.head + _i32(size + _SIDE_BYTES + _DOCUMENT_BYTES)

        written = fragment.write(before, self.side)
        return Written([*written.parts, b"\0"], written.fixed + 1, written.varying)


def _joined(columns: Iterable[Written]) -> Written:
    whole = Written([], 0)
    for column in columns:
        whole.parts += column.parts
        whole.fixed += column.fixed
        whole.varying += column.varying
    return whole


@dataclass(slots=True)
class _Segment:
    """Neighbouring columns that are compared as one, or one that is NULL in an image."""

    columns: list[ColumnPlan]
    null: bool = False

    @property
    def varying(self) -> bool:
        return not self.columns[0].codec.width


class UpdateSource(_DocumentSource):
    """Updates: two images, only the columns that differ are read and written."""

    def __init__(
        self, plan: TablePlan, charsets: Charsets, meta: bytes, shared: SharedLeads
    ) -> None:
        super().__init__(plan, charsets, meta, shared, Op.UPDATE)
        self._charsets = charsets
        self._slices: dict[int, str] = {}
        self._source = _Source([_SIGNATURE])

    def write(self, nulls: bytes, after_nulls: bytes) -> tuple[str, dict[str, object]]:
        """Return the function for rows with these two bitmaps, and its globals."""
        columns = self.plan.columns
        before_null = bits(nulls, len(columns))
        after_null = bits(after_nulls, len(columns))
        bitmap = len(nulls)
        source = self._source
        walk = _Source()
        image = _Image("o", bitmap)
        starts: dict[int, str] = {}
        ends: dict[int, str] = {}
        for column in columns:
            if not before_null[column.index]:
                starts[column.index] = image.at()
                self._slices[column.index] = _step(walk, 2, image, column, f"e{column.index}")
                ends[column.index] = image.at()
        fragments = self._key_fragments(before_null)
        columns_written = Written(["chg"], 0, ["len(chg)"])
        prologue, expression = self.document(self.key(fragments), columns_written)
        source.add(1, *prologue)
        source.add(1, f"while o < end and b[o:o + {bitmap}] == {nulls!r}:")
        source.lines += walk.lines
        source.add(2, f"a = {image.at()}")
        # The bitmap behind the last image would be empty, too, in a table without columns.
        source.add(2, f"if b[a:a + {bitmap}] != {after_nulls!r}: break")
        source.add(2, "mark(o); parts = []; put = parts.extend")
        after = _Image("a", bitmap)
        for segment in _segments(columns, before_null, after_null):
            if segment.null:
                self._one_sided(segment.columns[0], before_null, after_null, after)
            elif segment.varying:
                self._varying(segment, after, starts, ends)
            else:
                self._fixed(segment, after, starts)
        source.add(2, f"p = {after.at()}", "if p > end: raise IndexError")
        source.add(2, *self._key_lines(fragments))
        source.add(2, "chg = J(parts)", f"add({expression})", "o = p", "row += 1; seq += 1")
        source.add(1, "return o, row, seq")
        return source.text(), self.names.objects

    def _key_fragments(self, before_null: list[bool]) -> dict[int, Fragment]:
        return {
            index: self.emitter.fragment(self.plan.columns[index], self.plan.table.columns[index])
            for index in self.plan.table.key or ()
            if not before_null[index]
        }

    def _key_lines(self, fragments: dict[int, Fragment]) -> list[str]:
        lines = []
        for index, fragment in fragments.items():
            if fragment.width:
                lines += [
                    f"v = {self._slices[index]}",
                    _take_fields(self.names, "v", "0", fragment.fields),
                ]
            else:
                lines.append(f"v{index} = {self._slices[index]}; n{index} = len(v{index})")
            lines += fragment.lines
        return lines

    def _one_sided(
        self,
        column: ColumnPlan,
        before_null: list[bool],
        after_null: list[bool],
        after: _Image,
    ) -> None:
        source = self._source
        if before_null[column.index] and after_null[column.index]:
            return
        if after_null[column.index]:
            if column.kept:
                source.add(2, f"x = {self._slices[column.index]}")
                source.add(2, *self._change(column, old=True, new=False))
            return
        value = _step(source, 2, after, column, "f")
        if column.kept:
            source.add(2, f"y = {value}")
            source.add(2, *self._change(column, old=False, new=True))
        if after.base == "f":
            source.add(2, "a = f")
            after.base = "a"

    def _varying(
        self, segment: _Segment, after: _Image, starts: dict[int, str], ends: dict[int, str]
    ) -> None:
        source = self._source
        first, last = segment.columns[0].index, segment.columns[-1].index
        if after.offset:
            source.add(2, f"a += {after.offset}")
            after.offset = 0
        source.add(2, f"s = {starts[first]}; w = a + {ends[last]} - s")
        source.add(2, f"if b[s:{ends[last]}] == b[a:w]: a = w", "else:")
        for column in segment.columns:
            value = _step(source, 3, after, column, "f")
            source.add(3, f"y = {value}; a = f")
            after.base = "a"
            if column.kept:
                source.add(3, f"x = {self._slices[column.index]}", "if x != y:")
                source.add(4, *self._change(column, old=True, new=True))

    def _fixed(self, segment: _Segment, after: _Image, starts: dict[int, str]) -> None:
        source = self._source
        columns = segment.columns
        width = sum(column.codec.width for column in columns)
        before = f"b[{starts[columns[0].index]}:{starts[columns[0].index]} + {width}]"
        source.add(2, f"x = {before}; y = b[{after.at()}:{after.at(width)}]", "if x != y:")
        after.offset += width
        kept = [column for column in columns if column.kept]
        if len(columns) == 1:
            source.add(3, *(self._change(columns[0], old=True, new=True) if kept else ["pass"]))
            return
        fields = [(f"{c.codec.width}s", c) for c in columns]
        unpack = self.names.of(struct.Struct("".join(code for code, _ in fields)).unpack)
        olds = ", ".join(f"x{column.index}" for column in columns)
        news = ", ".join(f"y{column.index}" for column in columns)
        # Short here is short below, too, where the image's end is looked at.
        source.add(3, f"{olds} = {unpack}(x); {news} = {unpack}(y)")
        for column in kept:
            source.add(3, f"if x{column.index} != y{column.index}:")
            source.add(4, f"x = x{column.index}; y = y{column.index}")
            source.add(4, *self._change(column, old=True, new=True))

    def _change(self, column: ColumnPlan, *, old: bool, new: bool) -> list[str]:
        """Return the lines that write a column of which x is the old value and y the new one."""
        if column.may_be_json_null:
            change = self.names.of(_JsonChange(column))
            return [f"parts.append({change}({'x' if old else None}, {'y' if new else None}))"]
        if old and new:
            lines = self._plain_change(column)
            if lines:
                return lines
        size = _DOCUMENT_BYTES + 2 * _SIDE_BYTES
        convert = self.names.of(column.to_bson)
        lines, lengths = [], []
        sides: list[str] = []
        for there, name, raw, code, value in (
            (old, b"f\0", "x", "c", "v"),
            (new, b"t\0", "y", "d", "w"),
        ):
            if there:
                lines.append(f"{code}, {value} = {convert}({raw})")
                lengths.append(f"len({value})")
                sides += [code, repr(name), value]
            else:
                sides.append(repr(NULL + name))
        total = f"I({_sum(size, lengths)})"
        lines.append(f"put(({column.head!r}, {total}, {', '.join(sides)}, {_END!r}))")
        return lines

    def _plain_change(self, column: ColumnPlan) -> list[str]:
        """Lines for the types whose bytes BSON has as they are."""
        described = self.column(column)
        if column.treat is not None or described.known is not None:
            return []
        passed = _PASSED.get((described.type, described.unsigned))
        if passed is not None:
            code, pad = passed
            size = _DOCUMENT_BYTES + 2 * (_SIDE_BYTES + column.codec.width + len(pad))
            lead = column.head + _i32(size) + code + b"f\0"
            return [f"put(({lead!r}, x, {pad + code + b't' + bytes(1)!r}, y, {pad + _END!r}))"]
        if described.type in _TEXTS and not is_bytes(described):
            if self._charsets.transcoder(described.collation or 0) is not None:
                return []
            size = _DOCUMENT_BYTES + 2 * (_SIDE_BYTES + _LENGTH + 1)
            check = self.names.of(_utf8)
            first, middle, last = TEXT + b"f\0", b"\0" + TEXT + b"t\0", b"\0" + _END
            length = f"I({size} + v + w)"
            texts = f"{first!r}, I(v + 1), x, {middle!r}, I(w + 1), y"
            return [
                "v = len(x); w = len(y)",
                f"if not (x.isascii() and y.isascii()): {check}(x); {check}(y)",
                f"put(({column.head!r}, {length}, {texts}, {last!r}))",
            ]
        return []


#: The end of a column's document in `chg`.
_END = b"\0"
_PASSED = {
    (ColumnType.LONG, False): (INT32, b""),
    (ColumnType.LONG, True): (INT64, bytes(4)),
    (ColumnType.LONGLONG, False): (INT64, b""),
    (ColumnType.DOUBLE, False): (DOUBLE, b""),
    (ColumnType.DOUBLE, True): (DOUBLE, b""),
}
_TEXTS = {
    *(ColumnType.STRING, ColumnType.VARCHAR, ColumnType.VAR_STRING, ColumnType.BLOB),
    *(ColumnType.TINY_BLOB, ColumnType.MEDIUM_BLOB, ColumnType.LONG_BLOB),
}


def _utf8(raw: bytes) -> None:
    raw.decode("utf-8")


class _JsonChange:
    """A changed JSON column, which may be NULL, or the JSON literal null, on either side."""

    def __init__(self, column: ColumnPlan) -> None:
        self._column = column

    def __call__(self, old: bytes | None, new: bytes | None) -> bytes:
        """Return the column's element; None is NULL."""
        return changed_column(self._column, old, new)


def _segments(
    columns: Sequence[ColumnPlan], before_null: list[bool], after_null: list[bool]
) -> list[_Segment]:
    segments: list[_Segment] = []
    for column in columns:
        if before_null[column.index] or after_null[column.index]:
            segments.append(_Segment([column], null=True))
            continue
        last = segments[-1] if segments else None
        varying = not column.codec.width
        most = _SEGMENT_VARYING if varying else _SEGMENT_FIXED
        if last is None or last.null or last.varying != varying or len(last.columns) >= most:
            segments.append(_Segment([column]))
        else:
            last.columns.append(column)
    return segments
