# ruff: noqa: S608 - the tables are our own
"""Every line of the table of types, with its extremes: what is written, and what the trail has.

The expected values are written by hand from the table, never computed by the code under test.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import Binary, Decimal128, Int64
from bson.binary import BinaryVectorDtype

from caretaker.binlog.model import Flavor

MYSQL, MARIADB = Flavor.MYSQL, Flavor.MARIADB


class Int32(int):
    """An int that must be int32 in BSON; Int64 is bson's."""


@dataclass(frozen=True)
class Case:
    """A column's type and some of its values.

    Attributes:
        name: Of the case and its table.
        definition: Of the column, behind its name.
        values: (SQL expression, what BSON has) of each row.
        flavors: The servers that know the type.
    """

    name: str
    definition: str
    values: tuple[tuple[str, Any], ...]
    flavors: tuple[Flavor, ...] = (MYSQL, MARIADB)


def _integers(name: str, definition: str, kind: type, *values: int) -> Case:
    return Case(name, definition, tuple((str(value), kind(value)) for value in values))


def _texts(name: str, definition: str, *values: str, **kwargs: Any) -> Case:
    return Case(name, definition, tuple((f"'{value}'", value) for value in values), **kwargs)


def _hex(raw: bytes) -> str:
    return f"x'{raw.hex()}'"


def _vector(*floats: float) -> Binary:
    return Binary.from_vector(list(floats), dtype=BinaryVectorDtype.FLOAT32)


def _point(srid: int) -> bytes:
    return srid.to_bytes(4, "little") + bytes.fromhex("0101000000000000000000f03f0000000000000040")


def _nested(levels: int) -> list[Any]:
    return [_nested(levels - 1)] if levels > 1 else []


_U64 = 2**64 - 1
_LATIN1 = bytes(range(0x20, 0x100))
_LATIN1_TEXT = "".join(
    chr(code) if code in {0x81, 0x8D, 0x8F, 0x90, 0x9D} else bytes((code,)).decode("cp1252")
    for code in _LATIN1
)
_NUMBERS_30 = "123456789012345678901234567890.123456789012345678901234567890"


