"""A stop that comes between a transaction's BEGIN and its block leaves nobody locked out."""

from __future__ import annotations

import contextlib
import gc

import pytest
from sqlalchemy import make_url, text

from resources.clock import utc_now
from resources.state_store.database import Database


@pytest.fixture
def database(sqlite_url):
    """A file with one table, whose writers wait for a second only."""
    opened = Database(make_url(f"{sqlite_url}?timeout=1"), utc_now)
    with opened.write() as connection:
        connection.execute(text("CREATE TABLE said (word TEXT)"))
    yield opened
    opened.close()


def say(connection, word):
    connection.execute(text("INSERT INTO said VALUES (:word)"), {"word": word})


def words(database):
    with database.read() as connection:
        return connection.execute(text("SELECT word FROM said")).scalars().all()


def test_whoever_handles_the_stop_can_write(database):
    """The exception keeps the transaction alive, and is itself alive while it is handled."""
    cut_off = database.write()
    # Its __exit__ is never called: that is the case.
    say(cut_off.__enter__(), "never")

    with database.write() as connection:
        say(connection, "put back")

    assert words(database) == ["put back"]
    del cut_off
    gc.collect()
    with database.write() as connection:
        say(connection, "and again")
    assert words(database) == ["put back", "and again"]


def test_a_block_that_fails_is_rolled_back_as_ever(database):
    with contextlib.suppress(KeyError), database.write() as connection:
        say(connection, "never")
        raise KeyError

    with database.write() as connection:
        say(connection, "said")

    assert words(database) == ["said"]
