"""A MySQL or MariaDB as the source of an audit trail.

with MySQLSource(settings) as source:
    problems = source.check()
    checkpoint = source.at("current")
    with source.dump(checkpoint, heartbeat_s=1.0) as dump:
        while True:
            for payload in dump.read(1.0):
                for item in stream.feed(payload):
                    ...
"""

from __future__ import annotations

from types import TracebackType
from typing import Self
from uuid import uuid4

from caretaker.binlog import preflight
from caretaker.binlog.charsets import Charsets
from caretaker.binlog.continuity import continues
from caretaker.binlog.gaps import beyond
from caretaker.binlog.gtid import GtidSet, MariadbPosition
from caretaker.binlog.model import Checkpoint, Flavor, Mode, Position
from caretaker.binlog.source_facts import (
    Failover,
    Follower,
    Problem,
    Progression,
    SourceFacts,
)
from caretaker.binlog.tablemap import KnownTypes
from caretaker.errors import (
    CaseError,
    InvalidSettingError,
    LostPositionError,
    RefusedError,
    TransientError,
)
from resources.mysql import dump as dumps
from resources.mysql import facts as asked
from resources.mysql import probes, tables
from resources.mysql.charsets import charsets_of
from resources.mysql.dump import Dump
from resources.mysql.follower import follower
from resources.mysql.known_types import AskedTypes, Remembered
from resources.mysql.session import Session
from resources.mysql.settings import MYSQL_URL, MySQLSettings
from resources.sql import mysql as sql

#: Where nothing is known of a place in a file: the first rotate of the dump says it.
NOWHERE = Position("", 0)

_PLACES = "earliest, current, gtid:<set or position> or file:<name>:<pos>"