CASES: tuple[Case, ...] = (
    _integers("tiny", "TINYINT", Int32, -128, -1, 0, 1, 127),
    _integers("tiny_u", "TINYINT UNSIGNED", Int32, 0, 127, 128, 255),
    _integers("small", "SMALLINT", Int32, -32768, -1, 0, 255, 256, 32767),
    _integers("small_u", "SMALLINT UNSIGNED", Int32, 0, 32768, 65535),
    _integers("medium", "MEDIUMINT", Int32, -8388608, -1, 0, 65536, 8388607),
    _integers("medium_u", "MEDIUMINT UNSIGNED", Int32, 0, 8388608, 16777215),
    _integers("whole", "INT", Int32, -2147483648, -1, 0, 2147483647),
    _integers("whole_u", "INT UNSIGNED", Int64, 0, 2147483648, 4294967295),
    _integers("big", "BIGINT", Int64, -(2**63), -1, 0, 1, 2**63 - 1),
    Case(
        "big_u",
        "BIGINT UNSIGNED",
        (
            ("0", Int64(0)),
            (str(2**63 - 1), Int64(2**63 - 1)),
            (str(2**63), Decimal128(str(2**63))),
            (str(_U64), Decimal128(str(_U64))),
        ),
    ),
    Case("bool", "BOOL", (("TRUE", Int32(1)), ("FALSE", Int32(0)))),
    Case(
        "single",
        "FLOAT",
        (
            ("0", 0.0),
            ("-1.5", -1.5),
            ("0.1", 0.10000000149011612),
            ("3.4e38", 3.3999999521443642e38),
        ),
    ),
    Case(
        "double_",
        "DOUBLE",
        (("0.1", 0.1), ("-1.7976931348623157e308", -1.7976931348623157e308), ("5e-324", 5e-324)),
    ),
    Case(
        "decimal_12_2",
        "DECIMAL(12,2)",
        tuple(
            (value, Decimal128(value))
            for value in (
                "0.00",
                "0.01",
                "-0.01",
                "1.00",
                "9999999999.99",
                "-9999999999.99",
                "-1000000000.10",
            )
        ),
    ),
    Case(
        "decimal_18_9",
        "DECIMAL(18,9)",
        tuple((v, Decimal128(v)) for v in ("999999999.999999999", "-0.000000001", "1.000000000")),
    ),
    Case(
        "decimal_20_0",
        "DECIMAL(20,0)",
        tuple((v, Decimal128(v)) for v in ("99999999999999999999", "-99999999999999999999", "0")),
    ),
    Case(
        "decimal_34_30",
        "DECIMAL(34,30)",
        tuple(
            (v, Decimal128(v))
            for v in ("9999." + "9" * 30, "-9999." + "9" * 30, "0." + "0" * 29 + "1")
        ),
    ),
    Case(
        "decimal_1_1",
        "DECIMAL(1,1)",
        tuple((v, Decimal128(v)) for v in ("0.9", "-0.9", "0.0")),
    ),
    Case(
        "decimal_6_3",
        "DECIMAL(6,3)",
        tuple((v, Decimal128(v)) for v in ("999.999", "-999.999", "-1.001", "0.010")),
    ),
    Case(
        "decimal_23_11",
        "DECIMAL(23,11)",
        tuple(
            (v, Decimal128(v))
            for v in ("999999999999.99999999999", "-999999999999.99999999999", "-1.00000000001")
        ),
    ),
    Case(
        "decimal_65_30",
        "DECIMAL(65,30)",
        (
            (_NUMBERS_30, _NUMBERS_30),
            (f"-{_NUMBERS_30}", f"-{_NUMBERS_30}"),
            ("9" * 35 + "." + "9" * 30, "9" * 35 + "." + "9" * 30),
            ("0", "0." + "0" * 30),
            ("-0.5", "-0.5" + "0" * 29),
        ),
    ),
    Case("decimal_35_0", "DECIMAL(35,0)", (("12", "12"), ("-" + "9" * 35, "-" + "9" * 35))),
    Case("bit_1", "BIT(1)", (("0", Int64(0)), ("1", Int64(1)))),
    Case("bit_7", "BIT(7)", (("127", Int64(127)), ("1", Int64(1)))),
    Case("bit_12", "BIT(12)", (("4095", Int64(4095)), ("256", Int64(256)))),
    Case(
        "bit_64",
        "BIT(64)",
        ((str(2**63 - 1), Int64(2**63 - 1)), (str(_U64), Decimal128(str(_U64)))),
    ),
    Case(
        "choice",
        "ENUM('small','große','日本') CHARACTER SET utf8mb4",
        (("'small'", "small"), ("2", "große"), ("3", "日本"), ("'none of them'", "")),
    ),
    Case(
        "choice_latin1",
        "ENUM('é','x') CHARACTER SET latin1",
        (("1", "é"), ("2", "x"), ("''", "")),
    ),
    Case(
        "choice_300",
        "ENUM(" + ",".join(f"'v{number}'" for number in range(300)) + ")",
        (("'v0'", "v0"), ("'v255'", "v255"), ("'v299'", "v299")),
    ),
    Case(
        "several",
        "SET('c','a','ö') CHARACTER SET latin1",
        (("'a,c'", ["c", "a"]), ("''", []), ("7", ["c", "a", "ö"]), ("4", ["ö"])),
    ),
    Case(
        "several_64",
        "SET(" + ",".join(f"'s{number}'" for number in range(64)) + ")",
        (("'s63,s0'", ["s0", "s63"]), (str(_U64), [f"s{number}" for number in range(64)])),
    ),
    Case(
        "year_",
        "YEAR",
        (("0", Int32(0)), ("1901", Int32(1901)), ("2155", Int32(2155)), ("2026", Int32(2026))),
    ),
    _texts("date_", "DATE", "0000-00-00", "1000-01-01", "9999-12-31", "2024-02-00", "2024-00-00"),
    _texts(
        "datetime_0",
        "DATETIME",
        "0000-00-00 00:00:00",
        "9999-12-31 23:59:59",
        "1000-01-01 15:59:59",
        "2026-11-21 16:00:00",
        "2024-02-00 01:02:03",
    ),
    *(
        _texts(
            f"datetime_{digits}",
            f"DATETIME({digits})",
            f"0000-00-00 00:00:00.{'0' * digits}",
            f"9999-12-31 23:59:59.{'9' * digits}",
            f"2026-11-21 08:09:10.{'0123456'[:digits]}",
        )
        for digits in range(1, 7)
    ),
    _texts("time_0", "TIME", "00:00:00", "-00:00:01", "838:59:59", "-838:59:59", "12:34:56"),
    *(
        _texts(
            f"time_{digits}",
            f"TIME({digits})",
            f"00:00:00.{'0' * digits}",
            f"-00:00:00.{'0' * (digits - 1)}1",
            f"-12:34:56.{'789012'[:digits]}",
            f"838:59:58.{'9' * digits}",
            f"-838:59:58.{'9' * digits}",
            f"01:02:03.{'000001'[-digits:]}",
        )
        for digits in range(1, 7)
    ),
    Case(
        "timestamp_0",
        "TIMESTAMP NULL",
        (
            ("'0000-00-00 00:00:00'", "0000-00-00 00:00:00"),
            ("'1970-01-01 00:00:01'", datetime(1970, 1, 1, 0, 0, 1)),  # noqa: DTZ001
            ("'2038-01-19 03:14:07'", datetime(2038, 1, 19, 3, 14, 7)),  # noqa: DTZ001
        ),
    ),
    Case(
        "timestamp_1",
        "TIMESTAMP(1) NULL",
        (
            ("'0000-00-00 00:00:00'", "0000-00-00 00:00:00.0"),
            ("'2026-01-02 03:04:05.6'", datetime(2026, 1, 2, 3, 4, 5, 600000)),  # noqa: DTZ001
        ),
    ),
    Case(
        "timestamp_3",
        "TIMESTAMP(3) NULL",
        (
            ("'0000-00-00 00:00:00'", "0000-00-00 00:00:00.000"),
            ("'1970-01-01 00:00:01.001'", datetime(1970, 1, 1, 0, 0, 1, 1000)),  # noqa: DTZ001
            ("'2026-01-02 03:04:05.678'", datetime(2026, 1, 2, 3, 4, 5, 678000)),  # noqa: DTZ001
        ),
    ),
    _texts("timestamp_4_zero", "TIMESTAMP(4) NULL", "0000-00-00 00:00:00.0000"),
    Case(
        "timestamp_6",
        "TIMESTAMP(6) NULL",
        (
            ("'0000-00-00 00:00:00'", "0000-00-00 00:00:00.000000"),
            ("'2026-01-02 03:04:05.000001'", "2026-01-02T03:04:05.000001Z"),
            ("'2038-01-19 03:14:07.999999'", "2038-01-19T03:14:07.999999Z"),
        ),
    ),
    Case(
        "char_",
        "CHAR(10) CHARACTER SET utf8mb4",
        (("'a  '", "a"), ("''", ""), ("'日本語😀'", "日本語😀"), ("' x'", " x")),
    ),
    _texts("char_255", "CHAR(255) CHARACTER SET utf8mb4", "", "x" * 255, "😀" * 255),
    Case(
        "varchar_",
        "VARCHAR(40) CHARACTER SET utf8mb4",
        (("'a  '", "a  "), ("''", ""), ("'日本語😀'", "日本語😀"), (r"'nul\0in it'", "nul\0in it")),
    ),
    _texts("varchar_long", "VARCHAR(3000) CHARACTER SET utf8mb4", "", "é" * 200, "z" * 3000),
    *(
        _texts(name, f"{name[:-1].upper()} CHARACTER SET utf8mb4", "", "päth", "t" * 255)
        for name in ("tinytext_", "text_", "mediumtext_", "longtext_")
    ),
    _texts("utf8mb3_", "VARCHAR(20) CHARACTER SET utf8mb3", "日本語", "é"),
    Case("ascii_", "VARCHAR(20) CHARACTER SET ascii", (("'plain'", "plain"),)),
    Case(
        "latin1_",
        "VARCHAR(255) CHARACTER SET latin1",
        ((_hex(_LATIN1), _LATIN1_TEXT), ("'plain'", "plain"), ("''", "")),
    ),
    Case("latin2_", "VARCHAR(9) CHARACTER SET latin2", (("'łódź'", "łódź"),)),
    Case("cp1250_", "TEXT CHARACTER SET cp1250", (("'Příliš'", "Příliš"),)),
    Case("cp1251_", "VARCHAR(9) CHARACTER SET cp1251", (("'Привет'", "Привет"),)),
    Case("koi8r_", "VARCHAR(9) CHARACTER SET koi8r", (("'Привет'", "Привет"),)),
    Case("greek_", "VARCHAR(9) CHARACTER SET greek", (("'αβγ'", "αβγ"), ("x'a1'", "\u02bd"))),
    Case("hebrew_", "VARCHAR(9) CHARACTER SET hebrew", (("'שלום'", "שלום"),)),
    Case("cp866_", "VARCHAR(9) CHARACTER SET cp866", (("'Привет'", "Привет"), ("x'fc'", "ⁿ"))),
    Case("tis620_", "VARCHAR(9) CHARACTER SET tis620", (("'ไทย'", "ไทย"),)),
    Case("sjis_", "VARCHAR(9) CHARACTER SET sjis", (("'日本ソ'", "日本ソ"), ("x'815f'", "\\"))),
    Case("cp932_", "VARCHAR(9) CHARACTER SET cp932", (("'①日本'", "①日本"),)),
    Case("ujis_", "VARCHAR(9) CHARACTER SET ujis", (("'日本'", "日本"),)),
    Case("gbk_", "VARCHAR(9) CHARACTER SET gbk", (("'汉字'", "汉字"),)),
    Case("gb2312_", "VARCHAR(9) CHARACTER SET gb2312", (("'汉字'", "汉字"),)),
    Case("gb18030_", "VARCHAR(9) CHARACTER SET gb18030", (("'汉字😀'", "汉字😀"),), (MYSQL,)),
    Case("big5_", "VARCHAR(9) CHARACTER SET big5", (("'漢字'", "漢字"),)),
    Case("euckr_", "VARCHAR(9) CHARACTER SET euckr", (("'한국갂'", "한국갂"),)),
    Case("ucs2_", "VARCHAR(9) CHARACTER SET ucs2", (("'ab日'", "ab日"), ("''", ""))),
    Case("utf16_", "VARCHAR(9) CHARACTER SET utf16", (("'ab日😀'", "ab日😀"),)),
    Case("utf16le_", "VARCHAR(9) CHARACTER SET utf16le", (("'ab日😀'", "ab日😀"),)),
    Case("utf32_", "CHAR(9) CHARACTER SET utf32", (("'ab日😀'", "ab日😀"),)),
    Case(
        "binary_",
        "BINARY(6)",
        ((_hex(b"ab"), b"ab\0\0\0\0"), ("''", bytes(6)), (_hex(b"\0a\0\0\0\0"), b"\0a\0\0\0\0")),
    ),
    Case("binary_255", "BINARY(255)", ((_hex(b"\xff" * 255), b"\xff" * 255), ("''", bytes(255)))),
    Case("varbinary_", "VARBINARY(300)", ((_hex(b"\0a\0"), b"\0a\0"), ("''", b""))),
    *(
        Case(name, name[:-1].upper(), ((_hex(b"\xff\0"), b"\xff\0"), ("''", b"")))
        for name in ("tinyblob_", "blob_", "mediumblob_", "longblob_")
    ),
    Case(
        "json_",
        "JSON",
        (
            ("'{}'", {}),
            ("'[]'", []),
            (
                """'{"bb": [1, true, false, null, {"x": "é"}], "a": -1.5, "": ""}'""",
                {"": "", "a": -1.5, "bb": [Int32(1), True, False, None, {"x": "é"}]},
            ),
            ("'\"text\"'", "text"),
            ("'true'", True),
            ("'0'", Int32(0)),
            ("'-32769'", Int32(-32769)),
            ("'2147483647'", Int32(2**31 - 1)),
            ("'2147483648'", Int64(2**31)),
            ("'4294967296'", Int64(2**32)),
            ("'-9223372036854775808'", Int64(-(2**63))),
            ("'18446744073709551615'", Decimal128(str(_U64))),
            (
                "'[65535, 65536, -32768, 4294967295]'",
                [Int32(65535), Int32(65536), Int32(-32768), Int64(4294967295)],
            ),
            ("JSON_OBJECT('d', CAST(1.50 AS DECIMAL(10,2)))", {"d": Decimal128("1.50")}),
            ("JSON_ARRAY(CAST('2024-01-02' AS DATE))", ["2024-01-02"]),
            ("JSON_ARRAY(CAST('-01:02:03.4' AS TIME(6)))", ["-01:02:03.400000"]),
            (
                "JSON_ARRAY(CAST('2024-01-02 03:04:05.06' AS DATETIME(6)))",
                ["2024-01-02 03:04:05.060000"],
            ),
            ("CAST(CAST(x'ff00' AS BINARY) AS JSON)", b"\xff\0"),
            ("JSON_ARRAY(b'101')", [b"\x05"]),
            ("JSON_OBJECT('k', REPEAT('x', 70000))", {"k": "x" * 70000}),
            (
                f"'[{','.join(['100000'] * 20000)}]'",
                [Int32(100000)] * 20000,
            ),
            ("'" + "[" * 99 + "]" * 99 + "'", _nested(99)),
        ),
        (MYSQL,),
    ),
    _texts("json_text", "JSON", '{"b": 1, "a": null}', "null", "[]", flavors=(MARIADB,)),
    Case(
        "point_",
        "POINT",
        (("ST_GeomFromText('POINT(1 2)')", _point(0)),),
    ),
    Case(
        "geometry_4326",
        "GEOMETRY",
        (("ST_GeomFromText('POINT(2 1)', 4326)", _point(4326)),),
        (MYSQL,),
    ),
    Case(
        "vector_",
        "VECTOR(3)",
        (("STRING_TO_VECTOR('[1,-2.5,3e10]')", _vector(1, -2.5, 3e10)),),
        (MYSQL,),
    ),
    Case(
        "uuid_",
        "UUID",
        tuple(
            (f"'{value}'", Binary(uuid.UUID(value).bytes, 4))
            for value in (
                "123e4567-e89b-12d3-a456-426614174000",
                "00000000-0000-0000-0000-000000000000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                # 8 and later, without the variant's bit, are no UUIDs to the server.
                *(
                    f"0123abcd-5678-{version:x}{tail}{variant:x}123-{node}"
                    for version in range(16)
                    for variant in range(16)
                    if version < 8 or variant >= 8
                    for tail, node in (("def-", "aabbccddeeff"), ("d8f-", "80bbcc80eeff"))
                ),
            )
        ),
        (MARIADB,),
    ),
    _texts(
        "inet6_",
        "INET6",
        "::",
        "::1",
        "2001:db8::ff00:42:8329",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
        "1:0:0:2::",
        "fe80::1:0:0:1",
        "::2",
        "1:2:3:4:5:6:7:8",
        "1::2:0:0:3",
        "1::2:3:4:5:6:7",
        "::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7::",
        "::ffff:0.0.0.0",
        "::0.1.0.0",
        "::ffff:0:0:0",
        flavors=(MARIADB,),
    ),
    _texts(
        "inet4_",
        "INET4",
        "0.0.0.0",  # noqa: S104 - an address, not a binding
        "192.0.2.1",
        "255.255.255.255",
        flavors=(MARIADB,),
    ),
    _texts(
        "compressed_varchar",
        "VARCHAR(2000) COMPRESSED CHARACTER SET utf8mb4",
        "",
        "short é",
        "x" * 2000,
        flavors=(MARIADB,),
    ),
    _texts(
        "compressed_latin1",
        "VARCHAR(500) COMPRESSED CHARACTER SET latin1",
        "é" * 300,
        "",
        flavors=(MARIADB,),
    ),
    _texts(
        "compressed_text",
        "TEXT COMPRESSED CHARACTER SET utf8mb4",
        "",
        "y" * 5000,
        "é",
        flavors=(MARIADB,),
    ),
    Case(
        "compressed_blob",
        "MEDIUMBLOB COMPRESSED",
        ((f"REPEAT({_hex(bytes(100))}, 1000)", bytes(100000)), ("''", b"")),
        (MARIADB,),
    ),
)


