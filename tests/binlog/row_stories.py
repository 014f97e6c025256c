# ruff: noqa: S608 - the tables are our own
"""Tables and changes whose events are recorded: `python tests/binlog/row_recorder.py URL [URL]`."""

from __future__ import annotations

from caretaker.binlog.columns import KnownType
from caretaker.binlog.model import Flavor
from tests.binlog.type_cases import CASES, MARIADB, MYSQL, Case, of_flavor, statements

KEYS = (
    "CREATE TABLE composite (a INT, b VARCHAR(5), c INT, PRIMARY KEY (b, a))",
    "INSERT INTO composite VALUES (1, 'x', 2)",
    "UPDATE composite SET c = 3, a = 7",
    "DELETE FROM composite",
    "CREATE TABLE prefix (a TEXT, b INT, PRIMARY KEY (b, a(3)))",
    "INSERT INTO prefix VALUES ('abcdef', 2)",
    "CREATE TABLE keyless (a INT)",
    "INSERT INTO keyless VALUES (1), (2)",
    "CREATE TABLE unsigned_key (id BIGINT UNSIGNED PRIMARY KEY, v INT)",
    "INSERT INTO unsigned_key VALUES (18446744073709551615, 1), (3, 1)",
    "UPDATE unsigned_key SET v = 2",
    (
        "CREATE TABLE made (id INT PRIMARY KEY, a INT, b INT INVISIBLE,"
        " c INT GENERATED ALWAYS AS (a + 1) VIRTUAL, d INT GENERATED ALWAYS AS (a + 2) STORED)"
    ),
    "INSERT INTO made (id, a, b) VALUES (1, 1, 5)",
    "UPDATE made SET a = 9",
)
MIXED = {
    MYSQL: "g POINT, b VARCHAR(9) CHARACTER SET latin1, x VECTOR(2), j JSON",
    MARIADB: "g POINT, b VARCHAR(9) CHARACTER SET latin1, x VARCHAR(9) COMPRESSED, j JSON",
}
MIXED_VALUES = {
    MYSQL: "POINT(1, 2), 'é', STRING_TO_VECTOR('[1,2]'), '{}'",
    MARIADB: "POINT(1, 2), 'é', 'zz', '{}'",
}


def mixed(flavor: Flavor) -> tuple[str, ...]:
    """All kinds of optional metadata in one table, so that one that is counted wrong shifts."""
    return (
        (
            f"CREATE TABLE mixed (y YEAR, a INT UNSIGNED, {MIXED[flavor]},"
            " c VARCHAR(9) CHARACTER SET utf16, bi BIT(3), d VARBINARY(3), e INT,"
            " t TEXT CHARACTER SET cp1251, en ENUM('x') CHARACTER SET latin1,"
            " s SET('q') CHARACTER SET utf16, w VARCHAR(9) CHARACTER SET utf8mb4)"
        ),
        (
            f"INSERT INTO mixed VALUES (2000, 4000000000, {MIXED_VALUES[flavor]},"
            " 'é', 3, x'ff', -1, 'П', 'x', 'q', 'é')"
        ),
    )


JSON_NULL = (
    "CREATE TABLE j (id INT PRIMARY KEY, j JSON)",
    "INSERT INTO j VALUES (1, NULL), (2, 'null'), (3, '1')",
    "UPDATE j SET j = 'null' WHERE id <> 2",
    "UPDATE j SET j = NULL WHERE id = 1",
    "UPDATE j SET j = '2' WHERE id = 2",
    "DELETE FROM j",
)
_FILLING = "x" * 60
PARTIAL_JSON = (
    "SET binlog_row_value_options = 'PARTIAL_JSON'",
    "CREATE TABLE p (id INT PRIMARY KEY, j JSON, x INT, k JSON)",
    (
        f"""INSERT INTO p VALUES (1, '{{"a": {{"b c": [1, 2, 3]}}, "d": "{_FILLING}", "e": 0}}',"""
        " 1, '[1]')"
    ),
    """UPDATE p SET j = JSON_SET(j, '$.a."b c"[1]', 'new'), x = 2""",
    """UPDATE p SET j = JSON_REMOVE(j, '$.a."b c"[0]')""",
    (
        "UPDATE p SET j = JSON_SET(j, '$.cc', JSON_OBJECT('y', NULL)),"
        " k = JSON_ARRAY_APPEND(k, '$', 5)"
    ),
    """UPDATE p SET j = JSON_ARRAY_INSERT(j, '$.a."b c"[0]', TRUE)""",
    "UPDATE p SET k = NULL",
    "UPDATE p SET j = JSON_REPLACE(j, '$.e', 1), k = '7'",
    "UPDATE p SET x = 3",
    """UPDATE p SET j = JSON_SET(j, '$."q\\\\"t"', 1)""",
    """UPDATE p SET j = JSON_REMOVE(j, '$.d')""",
    "SET binlog_row_value_options = ''",
)
MINIMAL_IMAGE = (
    "SET binlog_row_image = 'MINIMAL'",
    "CREATE TABLE m (id INT PRIMARY KEY, a INT, b INT)",
    "INSERT INTO m (id, a) VALUES (1, 2)",
    "UPDATE m SET b = 6",
    "DELETE FROM m",
)
MINIMAL_METADATA = (
    "SET GLOBAL binlog_row_metadata = 'MINIMAL'",
    "CREATE TABLE n (id INT UNSIGNED PRIMARY KEY, e ENUM('a'))",
    "INSERT INTO n VALUES (1, 'a')",
    "SET GLOBAL binlog_row_metadata = 'FULL'",
)
COMPRESSED_ROWS = (
    "SET GLOBAL log_bin_compress = ON",
    "CREATE TABLE c (a INT, b VARCHAR(500))",
    "INSERT INTO c VALUES (1, REPEAT('x', 500))",
    "UPDATE c SET a = 2",
    "DELETE FROM c",
    "SET GLOBAL log_bin_compress = OFF",
)
_NULLABLE = ("1", "'b'", "'2020-01-02 03:04:05.6'", "1.5", "2", "'f'", "3", "1.5", "'i'")


