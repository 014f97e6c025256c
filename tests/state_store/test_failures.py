"""What a person reads when the store itself is in trouble: never a driver's words alone."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from caretaker.errors import RefusedError, TransientError, UnknownResultError
from resources.state_store import StateStore
from resources.state_store.tables import locks


def with_pragma(store, text):
    """Change the one connection that the store has at rest, and that it will use next."""
    with store._database._engine.connect() as connection:
        connection.exec_driver_sql(text)


def backend_of(connection):
    return connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()


def terminate(postgres_url, pid):
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def look_after_losing_the_connection(store, postgres_url, *, repeatable):
    with store._database.write(repeatable=repeatable) as connection:
        terminate(postgres_url, backend_of(connection))
        connection.execute(sa.select(locks))


def test_a_file_locked_for_too_long_is_worth_another_try(sqlite_url, new_ticket):
    with (
        StateStore.open(sqlite_url) as other,
        StateStore.open(sqlite_url + "?timeout=0.05") as store,
    ):
        with other._database.write(), pytest.raises(TransientError, match=r"locked.*process"):
            store.open_ticket(new_ticket())
        store.open_ticket(new_ticket())


def test_a_full_disk_is_said_in_words(sqlite_url, new_ticket):
    with StateStore.open(sqlite_url) as store:
        ticket = store.open_ticket(new_ticket())
        with_pragma(store, "PRAGMA max_page_count = 1")
        with pytest.raises(RefusedError, match="the disk is full") as refused:
            store.begin_statement(ticket, "x" * 100_000)
        assert "free space" in refused.value.hint
        assert store.statements(ticket.id) == []


def test_a_read_only_file_is_said_in_words(sqlite_url, new_ticket):
    with StateStore.open(sqlite_url) as store:
        with_pragma(store, "PRAGMA query_only = ON")
        with pytest.raises(RefusedError, match="read-only"):
            store.open_ticket(new_ticket())


def test_a_directory_that_is_missing_is_said_in_words(tmp_path):
    with pytest.raises(RefusedError, match="cannot be opened or created"):
        StateStore.open(f"sqlite:///{tmp_path}/missing/caretaker.db")


def test_a_file_that_is_something_else_is_left_alone(tmp_path):
    path = tmp_path / "caretaker.db"
    path.write_text("not a database, and dear to somebody\n" * 100)
    with pytest.raises(RefusedError, match="no sqlite database"):
        StateStore.open(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database")


def test_a_server_that_is_not_there_is_worth_another_try():
    with pytest.raises(
        TransientError, match=r"PostgreSQL at 127\.0\.0\.1:1, database state"
    ) as told:
        StateStore.open("postgresql://me:s3cret@127.0.0.1:1/state")
    assert "s3cret" not in str(told.value)
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


def test_a_database_that_does_not_exist_is_refused(postgres_url):
    missing = sa.make_url(postgres_url).set(database="missing", password="s3cret")
    with pytest.raises(RefusedError, match='database "missing" does not exist') as told:
        StateStore.open(missing)
    assert "s3cret" not in str(told.value)


def test_a_password_that_the_server_repeats_is_not_passed_on(postgres_url):
    """People do set the two alike, and the server says 'role "..." does not exist'."""
    alike = sa.make_url(postgres_url).set(username="s3cret", password="s3cret")
    with pytest.raises(RefusedError, match="does not exist") as told:
        StateStore.open(alike)
    assert "s3cret" not in str(told.value)


def test_an_option_that_libpq_does_not_know_is_refused_without_the_password(postgres_url):
    odd = sa.make_url(postgres_url).set(password="s3cret").update_query_dict({"colour": "s3cret"})
    with pytest.raises(RefusedError, match="colour") as told:
        StateStore.open(odd)
    assert "s3cret" not in str(told.value)


def test_a_user_without_rights_is_refused(postgres_url, new_ticket):
    with StateStore.open(postgres_url) as store:
        with store._database._engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            connection.commit()
        with pytest.raises(RefusedError, match="read-only"):
            store.open_ticket(new_ticket())


def test_a_restarted_server_costs_nothing_at_rest(postgres_url, new_ticket):
    with StateStore.open(postgres_url) as store:
        with store._database.read() as connection:
            pid = backend_of(connection)
        terminate(postgres_url, pid)
        assert store.open_ticket(new_ticket()).id == 1


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_connection_lost_before_commit_wrote_nothing(postgres_url, repeatable):
    with StateStore.open(postgres_url) as store:
        with pytest.raises(TransientError, match="not available"):
            look_after_losing_the_connection(store, postgres_url, repeatable=repeatable)
        assert store.lock("c1") is None


@pytest.mark.parametrize(
    ("repeatable", "told"), [(True, TransientError), (False, UnknownResultError)]
)
def test_a_connection_lost_in_commit_is_unknown_where_asking_twice_does_harm(
    postgres_url, repeatable, told
):
    with StateStore.open(postgres_url) as store:
        with (
            pytest.raises(told),
            store._database.write(repeatable=repeatable) as connection,
        ):
            terminate(postgres_url, backend_of(connection))
        assert store.lock("c1") is None


def test_a_row_locked_for_too_long_is_worth_another_try(postgres_url, new_ticket):
    with StateStore.open(postgres_url) as store, StateStore.open(postgres_url) as other:
        ticket = store.open_ticket(new_ticket())
        with store._database._engine.connect() as connection:
            connection.exec_driver_sql("SET lock_timeout = '50ms'")
            connection.commit()
        with other._database.write() as connection:
            connection.exec_driver_sql("SELECT * FROM caretaker_tickets FOR UPDATE")
            with pytest.raises(TransientError, match="not available"):
                store.advance(ticket, attempts=1)
        store.advance(ticket, attempts=2)
