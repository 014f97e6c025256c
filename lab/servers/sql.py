"""A MySQL or MariaDB that answers at a URL, ours or somebody's."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql


class Sql:
    """Statements for a server, each on a connection of its own."""

    def __init__(self, url: str) -> None:
        """Take `mysql://USER:PASSWORD@HOST:PORT/`, of a user who may do everything."""
        self._url = url

    @property
    def url(self) -> str:
        """As `MYSQL_URL` wants it."""
        return self._url

    def connect(self, **options: Any) -> Any:
        """Return a PyMySQL connection, autocommit on."""
        parts = urlsplit(self.url)
        return pymysql.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 3306,
            **{
                "user": unquote(parts.username or ""),
                "password": unquote(parts.password or ""),
                "autocommit": True,
                "connect_timeout": 10,
                "read_timeout": 120,
                # PyMySQL loads every authority of the machine for a connection with TLS: 40 ms.
                "ssl_disabled": parts.hostname in {"127.0.0.1", "localhost"},
                **options,
            },
        )

    def run(self, *statements: str) -> None:
        """Run statements in one session."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
