"""A dump: one connection on which the source sends its binlog until somebody hangs up."""

from __future__ import annotations

import contextlib
import struct
import time
from types import TracebackType
from typing import Self

import pymysql

from caretaker.binlog.frames import Packets
from caretaker.binlog.model import Checkpoint, Flavor, Mode
from caretaker.binlog.progress import mode_of
from caretaker.binlog.source_facts import Failover, Follower
from caretaker.errors import TransientError
from resources.mysql import commands
from resources.mysql.session import Session, told
from resources.mysql.settings import MYSQL_URL, MySQLSettings
from resources.sql import mysql as sql

_CHUNK = 1 << 18
#: Missed heartbeats after which a connection is dead, and the least that counts as silence.
_HEARTBEATS_MISSED = 3
_LEAST_SILENCE_S = 10.0


class Dump:
    """The payloads of a dump, as they come; made by `MySQLSource.dump`.

    Attributes:
        server_uuid: Of the server at the other end of this very connection.
        failover: Set where it is another one than the trail was read from: what is saved from then
            on is `failover.moved(checkpoint)`.
    """

    def __init__(
        self,
        session: Session,
        settings: MySQLSettings,
        *,
        server_uuid: str,
        failover: Failover | None,
        heartbeat_s: float,
    ) -> None:
        self.server_uuid = server_uuid
        self.failover = failover
        self._session = session
        self._settings = settings
        self._packets = Packets()
        self._silence_s = max(_HEARTBEATS_MISSED * heartbeat_s, _LEAST_SILENCE_S)
        self._waited_s = 0.0
        # PyMySQL's own reader would copy each packet twice; what it has buffered was read to the
        # end before the dump was asked for.
        self._socket = session.connection._sock  # noqa: SLF001

    def read(self, timeout_s: float) -> list[bytes]:
        """Return the payloads that came, for `Stream.feed`; none where none came in time.

        Raises:
            TransientError: The connection is gone, or dead: nothing came for three heartbeats.
            CorruptEventError: What came are no packets.
        """
        left = timeout_s
        while left > 0:
            began = time.monotonic()
            data = self._received(left)
            spent = time.monotonic() - began
            left -= spent
            if data is None:
                # Only what is spent here counts: a reader that was busy elsewhere heard nothing.
                self._waited_s += spent
                self._still_alive()
                continue
            self._waited_s = 0.0
            payloads = self._packets.feed(data)
            if payloads:
                return payloads
        return []

    def close(self) -> None:
        """Hang up; never fails, and ends a `read` in another thread."""
        self._session.connection._force_close()  # noqa: SLF001

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _received(self, timeout_s: float) -> bytes | None:
        try:
            self._socket.settimeout(timeout_s)
            data: bytes = self._socket.recv(_CHUNK)
        except TimeoutError:
            return None
        except (OSError, ValueError, AttributeError) as error:
            raise TransientError(
                f"{self._settings.shown}: the dump's connection broke: {error}", target=MYSQL_URL
            ) from error
        if not data:
            raise TransientError(
                f"{self._settings.shown} closed the dump's connection", target=MYSQL_URL
            )
        return data

    def _still_alive(self) -> None:
        if self._waited_s > self._silence_s:
            raise TransientError(
                f"{self._settings.shown} was silent for {self._waited_s:.1f} s, heartbeats and all",
                target=MYSQL_URL,
            )


def prepare(
    session: Session, us: Follower, checkpoint: Checkpoint, flavor: Flavor, heartbeat_s: float
) -> None:
    """Tell the session of a dump what it needs to know; heartbeats are always on."""
    for statement in sql.dump_settings(heartbeat_s=heartbeat_s, uuid=us.uuid):
        session.tell(statement)
    if flavor is Flavor.MARIADB:
        by_gtid = mode_of(checkpoint) is Mode.GTID
        for statement in sql.mariadb_dump_settings(checkpoint.gtid if by_gtid else None):
            session.tell(statement)


def begin(
    session: Session,
    settings: MySQLSettings,
    us: Follower,
    checkpoint: Checkpoint,
    flavor: Flavor,
    *,
    wait: bool,
) -> None:
    """Ask for the dump; its first packet, which may be an error, is for `Dump.read`."""
    if mode_of(checkpoint) is Mode.FILE:
        command = commands.dump_by_file(checkpoint.position, us, wait=wait)
    elif flavor is Flavor.MARIADB:
        command = commands.dump_by_file(None, us, wait=wait)
    else:
        command = commands.dump_by_gtid(checkpoint.gtid or "", us, wait=wait)
    _send(session, settings, command)


def register_as(session: Session, settings: MySQLSettings, us: Follower) -> None:
    """Make us a replica that SHOW REPLICAS shows; needs REPLICATION SLAVE, and proves it."""
    _send(session, settings, commands.register(us))
    try:
        session.connection._read_ok_packet()  # noqa: SLF001
    except (pymysql.MySQLError, OSError) as error:
        raise told(error, settings) from error


def _send(session: Session, settings: MySQLSettings, command: bytes) -> None:
    connection = session.connection
    try:
        connection._write_bytes(struct.pack("<I", len(command)) + command)  # noqa: SLF001
    except (pymysql.MySQLError, OSError) as error:
        raise told(error, settings) from error
    connection._next_seq_id = 1  # noqa: SLF001


def hang_up(session: Session) -> None:
    """Close without a word: on a dump's connection the server listens no more."""
    with contextlib.suppress(Exception):
        session.connection._force_close()  # noqa: SLF001
