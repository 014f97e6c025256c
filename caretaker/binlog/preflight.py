"""Whether a source can be followed without losing a change; if not, what to run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from caretaker.binlog.model import Flavor, Mode
from caretaker.binlog.source_facts import Follower, Problem, SourceFacts

#: What must be so, by setting; the same on both servers.
_REQUIRED = (
    ("binlog_format", "ROW"),
    ("binlog_row_image", "FULL"),
    ("binlog_row_metadata", "FULL"),
)
_SINCE = {Flavor.MYSQL: (8, 0, 14), Flavor.MARIADB: (10, 5, 0)}
_ON = frozenset(("ON", "1"))
_WEEK_S = 7 * 86_400
#: Since then MySQL does what a foreign key does by statements of its own, which are logged.
_LOGS_CASCADES = (9, 6, 0)


def problems(facts: SourceFacts, follower: Follower, mode: Mode | None = None) -> list[Problem]:
    """Return what keeps the trail from being whole, those that forbid to begin first.

    `mode` is what the operator asks for; None is what the source's settings say.
    """
    found = [
        *_version(facts),
        *_binlog(facts),
        *_gtids(facts, mode),
        *_privileges(facts),
        *_identity(facts, follower),
        *_keeping(facts),
        *_cascades(facts),
    ]
    return sorted(found, key=lambda problem: not problem.blocking)


def version_of(text: str) -> tuple[int, int, int]:
    """Return the three numbers of a server's version.

    >>> version_of("5.5.5-10.11.18-MariaDB-log")
    (10, 11, 18)
    """
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text.removeprefix("5.5.5-"))
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def logs_cascades(facts: SourceFacts) -> bool:
    """Whether the rows that a foreign key changes or deletes are in the binlog."""
    return (
        facts.flavor is Flavor.MYSQL
        and version_of(facts.version) >= _LOGS_CASCADES
        and facts.settings.get("innodb_native_foreign_keys", "OFF").upper() not in _ON
    )


def _version(facts: SourceFacts) -> Iterator[Problem]:
    since = _SINCE[facts.flavor]
    if version_of(facts.version) < since:
        needed = f"{'.'.join(map(str, since))} or newer, which logs names and signs of columns"
        yield Problem("version", facts.version, needed)


def _set(facts: SourceFacts, name: str, value: str) -> str:
    """The statement that changes a variable so that a restart does not undo it."""
    if facts.flavor is Flavor.MYSQL:
        return f"SET PERSIST {name} = '{value}'"
    return f"SET GLOBAL {name} = '{value}' and the same in my.cnf"


def _binlog(facts: SourceFacts) -> Iterator[Problem]:
    settings = facts.settings
    if settings.get("log_bin", "OFF").upper() not in _ON:
        yield Problem(
            "log_bin", "OFF", "ON", "log_bin = binlog under [mysqld] of my.cnf, and a restart"
        )
    for name, needed in _REQUIRED:
        found = settings.get(name)
        # a variable that the version lacks: `_version` has said it
        if found is not None and found.upper() != needed:
            yield Problem(
                name,
                found,
                f"{needed}, from here on: sessions that are open keep theirs, and what is in the"
                " binlog stays as it is",
                _set(facts, name, needed),
            )
    if settings.get("binlog_checksum", "CRC32").upper() == "NONE":
        yield Problem(
            "binlog_checksum",
            "NONE",
            "CRC32, so that a damaged event is noticed",
            _set(facts, "binlog_checksum", "CRC32"),
            blocking=False,
        )
    if facts.flavor is Flavor.MARIADB and settings.get("encrypt_binlog", "OFF").upper() in _ON:
        yield Problem(
            "encrypt_binlog", "ON", "a server that decrypts what it sends", blocking=False
        )


def _gtids(facts: SourceFacts, mode: Mode | None) -> Iterator[Problem]:
    if facts.flavor is Flavor.MARIADB:
        return
    found = facts.settings.get("gtid_mode", "OFF").upper()
    turn_on = (
        "SET PERSIST enforce_gtid_consistency = ON, then gtid_mode = OFF_PERMISSIVE,"
        " ON_PERMISSIVE, ON, one after the other"
    )
    if found == "ON":
        return
    if found == "OFF" and mode is Mode.GTID:
        yield Problem("gtid_mode", "OFF", "ON, or mode=file in MYSQL_URL", turn_on)
    elif found == "OFF":
        needed = "ON to survive a failover: by file, only this very server can go on"
        yield Problem("gtid_mode", "OFF", needed, turn_on, blocking=False)
    elif mode is not Mode.FILE:
        needed = "ON or OFF: in between, transactions without a GTID are mixed in"
        yield Problem("gtid_mode", found, needed, "SET PERSIST gtid_mode = ON")


def _privileges(facts: SourceFacts) -> Iterator[Problem]:
    for privilege in sorted(facts.denied):
        yield Problem(
            f"privilege {privilege}",
            f"not granted to {facts.user}",
            "granted",
            _grant(privilege, facts.user),
        )
    if facts.columns_hidden:
        known = facts.flavor is Flavor.MARIADB
        reason = (
            "granted: only information_schema tells UUID and INET columns from BINARY"
            if known
            else "granted on the tables that verify, history and undo are used on"
        )
        yield Problem(
            "privilege SELECT",
            f"not granted to {facts.user}",
            reason,
            _grant("SELECT", facts.user),
            blocking=known,
        )


def _grant(privilege: str, user: str) -> str:
    name, _, host = user.rpartition("@")
    return f"GRANT {privilege} ON *.* TO {_literal(name)}@{_literal(host)}"


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _identity(facts: SourceFacts, follower: Follower) -> Iterator[Problem]:
    other = "another number: ?server_id=N in MYSQL_URL"
    if facts.server_id == follower.server_id:
        yield Problem("server_id", f"{follower.server_id}, the source's own", other)
    if not facts.server_id:
        needed = "1 or more: with 0 the server refuses every replica"
        yield Problem("server_id of the source", "0", needed, _set(facts, "server_id", "1"))
    for replica in facts.replicas or ():
        if replica.server_id == follower.server_id and not _is_us(
            replica.uuid, replica.host, follower
        ):
            who = replica.host or replica.uuid or "a replica without a name"
            yield Problem("server_id", f"{replica.server_id}, taken by {who}", other)


def _is_us(uuid: str, host: str, follower: Follower) -> bool:
    """A dump of ours that a kill -9 left behind: the server ends it when the next one begins."""
    return uuid == follower.uuid if uuid else host == follower.name


def _keeping(facts: SourceFacts) -> Iterator[Problem]:
    seconds = expires_after_s(facts)
    if seconds is not None and seconds < _WEEK_S:
        yield Problem(
            "binlog_expire_logs_seconds",
            f"{seconds:.0f} ({seconds / 3600:.1f} h)",
            f"{_WEEK_S}: a sync that stands still for longer has lost changes",
            _set(facts, "binlog_expire_logs_seconds", str(_WEEK_S)).replace("'", ""),
            blocking=False,
        )


def expires_after_s(facts: SourceFacts) -> float | None:
    """Return how old a binlog gets before the source removes it; None for never by itself."""
    settings = facts.settings
    if settings.get("binlog_expire_logs_auto_purge", "ON").upper() not in _ON:
        return None
    seconds = float(settings.get("binlog_expire_logs_seconds", "0"))
    if not seconds:
        seconds = 86_400 * float(settings.get("expire_logs_days", "0"))
    return seconds or None


def _cascades(facts: SourceFacts) -> Iterator[Problem]:
    if facts.cascades and not logs_cascades(facts):
        shown = ", ".join(facts.cascades[:10])
        more = f" and {len(facts.cascades) - 10} more" if len(facts.cascades) > 10 else ""  # noqa: PLR2004
        yield Problem(
            "foreign keys that cascade",
            f"on {shown}{more}",
            "none: the rows that they change or delete are not in this server's binlog, and so not"
            " in the trail",
            blocking=False,
        )
