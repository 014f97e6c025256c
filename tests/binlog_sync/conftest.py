"""A source, a trail, and a syncer between them: the real ones."""

from __future__ import annotations

import itertools
import os

import pytest

from resources.mongodb.settings import MongoDBSettings
from tests.binlog_sync.bench import Bench
from tests.binlog_sync.losing import BY_FILE
from tests.binlog_sync.shell import Shell

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A database's name that nobody else has, in source and trail."""
    return f"sync_{os.getpid()}_{next(_numbers)}"


@pytest.fixture(params=["mysql", "mariadb"])
def source_server(request):
    """Both kinds of source, one after the other."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture(params=["MySQL", "MySQL by file", "MariaDB"])
def forgetful_server(request):
    """Give a source of one's own, that may forget its binlogs."""
    if request.param == "MariaDB":
        return request.getfixturevalue("start_mariadb")()
    options = BY_FILE if request.param == "MySQL by file" else {}
    return request.getfixturevalue("start_mysql")(**options)


@pytest.fixture
def bench(mysql_server, mongodb_server, name):
    """MySQL, a database of one's own in it, and an empty trail."""
    with Bench(mysql_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        yield bench


@pytest.fixture
def either_bench(source_server, mongodb_server, name):
    """The same with MySQL and with MariaDB."""
    with Bench(source_server, MongoDBSettings(mongodb_server.url, name), name) as bench:
        yield bench


@pytest.fixture
def caretaker(bench, tmp_path, capsys):
    """`caretaker binlog` against the bench."""
    return Shell(bench, tmp_path, capsys)


@pytest.fixture
def rows(bench):
    """Three rows, one changed, one deleted."""
    bench.sql(
        f"CREATE TABLE {bench.name}.t (id INT PRIMARY KEY, v VARCHAR(20))",
        f"INSERT INTO {bench.name}.t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        f"UPDATE {bench.name}.t SET v = 'B' WHERE id = 2",
        f"DELETE FROM {bench.name}.t WHERE id = 3",
    )
    return f"{bench.name}.t"
