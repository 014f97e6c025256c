"""Asking a source about itself."""

from __future__ import annotations

from typing import Any

from caretaker.binlog.model import Flavor, Mode, Position
from caretaker.binlog.preflight import version_of
from caretaker.binlog.source_facts import (
    FIRST_EVENT,
    Follower,
    LogFile,
    Progression,
    Replica,
    SourceFacts,
)
from caretaker.errors import RefusedError
from resources.mysql.dump import register_as
from resources.mysql.follower import follower
from resources.mysql.session import NO_SUCH_STATEMENT, Session, denied
from resources.mysql.settings import MySQLSettings
from resources.sql import mysql as sql

#: What `check` judges and `doctor` shows; a server has those that it knows.
SETTINGS = (
    *("log_bin", "binlog_format", "binlog_row_image", "binlog_row_metadata", "server_id"),
    *("binlog_row_value_options", "binlog_transaction_compression", "binlog_checksum"),
    *("gtid_mode", "enforce_gtid_consistency", "gtid_strict_mode", "log_bin_compress"),
    *("binlog_expire_logs_seconds", "expire_logs_days", "binlog_expire_logs_auto_purge"),
    *("encrypt_binlog", "innodb_native_foreign_keys", "max_allowed_packet", "server_uuid"),
)
_NO_BINLOG = 1381
_STATUS_SINCE = (8, 2, 0)
_REPLICAS_SINCE = (8, 0, 22)
_LOOKS = 3


def flavor_of(session: Session) -> Flavor:
    """Which of the two a server is, by its greeting."""
    return Flavor.MARIADB if "mariadb" in session.version.lower() else Flavor.MYSQL


def variables(session: Session) -> dict[str, str]:
    """Return the settings that the server knows."""
    return {str(name).lower(): str(value) for name, value in session.rows(sql.variables(SETTINGS))}


def progression(session: Session, wanted: Mode | None) -> Progression:
    """Return how far the source is.

    Raises:
        RefusedError: It has no binlog (1381), or we may not ask (1227).
    """
    flavor = flavor_of(session)
    if flavor is Flavor.MARIADB:
        return _mariadb(session, wanted)
    logs = _logs(session)
    file, pos, executed = _mysql_status(session)
    settings = variables(session)
    mode = wanted or (Mode.GTID if settings.get("gtid_mode", "OFF").upper() == "ON" else Mode.FILE)
    purged = None
    if mode is Mode.GTID:
        # after the status: what is purged meanwhile is seen, what is committed meanwhile is not
        ((_, purged_text, _),) = session.rows(sql.GTIDS)
        purged = _one_line(purged_text)
    return Progression(
        flavor,
        settings["server_uuid"],
        mode,
        executed if mode is Mode.GTID else None,
        purged,
        None,
        logs,
        Position(file, pos),
    )


def read(
    session: Session, settings: MySQLSettings, wanted: Mode | None, us: Follower
) -> SourceFacts:
    """Return everything that decides whether the source can be followed."""
    ((version, user),) = session.rows(sql.IDENTITY)
    flavor = flavor_of(session)
    found = variables(session)
    missing: set[str] = set()
    now: Progression | None = None
    try:
        now = progression(session, wanted)
    except RefusedError as error:
        if denied(error):
            missing.add(_may_look(flavor))
        elif error.code != _NO_BINLOG:
            raise
    if not _may_follow(settings, us):
        missing.add("REPLICATION SLAVE")
    ((visible,),) = session.rows(sql.VISIBLE_TABLES)
    server_id = int(found.get("server_id", "0"))
    return SourceFacts(
        flavor=flavor,
        version=str(version),
        server_uuid=_identity(flavor, found.get("server_uuid"), server_id),
        server_id=server_id,
        user=str(user),
        settings=found,
        progression=now,
        denied=frozenset(missing),
        replicas=_replicas(session, flavor),
        cascades=tuple(f"{schema}.{table}" for schema, table in session.rows(sql.CASCADES)),
        columns_hidden=not visible and not _may_select(session),
    )