def _some_null(row: int) -> str:
    values = ("NULL" if row >> bit & 1 else value for bit, value in enumerate(_NULLABLE))
    return f"INSERT INTO n2 VALUES ({row}, {', '.join(values)})"


NULLS = (
    (
        "CREATE TABLE n2 (id INT PRIMARY KEY, a INT, b VARCHAR(9), c DATETIME(6), d DECIMAL(9,2),"
        " e INT, f TEXT, g BIGINT, h DOUBLE, i VARCHAR(300))"
    ),
    *(_some_null(row) for row in range(0, 512, 37)),
    "UPDATE n2 SET a = id, b = NULL, g = NULL, i = 'other'",
    "UPDATE n2 SET c = IF(c IS NULL, '2021-01-01', NULL), f = CONCAT(f, 'x'), e = NULL, h = 2",
    "DELETE FROM n2",
)


def schema() -> tuple[str, ...]:
    """A table that changes between its rows, one definition a statement."""
    instant = ", ALGORITHM=INSTANT"
    return (
        "CREATE TABLE s (id INT PRIMARY KEY, a INT, b VARCHAR(20) CHARACTER SET latin1)",
        "INSERT INTO s VALUES (1, 10, 'é')",
        f"ALTER TABLE s ADD COLUMN c INT UNSIGNED DEFAULT 4294967295{instant}",
        "UPDATE s SET a = 11",
        f"ALTER TABLE s ADD COLUMN first_ VARCHAR(9) DEFAULT 'f' FIRST{instant}",
        "INSERT INTO s VALUES ('x', 2, 20, 'ö', 1)",
        f"ALTER TABLE s DROP COLUMN a{instant}",
        "UPDATE s SET b = 'ü' WHERE id = 1",
        f"ALTER TABLE s RENAME COLUMN b TO renamed{instant}",
        "UPDATE s SET renamed = 'ß' WHERE id = 2",
        "ALTER TABLE s MODIFY renamed VARCHAR(20) CHARACTER SET utf16",
        "UPDATE s SET renamed = 'é日' WHERE id = 2",
        "ALTER TABLE s MODIFY c BIGINT FIRST",
        "UPDATE s SET c = -5 WHERE id = 2",
        "ALTER TABLE s DROP PRIMARY KEY, ADD PRIMARY KEY (renamed, id)",
        "DELETE FROM s WHERE id = 1",
        "RENAME TABLE s TO s2",
        "UPDATE s2 SET c = 6",
        "TRUNCATE TABLE s2",
        "INSERT INTO s2 (renamed, id) VALUES ('n', 3)",
    )


def many_columns() -> tuple[str, ...]:
    """500 columns, of which an update changes the first, one in the middle, the last."""
    kinds = ("INT", "VARCHAR(9)", "DECIMAL(5,2)", "DATETIME(3)", "BIGINT UNSIGNED")
    columns = ", ".join(f"c{number} {kinds[number % 5]}" for number in range(499))
    values = ("7", "'v'", "1.50", "'2026-01-02 03:04:05.678'", "18446744073709551615")
    row = ", ".join("NULL" if n % 7 == 3 else values[n % 5] for n in range(499))
    return (
        f"CREATE TABLE many (id INT PRIMARY KEY, {columns})",
        f"INSERT INTO many VALUES (1, {row})",
        "UPDATE many SET c0 = 8, c251 = 'w', c498 = '2027-01-02 03:04:05.678'",
        "DELETE FROM many",
    )


def types(flavor: Flavor) -> tuple[str, ...]:
    """Every case of every type."""
    return tuple(statement for case in of_flavor(flavor) for statement in statements(case))


def stories(flavor: Flavor) -> dict[str, tuple[str, ...]]:
    """What is recorded of a server, by name."""
    told = {
        "types": types(flavor),
        "keys": KEYS,
        "mixed": mixed(flavor),
        "nulls": NULLS,
        "minimal_image": MINIMAL_IMAGE,
        "minimal_metadata": MINIMAL_METADATA,
        "schema": schema(),
        "many_columns": many_columns(),
    }
    if flavor is MYSQL:
        gipk = (
            "SET sql_generate_invisible_primary_key = 1",
            "CREATE TABLE gipk (a INT)",
            "INSERT INTO gipk VALUES (7)",
            "UPDATE gipk SET a = 8",
            "SET sql_generate_invisible_primary_key = 0",
        )
        return told | {"json_null": JSON_NULL, "partial_json": PARTIAL_JSON, "gipk": gipk}
    return told | {"compressed_rows": COMPRESSED_ROWS}


def known_types(database: str) -> dict[tuple[str, str], dict[str, KnownType]]:
    """What information_schema says of MariaDB's own types."""
    kinds = {f"{kind.value}_": kind for kind in KnownType}
    return {(database, case.name): {"v": kinds[case.name]} for case in _of(kinds)}


def _of(kinds: dict[str, KnownType]) -> list[Case]:
    return [case for case in CASES if case.name in kinds]
