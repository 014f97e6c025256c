"""A source with a database of its own, an empty trail, and syncers that run without Dagster."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pymongo
from pymongo.errors import PyMongoError

from caretaker.binlog.policy import SyncPolicy
from ops.binlog_parts import Parts
from ops.binlog_syncer import Summary, Syncer
from ops.events import Event
from resources.mongodb.offsets import Holder
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.trail import Trail
from resources.mysql.source import open_source
from resources.mysql.zstd import decompress

#: Longer than any wait of a test that passes.
PATIENCE_S = 180.0


class Running:
    """A syncer in a thread of its own."""

    def __init__(self, syncer: Syncer, told: list[Event]) -> None:
        self.syncer = syncer
        self.told = told
        self.summary: Summary | None = None
        self.failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self.syncer:
                self._ready.set()
                self.summary = self.syncer.run()
        except BaseException as error:  # noqa: BLE001 - the test judges it
            self.failure = error
        finally:
            self._ready.set()

    def ready(self) -> Running:
        assert self._ready.wait(PATIENCE_S)
        return self

    def stop(self) -> Summary:
        self.ready()
        self.syncer.stop()
        return self.end()

    def end(self) -> Summary:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure
        assert self.summary is not None
        return self.summary


class Bench:
    """One source database and one trail."""

    def __init__(self, server: Any, settings: MongoDBSettings, name: str) -> None:
        self.server = server
        self.settings = settings
        self.name = name
        self.told: list[Event] = []
        self.uri = server.url

    def __enter__(self) -> Self:
        self.sql(f"CREATE DATABASE {self.name}")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.run(f"DROP DATABASE IF EXISTS {self.name}")
        # One of the test's own is gone by now.
        with contextlib.suppress(PyMongoError), self.mongo(5.0) as client:
            client.drop_database(self.name)

    def sql(self, *statements: str) -> None:
        """Run statements in the source, in a transaction each."""
        self.server.run(*statements)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Callable[[str], Any]]:
        """Run statements in one transaction of the bench's database."""
        connection = self.server.connect(autocommit=False, database=self.name)
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor.execute
            connection.commit()

    @contextlib.contextmanager
    def mongo(self, within_s: float = 30.0) -> Iterator[Any]:
        with pymongo.MongoClient[dict[str, Any]](
            self.settings.uri, tz_aware=True, serverSelectionTimeoutMS=int(within_s * 1000)
        ) as client:
            yield client

    def policy(self, **options: Any) -> SyncPolicy:
        given = {"source": self.name, "include": [rf"{self.name}\..*"], "flush_after_s": 0.05}
        return SyncPolicy.checked(**{**given, **options})

    def setup(self) -> None:
        with Trail.open(self.settings) as trail:
            trail.setup()

    @contextlib.contextmanager
    def syncer(self, *, secret: bytes = b"", **options: Any) -> Iterator[Syncer]:
        """A syncer that nobody has entered yet."""
        policy = self.policy(**options)
        cancel = threading.Event()
        with Trail.open(self.settings, Protocol(policy.protocol), cancel=cancel) as trail:
            yield Syncer(
                Parts(
                    open_source=lambda: open_source(self.uri, policy.source),
                    trail=trail,
                    holder=Holder("test"),
                    say=self.told.append,
                    decompress=decompress,
                    secret=secret,
                    cancel=cancel,
                ),
                policy,
            )

    def sync(self, **options: Any) -> Summary:
        """Run to the source's end, and return how it ended."""
        with self.syncer(**{"until_current": True, **options}) as syncer, syncer:
            return syncer.run()

    @contextlib.contextmanager
    def running(self, **options: Any) -> Iterator[Running]:
        """A syncer that runs beside the test."""
        with self.syncer(**options) as syncer:
            running = Running(syncer, self.told)
            try:
                yield running.ready()
            finally:
                if running.failure is None and running.summary is None:
                    running.stop()

    def documents(self) -> list[dict[str, Any]]:
        with self.mongo() as client:
            return list(client[self.name].row_changes.find().sort("seq", 1))

    def rows(self, table: str | None = None) -> list[dict[str, Any]]:
        """Documents of rows, as (op, pk, chg)."""
        return [
            each
            for each in self.documents()
            if each["op"] in "iud" and table in (None, each["meta"]["tbl"])
        ]

    def offset(self) -> dict[str, Any]:
        with self.mongo() as client:
            found = client[self.name].binlog_offsets.find_one({"_id": self.name})
            assert found is not None
            return dict(found)

    def offset_or_none(self) -> dict[str, Any] | None:
        with self.mongo() as client:
            found = client[self.name].binlog_offsets.find_one(
                {"_id": self.name, "gtid": {"$ne": None}}
            )
            return None if found is None else dict(found)

    def said(self) -> list[str]:
        return [event.sentence() for event in self.told]


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Return what a condition returns as soon as that is true; fail where it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return found