def _may_look(flavor: Flavor) -> str:
    return "BINLOG MONITOR" if flavor is Flavor.MARIADB else "REPLICATION CLIENT"


def _may_follow(settings: MySQLSettings, us: Follower) -> bool:
    """Registered under a number of its own: ours may have a dump under way."""
    probe = follower(f"probe of {us.uuid}")
    with Session(settings) as session:
        try:
            register_as(session, settings, probe)
        except RefusedError as error:
            if denied(error) or error.code == _ACCESS_DENIED:
                return False
            raise
    return True


_ACCESS_DENIED = 1045


def _may_select(session: Session) -> bool:
    grants = [str(row[0]).upper() for row in session.rows(sql.GRANTS)]
    return any(
        grant.startswith(("GRANT ALL", "GRANT SELECT")) or ", SELECT" in grant.split(" ON ")[0]
        for grant in grants
    )


def _replicas(session: Session, flavor: Flavor) -> tuple[Replica, ...] | None:
    mysql = flavor is Flavor.MYSQL and version_of(session.version) >= _REPLICAS_SINCE
    try:
        rows = session.rows(sql.REPLICAS if mysql else sql.SLAVE_HOSTS)
    except RefusedError as error:
        if denied(error) or error.code in NO_SUCH_STATEMENT:
            return None
        raise
    uuids = flavor is Flavor.MYSQL
    return tuple(Replica(int(row[0]), str(row[4]) if uuids else "", str(row[1])) for row in rows)


def _logs(session: Session) -> tuple[LogFile, ...]:
    return tuple(LogFile(str(row[0]), int(row[1])) for row in session.rows(sql.BINARY_LOGS))


def _mysql_status(session: Session) -> tuple[str, int, str]:
    new = version_of(session.version) >= _STATUS_SINCE
    row = _status(session, sql.BINARY_LOG_STATUS if new else sql.MASTER_STATUS)
    return str(row[0]), int(row[1]), _one_line(row[4])


def _status(session: Session, statement: str) -> tuple[Any, ...]:
    rows = session.rows(statement)
    if not rows:
        raise RefusedError("the source has no binary log", code=_NO_BINLOG)
    return rows[0]


def _one_line(text: object) -> str:
    """MySQL breaks long sets into lines."""
    return str(text or "").replace("\n", "")


def _mariadb(session: Session, wanted: Mode | None) -> Progression:
    logs = _logs(session)
    position, executed, state, server_id = _mariadb_position(session)
    mode = wanted or Mode.GTID
    ((oldest,),) = session.rows(sql.Statement(sql.MARIADB_POSITION, (logs[0].name, FIRST_EVENT)))
    by_gtid = mode is Mode.GTID
    return Progression(
        Flavor.MARIADB,
        _identity(Flavor.MARIADB, None, server_id),
        mode,
        executed if by_gtid else None,
        _one_line(oldest) if by_gtid else None,
        state if by_gtid else None,
        logs,
        position,
    )


def _mariadb_position(session: Session) -> tuple[Position, str, str, int]:
    """Return place and GTIDs of one moment: no statement has both, so the place is read twice."""
    for _ in range(_LOOKS):
        before = _status(session, sql.MASTER_STATUS)[:2]
        ((executed, state, server_id),) = session.rows(sql.MARIADB_GTIDS)
        if _status(session, sql.MASTER_STATUS)[:2] == before:
            break
    else:
        # a busy server: it can be asked about a place, by reading up to there
        ((executed,),) = session.rows(
            sql.Statement(sql.MARIADB_POSITION, (str(before[0]), int(before[1])))
        )
    position = Position(str(before[0]), int(before[1]))
    return position, _one_line(executed), _one_line(state), int(server_id)


def _identity(flavor: Flavor, uuid: str | None, server_id: int) -> str:
    return f"mariadb-{server_id}" if flavor is Flavor.MARIADB or not uuid else uuid
