"""What the recordings tell: statements, by session, that a real server was given.

A statement is `session> SQL`; sessions are connections of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Story:
    """Statements between two looks at the binlog.

    Attributes:
        statements: `mark> name` writes down which transactions the server has by then; at
            `mark> here` the dump begins, otherwise at the start of the file.
        before: What is not in the recording.
        tables: Tables whose rows are counted at the end, for the tests to compare with.
        settings: Session variables of the dump.
        known: SQL that makes, of the marks, what a dump by GTID says it has.
        flags: Of the dump.
        heartbeats: The dump waits, and ends with as many of them.
    """

    statements: tuple[str, ...]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    known: str = ""
    flags: int = 0
    heartbeats: int = 0


NARROW = (
    "DROP TABLE IF EXISTS story.t",
    "CREATE TABLE story.t (id INT PRIMARY KEY, v VARCHAR(600))",
)
PLAIN = Story(
    (
        "a> INSERT INTO story.t VALUES (1, 'one'), (2, 'two')",
        "a> BEGIN",
        "a> UPDATE story.t SET v = 'zwei' WHERE id = 2",
        "a> DELETE FROM story.t WHERE id = 1",
        "a> COMMIT",
        "a> FLUSH BINARY LOGS",
        "a> INSERT INTO story.t VALUES (3, 'three')",
    ),
    before=NARROW,
    tables=("story.t",),
)
DDL = Story(
    (
        "a> USE story",
        "a> CREATE TABLE d (id INT PRIMARY KEY)",
        "a> INSERT INTO d VALUES (1)",
        "a> ALTER TABLE d ADD COLUMN v INT",
        "a> INSERT INTO d VALUES (2, 2)",
        "a> CREATE TABLE e AS SELECT * FROM d",
        "a> TRUNCATE TABLE d",
        "a> CREATE VIEW w AS SELECT * FROM d",
        "a> DROP VIEW w",
        "a> CREATE USER u@localhost",
        "a> GRANT SELECT ON story.* TO u@localhost",
        "a> DROP USER u@localhost",
        "a> ANALYZE TABLE d",
        "a> OPTIMIZE TABLE d",
        "a> FLUSH TABLES",
        "a> CREATE TABLE `größe` (id INT)",
        "a> RENAME TABLE `größe` TO g",
        "a> CREATE TEMPORARY TABLE tt (id INT)",
        "a> INSERT INTO tt VALUES (1)",
        "a> DROP TABLE d, e, g",
        "a> CREATE PROCEDURE p() INSERT INTO t VALUES (77, 'by p')",
        "a> CALL p()",
        "a> DROP PROCEDURE p",
    ),
    before=(
        *NARROW,
        "DROP TABLE IF EXISTS story.d, story.e, story.g",
        "DROP VIEW IF EXISTS story.w",
    ),
    tables=("story.t",),
)
STATEMENT_DML = Story(
    (
        "a> INSERT INTO story.t VALUES (1, 'row')",
        "a> SET SESSION binlog_format = STATEMENT",
        "a> SET @x = 'by variable'",
        "a> INSERT INTO story.t VALUES (2, @x)",
    ),
    before=NARROW,
    tables=("story.t",),
)
BIG = Story(
    (
        "a> INSERT INTO story.b VALUES (1, REPEAT('x', 17000000))",
        "a> INSERT INTO story.b VALUES (2, 'small')",
    ),
    before=(
        "DROP TABLE IF EXISTS story.b",
        "CREATE TABLE story.b (id INT PRIMARY KEY, v LONGTEXT)",
    ),
    after=("DROP TABLE story.b",),
)
SAVEPOINTS = Story(
    (
        "a> BEGIN",
        "a> INSERT INTO story.t VALUES (1, 'kept')",
        "a> SAVEPOINT s1",
        "a> INSERT INTO story.t VALUES (2, 'undone')",
        "a> ROLLBACK TO SAVEPOINT s1",
        "a> SAVEPOINT s2",
        "a> INSERT INTO story.t VALUES (3, 'kept')",
        "a> RELEASE SAVEPOINT s2",
        "a> COMMIT",
        "a> BEGIN",
        "a> INSERT INTO story.t VALUES (4, 'undone')",
        "a> ROLLBACK",
    ),
    before=NARROW,
    tables=("story.t",),
)
MIXED = Story(
    (
        "a> USE story",
        "a> BEGIN",
        "a> INSERT INTO t VALUES (1, 'undone')",
        "a> INSERT INTO m VALUES (1)",
        "a> SAVEPOINT s",
        "a> INSERT INTO t VALUES (2, 'undone')",
        "a> INSERT INTO m VALUES (2)",
        "a> ROLLBACK TO s",
        "a> INSERT INTO t VALUES (4, 'undone')",
        "a> ROLLBACK",
        "a> INSERT INTO m VALUES (3), (4), (4), (5)",
        "a> CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO m VALUES (100 + NEW.id)",
        "a> INSERT INTO t VALUES (10, 'kept'), (11, 'kept')",
        "a> BEGIN",
        "a> INSERT INTO t VALUES (12, 'undone')",
        "a> SAVEPOINT s3",
        "a> INSERT INTO t VALUES (13, 'undone')",
        "a> ROLLBACK TO s3",
        "a> INSERT INTO t VALUES (14, 'undone')",
        "a> ROLLBACK",
        "a> INSERT INTO t VALUES (20, 'undone'), (20, 'twice')",
    ),
    before=(
        *NARROW,
        "DROP TABLE IF EXISTS story.m",
        "CREATE TABLE story.m (id INT PRIMARY KEY) ENGINE = MyISAM",
    ),
    tables=("story.t", "story.m"),
)
XA = Story(
    (
        "a> USE story",
        "b> USE story",
        "c> USE story",
        "a> XA START 'done', 'branch', 7",
        "a> INSERT INTO t VALUES (1, 'prepared, committed')",
        "a> UPDATE t SET v = 'changed' WHERE id = 1",
        "a> XA END 'done', 'branch', 7",
        "a> XA PREPARE 'done', 'branch', 7",
        "b> XA START 'undone'",
        "b> INSERT INTO t VALUES (2, 'prepared, rolled back')",
        "b> XA END 'undone'",
        "b> XA PREPARE 'undone'",
        "c> INSERT INTO t VALUES (3, 'between')",
        "b> XA ROLLBACK 'undone'",
        "a> XA COMMIT 'done', 'branch', 7",
        "c> XA START 'one'",
        "c> INSERT INTO t VALUES (4, 'one phase')",
        "c> XA END 'one'",
        "c> XA COMMIT 'one' ONE PHASE",
        "c> XA START 'empty'",
        "c> XA END 'empty'",
        "c> XA PREPARE 'empty'",
        "c> XA COMMIT 'empty'",
        "c> XA START 'done', 'branch', 7",
        "c> INSERT INTO t VALUES (5, 'the same xid again')",
        "c> XA END 'done', 'branch', 7",
        "c> XA PREPARE 'done', 'branch', 7",
        "c> XA COMMIT 'done', 'branch', 7",
        "b> XA START 'early'",
        "b> INSERT INTO t VALUES (6, 'never prepared')",
        "b> XA END 'early'",
        "b> XA ROLLBACK 'early'",
        "b> XA START 'late'",
        "b> INSERT INTO t VALUES (7, 'prepared, left so')",
        "b> XA END 'late'",
        "b> XA PREPARE 'late'",
        "c> INSERT INTO t VALUES (8, 'after')",
    ),
    before=NARROW,
    after=("XA ROLLBACK 'late'",),
    tables=("story.t",),
)
#: Read on from a checkpoint that an XA transaction holds back.
HELD = (
    "a> USE story",
    "b> USE story",
    "a> INSERT INTO t VALUES (1, 'before')",
    "mark> before",
    "b> XA START 'held'",
    "b> INSERT INTO t VALUES (2, 'waits')",
    "b> INSERT INTO t VALUES (3, 'waits')",
    "b> XA END 'held'",
    "b> XA PREPARE 'held'",
    "mark> prepared",
    "a> INSERT INTO t VALUES (4, 'in the trail')",
    "a> CREATE TABLE x (id INT)",
    "a> DROP TABLE x",
    "mark> saved",
    "a> INSERT INTO t VALUES (5, 'new')",
    "b> XA COMMIT 'held'",
    "a> INSERT INTO t VALUES (6, 'new')",
)
QUIET = Story(
    ("a> INSERT INTO story.t VALUES (1, 'then nothing')",),
    before=NARROW,
    heartbeats=2,
)
MIDDLE = Story(
    (
        "a> INSERT INTO story.t VALUES (1, 'in the trail')",
        "mark> here",
        "a> INSERT INTO story.t VALUES (2, 'new')",
    ),
    before=NARROW,
)
REJECTED = (
    "a> INSERT INTO story.t VALUES (1, 'one')",
    "mark> one",
)
GTIDS_OFF = (
    "SET GLOBAL gtid_mode = ON_PERMISSIVE",
    "SET GLOBAL gtid_mode = OFF_PERMISSIVE",
    "SET GLOBAL gtid_mode = OFF",
    "SET GLOBAL enforce_gtid_consistency = OFF",
)
GTIDS_ON = (
    "SET GLOBAL enforce_gtid_consistency = ON",
    "SET GLOBAL gtid_mode = OFF_PERMISSIVE",
    "SET GLOBAL gtid_mode = ON_PERMISSIVE",
    "SET GLOBAL gtid_mode = ON",
)

MYSQL = {
    # record it just after a start: a server that has seen a tag writes its sets in another format
    "plain": replace(PLAIN, before=("RESET BINARY LOGS AND GTIDS", *NARROW)),
    "ddl": DDL,
    "statement": STATEMENT_DML,
    "big": BIG,
    "savepoints": SAVEPOINTS,
    "mixed": MIXED,
    "xa": XA,
    "compressed": Story(
        (
            "a> SET SESSION binlog_transaction_compression = ON",
            "a> INSERT INTO story.t VALUES (1, REPEAT('x', 500)), (2, REPEAT('y', 500))",
            "a> BEGIN",
            "a> INSERT INTO story.t WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL"  # noqa: ISC004
            " SELECT i + 1 FROM n WHERE i < 45) SELECT i, REPEAT('z', 500) FROM n",
            "a> UPDATE story.t SET v = CONCAT(v, id) WHERE id < 30",
            "a> COMMIT",
            "a> USE story",
            "a> XA START 'squeezed'",
            "a> INSERT INTO t VALUES (3, 'in a compressed XA')",
            "a> XA END 'squeezed'",
            "a> XA PREPARE 'squeezed'",
            "a> XA COMMIT 'squeezed'",
            "a> SET SESSION binlog_transaction_compression = OFF",
            "a> DELETE FROM story.t WHERE id = 1",
        ),
        before=NARROW,
        tables=("story.t",),
    ),
    "tagged": Story(
        (
            "a> SET SESSION gtid_next = 'AUTOMATIC:foo_1'",
            "a> INSERT INTO story.t VALUES (1, 'tagged')",
            "a> SET SESSION gtid_next = 'AUTOMATIC'",
            "a> INSERT INTO story.t VALUES (2, 'not tagged')",
            "a> SET SESSION gtid_next = 'AUTOMATIC:bar'",
            "a> INSERT INTO story.t VALUES (3, 'tagged')",
            "a> ALTER TABLE story.t ADD COLUMN w INT",
            "a> SET SESSION gtid_next = 'AUTOMATIC'",
            "a> SET SESSION gtid_next = '11111111-2222-3333-4444-555555555555:7'",
            "a> BEGIN",
            "a> COMMIT",
            "a> SET SESSION gtid_next = 'AUTOMATIC'",
            "a> FLUSH BINARY LOGS",
            "a> INSERT INTO story.t VALUES (4, 'after', 4)",
        ),
        before=(
            "RESET BINARY LOGS AND GTIDS",
            "SET SESSION gtid_next = 'AUTOMATIC:foo_1'",
            "CREATE DATABASE IF NOT EXISTS story",
            "SET SESSION gtid_next = 'AUTOMATIC'",
            *NARROW,
        ),
        tables=("story.t",),
    ),
    "rows_query": Story(
        (
            "a> SET SESSION binlog_rows_query_log_events = ON",
            "a> INSERT INTO story.t VALUES (1, 'with its statement')",
            "a> SET SESSION binlog_row_value_options = PARTIAL_JSON",
            'a> INSERT INTO story.j VALUES (1, \'{"a": 1, "b": "' + "x" * 200 + "\"}')",
            "a> UPDATE story.j SET v = JSON_SET(v, '$.a', 2)",
        ),
        before=(
            *NARROW,
            "DROP TABLE IF EXISTS story.j",
            "CREATE TABLE story.j (id INT PRIMARY KEY, v JSON)",
        ),
        tables=("story.t", "story.j"),
    ),
    "unchecked": Story(
        ("a> INSERT INTO story.t VALUES (1, 'no checksum')",),
        before=(*NARROW, "SET GLOBAL binlog_checksum = NONE"),
        after=("SET GLOBAL binlog_checksum = CRC32",),
        tables=("story.t",),
    ),
    "asked_none": Story(
        ("a> INSERT INTO story.t VALUES (1, 'checksum not asked for')",),
        before=NARROW,
        settings=("SET @source_binlog_checksum = 'NONE', @master_binlog_checksum = 'NONE'",),
        tables=("story.t",),
    ),
    "anonymous": Story(
        MIXED.statements, before=(*GTIDS_OFF, *MIXED.before), after=GTIDS_ON, tables=MIXED.tables
    ),
    "anonymous_xa": Story(
        XA.statements,
        before=(*GTIDS_OFF, *NARROW),
        after=("XA ROLLBACK 'late'", *GTIDS_ON),
        tables=("story.t",),
    ),
    "held": Story(
        HELD,
        before=NARROW,
        known="GTID_SUBTRACT('{saved}', GTID_SUBTRACT('{prepared}', '{before}'))",
    ),
    "quiet": QUIET,
    "quiet_v2": Story(QUIET.statements, before=NARROW, heartbeats=2, flags=2),
    "middle": MIDDLE,
    "behind": Story(REJECTED, before=NARROW, known="'{one}'", heartbeats=2),
    "purged": Story(
        ("a> FLUSH BINARY LOGS", "a> DO SLEEP(1)", "a> PURGE BINARY LOGS BEFORE NOW()"),
        before=NARROW,
        known="''",
    ),
    "foreign": Story(
        (*REJECTED,),
        before=NARROW,
        known="CONCAT('{one},', @@server_uuid, ':999999')",
    ),
}

MARIADB = {
    "plain": PLAIN,
    "ddl": DDL,
    "statement": STATEMENT_DML,
    "savepoints": SAVEPOINTS,
    "mixed": MIXED,
    "xa": XA,
    "compressed": Story(
        (
            "a> INSERT INTO story.t VALUES (1, REPEAT('x', 500))",
            "a> UPDATE story.t SET v = REPEAT('y', 550)",
            "a> ALTER TABLE story.t ADD COLUMN w INT COMMENT '" + "c" * 300 + "'",
            "a> DELETE FROM story.t",
        ),
        before=(*NARROW, "SET GLOBAL log_bin_compress = ON"),
        after=("SET GLOBAL log_bin_compress = OFF",),
        tables=("story.t",),
    ),
    "domains": Story(
        (
            "a> SET SESSION gtid_domain_id = 5",
            "a> INSERT INTO story.t VALUES (1, 'domain 5')",
            "a> SET SESSION gtid_domain_id = 0",
            "a> INSERT INTO story.t VALUES (2, 'domain 0')",
            "a> SET SESSION binlog_annotate_row_events = ON",
            "a> INSERT INTO story.t VALUES (3, 'annotated')",
        ),
        before=NARROW,
        tables=("story.t",),
    ),
    "unchecked": Story(
        ("a> INSERT INTO story.t VALUES (1, 'no checksum')",),
        before=(*NARROW, "SET GLOBAL binlog_checksum = NONE"),
        after=("SET GLOBAL binlog_checksum = CRC32",),
        tables=("story.t",),
    ),
    "two_phase_alter": Story(
        (
            "a> SET SESSION binlog_alter_two_phase = ON",
            "a> ALTER TABLE story.t ADD COLUMN w INT",
            "a> ALTER TABLE story.t ADD UNIQUE (v)",
            "a> ALTER TABLE story.t ADD UNIQUE (w)",
        ),
        before=(*NARROW, "INSERT INTO story.t VALUES (1, 'x'), (2, 'x')"),
    ),
    "annotated": Story(
        (
            "a> SET SESSION binlog_annotate_row_events = ON",
            "a> INSERT INTO story.t VALUES (1, 'annotated')",
        ),
        before=NARROW,
        flags=2,
    ),
    "held": Story(HELD, before=NARROW, known="'{before}'"),
    "quiet": QUIET,
    "middle": MIDDLE,
    "behind": Story(REJECTED, before=NARROW, known="'{one}'", heartbeats=2),
    "purged": Story(
        ("a> FLUSH BINARY LOGS", "a> DO SLEEP(3)", "a> PURGE BINARY LOGS BEFORE NOW()"),
        before=NARROW,
        known="'0-7-2'",
    ),
    "foreign": Story((*REJECTED,), before=NARROW, known="'0-7-99999'"),
}
