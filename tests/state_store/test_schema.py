"""The tables: made once, the same by migration and by description, and never by guesswork."""

from __future__ import annotations

from itertools import pairwise

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from caretaker.errors import RefusedError
from resources.state_store import StateStore, schema
from resources.state_store.tables import VERSION_TABLE, metadata


def engine_of(store):
    return store._database._engine


def definitions(connection):
    """Every table and index as the database itself spells it, where-clauses included."""
    if connection.dialect.name == "sqlite":
        asked = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    else:
        asked = """
            SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL
            SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid > 0
            """
    found = connection.exec_driver_sql(asked)
    ours = {name: text for name, text in found if name.startswith("caretaker_")}
    return {name: text for name, text in ours.items() if not name.startswith(VERSION_TABLE)}


def test_migrations_and_tables_agree(store):
    with engine_of(store).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": VERSION_TABLE,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_indexes_agree_down_to_their_conditions(store):
    """Alembic's comparison does not look at WHERE, and that one is the lock on a table."""
    with engine_of(store).begin() as connection:
        migrated = definitions(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        described = definitions(connection)
    assert "WHERE" in migrated["caretaker_one_open_ticket"].upper()
    assert migrated == described


def test_the_newest_revision_is_the_one_written_down():
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_opening_again_changes_nothing_and_needs_no_alembic(url, monkeypatch, new_ticket):
    with StateStore.open(url) as store:
        ticket = store.open_ticket(new_ticket())
    monkeypatch.setattr(schema, "_upgrade", lambda *_: pytest.fail("migrated again"))
    with StateStore.open(url) as store:
        assert store.ticket(ticket.id) == ticket


def test_tables_of_a_newer_caretaker_are_left_alone(store, url):
    with engine_of(store).begin() as connection:
        connection.exec_driver_sql("UPDATE caretaker_version SET version_num = '9999'")
    with pytest.raises(RefusedError, match=r"newer caretaker \(revision 9999"):
        StateStore.open(url)


def test_it_shares_a_database_with_dagster(url, new_ticket):
    """Dagster's own Alembic table is there first, at a revision that is none of ours."""
    with StateStore.open(url) as prepared:
        engine = engine_of(prepared)
        with engine.begin() as connection:
            metadata.drop_all(connection)
            connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('29a8e9d74220')")
    with StateStore.open(url) as store:
        store.open_ticket(new_ticket())
        with engine_of(store).connect() as connection:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars()
            assert found.all() == ["29a8e9d74220"]


#: Alembic is loaded before the start, or the slowest import would keep them apart.
OPEN = """
import alembic.command
from resources.state_store import StateStore
go()
with StateStore.open(arguments[0]) as store:
    print(store.open_tickets())
"""


def test_processes_that_start_at_once_on_a_new_store_all_get_it(url, run_race):
    assert run_race(OPEN, [(url,)] * 4) == ["[]\n"] * 4


def test_every_commit_is_on_disk(store):
    with engine_of(store).connect() as connection:
        if connection.dialect.name == "sqlite":
            asked = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            ]
            assert asked == ["wal", 2, 30000, 1]
        else:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_a_server_that_does_not_wait_for_the_disk_is_overruled(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET synchronous_commit = off")
    with StateStore.open(postgres_url) as store, engine_of(store).connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_revisions_form_one_line():
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    line = list(ScriptDirectory.from_config(config).walk_revisions())
    assert all(new.down_revision == old.revision for new, old in pairwise(line))
    assert line[-1].down_revision is None
