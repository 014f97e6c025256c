"""A source and a sink for benchmarks: real servers, started here or named by the environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo

from lab.servers.errors import ServerUnavailableError
from lab.servers.mongodb import MongoDB
from lab.servers.mysql import MySQL
from lab.servers.sql import Sql

_CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Source:
    """A MySQL; `pids` are its processes, none where it runs elsewhere."""

    server: Sql
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Sink:
    """A MongoDB; `pids` are its processes, none where it runs elsewhere."""

    name: str
    url: str
    pids: tuple[int, ...]

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Return a client, to be closed."""
        return pymongo.MongoClient(self.url)


@contextlib.contextmanager
def source() -> Iterator[Source]:
    """Give CARETAKER_TEST_MYSQL_URL, else a MySQL of our own."""
    if given := os.environ.get("CARETAKER_TEST_MYSQL_URL"):
        yield Source(Sql(given), ())
        return
    with MySQL() as server:
        yield Source(server, (server.pid,))


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """Give CARETAKER_TEST_MONGODB_URL, else a DocumentDB, else the lab's MongoDB; each named."""
    if given := os.environ.get("CARETAKER_TEST_MONGODB_URL"):
        with pymongo.MongoClient[dict[str, Any]](given) as client:
            version = client.server_info()["version"]
        yield Sink(f"mongodb_{version}", given, ())
        return
    try:
        server = MongoDB()
    except ServerUnavailableError:
        with _lab_mongodb() as found:
            yield found
        return
    with server:
        yield Sink("documentdb_pg18", server.url, (server.front.pid, server.engine.pid))


@contextlib.contextmanager
def _lab_mongodb() -> Iterator[Sink]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lab.mongodb"], cwd=_CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    try:
        url = process.stdout.readline().strip() if process.stdout is not None else ""
        yield Sink("lab_mongodb", url, (process.pid,))
    finally:
        process.kill()
        process.communicate()
