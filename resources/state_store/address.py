"""Where the store is: `CARETAKER_STATE_URL`, or a sqlite file under `$DAGSTER_HOME`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from caretaker.errors import InvalidSettingError

STATE_URL = "CARETAKER_STATE_URL"
DAGSTER_HOME = "DAGSTER_HOME"

#: The file under `$DAGSTER_HOME`, beside Dagster's own.
FILE_NAME = "caretaker.db"

_ALLOWED = "postgresql://user:password@host/database or sqlite:////absolute/path.db"

#: psycopg2 too: people paste the URL that their dagster.yaml needs, and it says the same place.
_POSTGRES = frozenset(
    {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgres+psycopg"}
)
_SQLITE = frozenset({"sqlite", "sqlite+pysqlite"})


def state_url(environ: Mapping[str, str], *, in_kubernetes: bool | None = None) -> URL:
    """Return the store's URL, ready for `StateStore.open`.

    `in_kubernetes` None: told by `KUBERNETES_SERVICE_HOST`, which every pod has. Raises
    InvalidSettingError naming the variable and what to set, without a password.
    """
    pod = "KUBERNETES_SERVICE_HOST" in environ if in_kubernetes is None else in_kubernetes
    text = environ.get(STATE_URL, "").strip()
    if text:
        url = parse_url(text)
    elif pod:
        # Before DAGSTER_HOME is looked at: setting that one would not help here.
        raise InvalidSettingError(STATE_URL, None, "postgresql://... inside a Kubernetes pod")
    else:
        url = URL.create("sqlite", database=str(_dagster_home(environ) / FILE_NAME))
    if pod and url.get_backend_name() == "sqlite":
        raise InvalidSettingError(
            STATE_URL, "sqlite", "postgresql://...; in Kubernetes a file dies with its pod"
        )
    return url


def parse_url(text: str) -> URL:
    """Return `text` as a URL that names its driver; InvalidSettingError shows its scheme at most.

    Only sqlite and PostgreSQL: one open ticket a table rests on a partial unique index, which
    others such as MySQL lack.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # From None: the ValueError of a bad port quotes what may be half of a password.
        raise InvalidSettingError(STATE_URL, _scheme(text), _ALLOWED) from None
    if url.drivername in _SQLITE:
        return _absolute_sqlite(url)
    if url.drivername in _POSTGRES:
        if "@" in (url.host or ""):
            raise InvalidSettingError(
                STATE_URL, _scheme(text), 'a password with "@" written as "%40"'
            )
        return url.set(drivername="postgresql+psycopg")
    raise InvalidSettingError(STATE_URL, _scheme(text), _ALLOWED)


def place(url: URL) -> str:
    """Name the store for a message: no user, no password, no options.

    >>> place(make_url("postgresql://me:secret@db:5432/state?password=other"))
    'PostgreSQL at db:5432, database state'
    """
    if url.get_backend_name() == "sqlite":
        return f"sqlite file {url.database}"
    # libpq takes the host from the query too, most often for a socket's directory.
    host = url.host or next(iter(url.normalized_query.get("host", ())), "localhost")
    return f"PostgreSQL at {host}:{url.port or 5432}, database {url.database}"


def _absolute_sqlite(url: URL) -> URL:
    if not url.database or not Path(url.database).is_absolute():
        # A relative file is another store in every working directory, each without the
        # other's tickets; a store in memory forgets them.
        raise InvalidSettingError(
            STATE_URL, f"{url.drivername}:///{url.database or ''}", "sqlite:////absolute/path.db"
        )
    return url


def _dagster_home(environ: Mapping[str, str]) -> Path:
    found = environ.get(DAGSTER_HOME)
    allowed = (
        "the absolute path of a writable directory, such as /var/lib/dagster"
        f" (or set {STATE_URL} to {_ALLOWED})"
    )
    if not found:
        raise InvalidSettingError(DAGSTER_HOME, found, allowed)
    home = Path(found)
    if not home.is_absolute() or not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise InvalidSettingError(DAGSTER_HOME, found, allowed)
    return home


def _scheme(text: str) -> str:
    match = re.match(r"[A-Za-z][A-Za-z0-9+]{0,30}(?=://)", text)
    return f"{match.group()}://..." if match else "a value that is no URL"