class MySQLSource:
    """One source; nothing is sent before the first call. Not for two threads at a time.

    Every method may raise TransientError for what may pass (connection lost, server restarting),
    RefusedError for what will not (wrong password, missing privilege) and InvalidSettingError for
    a MYSQL_URL that cannot work. No message has the password.

    Args:
        settings: Where it is.
        name: Who follows it. Two that follow one source at a time need two names, or the server
            ends the dump of the one for the other's.
    """

    def __init__(self, settings: MySQLSettings, name: str = "audit") -> None:
        self.settings = settings
        self.follower = follower(name, settings.server_id)
        # For short looks while the dump itself goes on, and somebody else looks, too: under one
        # name they would end each other's, and half a look reads as a binlog that began anew.
        self._aside = follower(f"{name}, aside {uuid4()}")
        self._session: Session | None = None

    def flavor(self) -> Flavor:
        """Which of the two it is."""
        with self._asking() as session:
            return asked.flavor_of(session)

    def progression(self) -> Progression:
        """How far the source is, and what it still has."""
        with self._asking() as session:
            return asked.progression(session, self.settings.mode)

    def facts(self) -> SourceFacts:
        """Everything that `check` judges."""
        with self._asking() as session:
            return asked.read(session, self.settings, self.settings.mode, self._aside)

    def check(self) -> list[Problem]:
        """Return what keeps the trail from being whole; those that are `blocking` come first."""
        return preflight.problems(self.facts(), self.follower, self.settings.mode)

    def now(self, seq: int = 0) -> Checkpoint:
        """Return the end of the binlog."""
        return self.progression().current(seq)

    def earliest(self, seq: int = 0) -> Checkpoint:
        """Return the beginning of the oldest binlog that is still there."""
        return self.progression().earliest(seq)

    def at(self, text: str, seq: int = 0) -> Checkpoint:
        """Return the place that an operator names.

        `earliest`, `current`, `gtid:<set of MySQL, position of MariaDB>`, `file:<name>:<pos>`.
        """
        if text == "current":
            return self.now(seq)
        if text == "earliest":
            return self.earliest(seq)
        kind, colon, rest = text.partition(":")
        if kind == "gtid" and colon:
            return Checkpoint(self._gtid(rest), NOWHERE, seq)
        if kind == "file" and colon:
            name, dot, pos = rest.rpartition(":")
            if dot and pos.isascii() and pos.isdigit():
                return Checkpoint(None, Position(name, int(pos)), seq)
        raise InvalidSettingError("from", text, _PLACES)

    def _gtid(self, text: str) -> str:
        try:
            if self.flavor() is Flavor.MARIADB:
                return str(MariadbPosition.parse(text))
            return str(GtidSet.parse(text))
        except CaseError as error:
            raise InvalidSettingError("from", f"gtid:{text}", str(error)) from error

    def verify(self, checkpoint: Checkpoint, server_uuid: str | None = None) -> Failover | None:
        """Return a failover if another server goes on where the checkpoint ends, else None.

        Args:
            checkpoint: Where the trail ends.
            server_uuid: `SourceFacts.server_uuid` of the server it was read from, if known.

        Raises:
            LostPositionError: Nobody goes on there: purged, another history, begun anew. `target`
                is the set that is missing.
        """
        with self._asking() as session:
            return self._judged(session, checkpoint, server_uuid)[1]

    def beyond(self, checkpoint: Checkpoint, server_uuid: str | None, lost: str) -> Checkpoint:
        """Return where a trail goes on once somebody accepts what `verify` named as lost."""
        with self._asking() as session:
            source = asked.progression(session, self._mode(checkpoint))
        same = server_uuid is None or server_uuid == source.server_uuid
        anew = checkpoint.begun_s is None
        if same and checkpoint.begun_s is not None and source.logs:
            oldest = source.logs[0].name
            begun_s = probes.begun_at_s(self.settings, self._aside, oldest, source.flavor)
            anew = begun_s > checkpoint.begun_s
        return beyond(checkpoint, lost, source, same_server=same, anew=anew)

    def stops_at(
        self, checkpoint: Checkpoint, server_uuid: str | None = None
    ) -> tuple[str, Checkpoint] | None:
        """Return the next transaction, if its rows are lost though it is there, and what follows.

        An XA COMMIT of rows that were prepared before the trail began, an incident: reading comes
        to a place that it cannot pass. None where the next transaction can be read.
        """
        flavor = self.flavor()
        with self._dump(checkpoint, server_uuid, self._aside, wait=False) as dump:
            return probes.stops_at(dump, checkpoint, flavor)

    def dump(
        self,
        checkpoint: Checkpoint,
        *,
        server_uuid: str | None = None,
        wait: bool = True,
        heartbeat_s: float = 5.0,
    ) -> Dump:
        """Begin to read what follows a checkpoint, verified on the dump's own connection.

        With `wait` it never ends by itself; without, it ends with what is there now (`EndOfLog`).
        Raises as `verify` does; there may be another server behind the same address now.
        """
        return self._dump(
            checkpoint, server_uuid, self.follower, wait=wait, heartbeat_s=heartbeat_s
        )

    def _dump(
        self,
        checkpoint: Checkpoint,
        server_uuid: str | None,
        us: Follower,
        *,
        wait: bool,
        heartbeat_s: float = 5.0,
    ) -> Dump:
        session = Session(self.settings)
        try:
            source, failover = self._judged(session, checkpoint, server_uuid)
            dumps.prepare(session, us, checkpoint, source.flavor, heartbeat_s)
            dumps.register_as(session, self.settings, us)
            dumps.begin(session, self.settings, us, checkpoint, source.flavor, wait=wait)
        except BaseException:
            dumps.hang_up(session)
            raise
        return Dump(
            session,
            self.settings,
            server_uuid=source.server_uuid,
            failover=failover,
            heartbeat_s=heartbeat_s,
        )

    def _judged(
        self, session: Session, checkpoint: Checkpoint, server_uuid: str | None
    ) -> tuple[Progression, Failover | None]:
        source = asked.progression(session, self._mode(checkpoint))
        failover = continues(checkpoint, server_uuid, source)
        if failover is None:
            probes.goes_on_here(self.settings, self._aside, checkpoint, source)
        return source, failover

    def _mode(self, checkpoint: Checkpoint) -> Mode | None:
        """A checkpoint by file is read by file, even from a source that has GTIDs by now."""
        return Mode.FILE if checkpoint.gtid is None else self.settings.mode

    def purge_margin_s(
        self, checkpoint: Checkpoint, server_uuid: str | None = None
    ) -> float | None:
        """Return the seconds until the source may remove what was not read yet.

        0 where it already has. None where it removes nothing by itself. It removes whole files, by
        the time they were written last: that of the file that is read now is when the next one was
        begun.
        """
        with self._asking() as session:
            facts = SourceFacts(
                flavor=asked.flavor_of(session),
                version=session.version,
                server_uuid="",
                server_id=0,
                user="",
                settings=asked.variables(session),
                progression=None,
            )
            keeps_s = preflight.expires_after_s(facts)
            source = asked.progression(session, self._mode(checkpoint))
            try:
                continues(checkpoint, server_uuid, source)
            except LostPositionError:
                return 0.0
            if keeps_s is None:
                return None
            ((now,),) = session.rows(sql.NOW)
        names = [log.name for log in source.logs]
        # A file of another server says nothing here: then the oldest may be the one.
        at = names.index(checkpoint.position.file) if checkpoint.position.file in names else 0
        if at == len(names) - 1:
            return keeps_s
        try:
            left = probes.begun_at_s(self.settings, self._aside, names[at + 1], source.flavor)
        except TransientError:
            raise
        except RefusedError as error:
            raise TransientError(f"{names[at + 1]}: {error}") from error
        return left + keeps_s - float(now)

    def known_types(self, remembered: Remembered = lambda _db, _table: None) -> KnownTypes:
        """Return the types of MariaDB that only information_schema tells: for `TableMaps`.

        Of MariaDB it is an `AskedTypes`, to be told of DDL statements; `remembered` is for those
        of tables that are gone.
        """
        return AskedTypes(self.settings, remembered) if self.flavor() is Flavor.MARIADB else {}

    def charsets(self) -> Charsets:
        """Return what makes text of the source's bytes: for `RowsEncoder`."""
        with self._asking() as session:
            return charsets_of(session, self.settings)

    def table(self, name: str) -> tables.Table:
        """Return `db.table` as it is now; RefusedError where there is none."""
        with self._asking() as session:
            return tables.describe(session, name)

    def snapshot(self) -> tables.Snapshot:
        """Return all tables as of one moment, on a connection of its own; close it."""
        return tables.Snapshot(self.settings, self.settings.mode)

    def close(self) -> None:
        """Close the connection that questions are asked on."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _asking(self) -> Asking:
        return Asking(self)


class Asking:
    """The connection for questions, opened again when it broke since the last one."""

    def __init__(self, source: MySQLSource) -> None:
        self._source = source

    def __enter__(self) -> Session:
        source = self._source
        if source._session is not None and not _answers(source._session):  # noqa: SLF001
            source.close()
        if source._session is None:  # noqa: SLF001
            source._session = Session(source.settings)  # noqa: SLF001
        return source._session  # noqa: SLF001

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, TransientError):
            self._source.close()


def _answers(session: Session) -> bool:
    try:
        session.connection.ping(reconnect=False)
    except Exception:  # noqa: BLE001 - whatever it is, a new connection will say it better
        return False
    return True


def open_source(url: str, name: str = "audit") -> MySQLSource:
    """Return the source of a URL; InvalidSettingError, naming MYSQL_URL, for one that is none."""
    if not url.strip():
        raise InvalidSettingError(MYSQL_URL, "nothing", "mysql://user:password@host:3306/")
    return MySQLSource(MySQLSettings.from_url(url), name)
