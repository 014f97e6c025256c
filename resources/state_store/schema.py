"""Bring a store's tables up to date, once, however many processes start at the same moment."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from caretaker.errors import RefusedError
from resources.state_store.address import place
from resources.state_store.database import Database
from resources.state_store.failures import missing_table
from resources.state_store.tables import VERSION_TABLE

#: The newest revision, written down so that opening a store need not import Alembic and read its
#: scripts (some 100 ms, for every Dagster step); a test compares it with them.
HEAD = "0002"

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

#: "caretake" in ASCII: the advisory lock of whoever migrates.
_MIGRATION_LOCK = 0x6361726574616B65


def migrate(database: Database) -> None:
    """Upgrade the tables to HEAD; where they are there already, one query and no more.

    Raises RefusedError where a newer caretaker made them.
    """
    if _version(database) == HEAD:
        return
    # On sqlite the transaction itself keeps others out: BEGIN IMMEDIATE, and DDL is part of it.
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        _upgrade(connection, place(database.url))


def _version(database: Database) -> str | None:
    """The revision in the store, or None where it has no tables yet."""
    with database.read() as connection:
        try:
            found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
        except DBAPIError as error:
            if missing_table(error):
                return None
            raise
        return found.scalar_one_or_none()


def _upgrade(connection: Connection, where: str) -> None:
    # Imported here: only the first process on a new store needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    found = context.get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise RefusedError(
            f"the state store ({where}) has the tables of a newer caretaker"
            f" (revision {found}, this one knows {HEAD})",
            hint="install that version here too",
        )
    command.upgrade(config, "head")
