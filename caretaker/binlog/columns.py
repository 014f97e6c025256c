"""What a table map says of one column."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

#: Collation 63: bytes without a character set.
BINARY_COLLATION = 63


class ColumnType(IntEnum):
    """The protocol's numbers."""

    DECIMAL = 0
    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    NULL = 6
    TIMESTAMP = 7
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    TIME = 11
    DATETIME = 12
    YEAR = 13
    NEWDATE = 14
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    TYPED_ARRAY = 20
    BLOB_COMPRESSED = 140
    VARCHAR_COMPRESSED = 141
    VECTOR = 242
    JSON = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


class KnownType(StrEnum):
    """MariaDB types that a table map cannot tell from BINARY(n); information_schema can."""

    UUID = "uuid"
    INET4 = "inet4"
    INET6 = "inet6"


#: What they take as BINARY(n).
KNOWN_WIDTHS = {KnownType.UUID: 16, KnownType.INET4: 4, KnownType.INET6: 16}


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the table map describes it.

    Attributes:
        index: Its place in the row images, from 0.
        name: Empty where the source does not log names.
        size: Of text and bytes: the most bytes a value has. Of BLOB and its kinds: bytes of the
            length before a value. Of ENUM, SET: bytes of a value. Of BIT: bits.
            Of DATETIME, TIME, TIMESTAMP: digits after the second. Of DECIMAL: its precision.
        scale: Of DECIMAL.
        collation: Id of the collation, which tells the character set; 63 for bytes.
        labels: Of ENUM and SET, in the column's character set, in order.
        known: What information_schema says where the table map cannot.
    """

    index: int
    name: str
    type: ColumnType
    size: int = 0
    scale: int = 0
    unsigned: bool = False
    collation: int | None = None
    labels: tuple[bytes, ...] | None = None
    visible: bool = True
    nullable: bool = True
    geometry: int | None = None
    dimensions: int | None = None
    known: KnownType | None = None

    def may_be(self, kind: KnownType) -> bool:
        """Whether the table map leaves it open that the column is of this type."""
        is_bytes = self.collation in {None, BINARY_COLLATION}
        return self.type is ColumnType.STRING and self.size == KNOWN_WIDTHS[kind] and is_bytes