def of_flavor(flavor: Flavor) -> list[Case]:
    """The cases that a server has."""
    return [case for case in CASES if flavor in case.flavors]


def statements(case: Case) -> Iterator[str]:
    """What makes the case's table and its rows: inserts, updates to NULL and back, deletes."""
    yield f"CREATE TABLE {case.name} (id INT PRIMARY KEY, v {case.definition}, w INT)"
    for number, (expression, _) in enumerate(case.values):
        yield f"INSERT INTO {case.name} VALUES ({number}, {expression}, NULL)"
    yield f"UPDATE {case.name} SET v = NULL"
    for number, (expression, _) in enumerate(case.values):
        yield f"UPDATE {case.name} SET v = {expression} WHERE id = {number}"
    yield f"UPDATE {case.name} SET w = 1"
    yield f"UPDATE {case.name} SET v = ({_other(case)})"
    yield f"DELETE FROM {case.name} ORDER BY id"


def _other(case: Case) -> str:
    return case.values[0][0]


def same(found: Any, expected: Any) -> bool:
    """Whether a decoded BSON value is the expected one, its BSON type included."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and list(found) == list(expected)
            and all(same(found[key], value) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(same, found, expected))
        )
    if isinstance(expected, bool) or expected is None:
        return found is expected
    if isinstance(expected, Int32):
        return type(found) is int and found == expected
    if isinstance(expected, Decimal128):
        return isinstance(found, Decimal128) and found.bid == expected.bid
    if isinstance(expected, Binary):
        return isinstance(found, Binary) and found == expected and found.subtype == expected.subtype
    return type(found) is type(expected) and bool(found == expected)
