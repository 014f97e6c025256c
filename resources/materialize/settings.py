"""Where Materialize and the strategy tables are, as two variables say it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from caretaker.errors import InvalidSettingError
from resources.sql.materialize import APPLICATION_NAME

DATABASE_URL = "DATABASE_URL"
STORE_URL = "CARETAKER_STRATEGY_STORE_URL"

_EXPECTED = "postgresql://user:password@host:6875/materialize?sslmode=require"
_SCHEMES = frozenset({"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"})

#: psycopg waits at least two seconds, whatever it is told.
CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """How to reach one of the two.

    Attributes:
        variable: What messages name: DATABASE_URL, or that of the tables.
        conninfo: For the driver; it may hold a password.
        timeout_s: Seconds that a statement may take before it is cancelled.
    """

    variable: str
    conninfo: str = field(repr=False)
    shown: str
    user: str
    password: str = field(repr=False)
    timeout_s: float = 30.0

    @classmethod
    def from_url(
        cls, text: str, variable: str = DATABASE_URL, *, timeout_s: float = 30.0
    ) -> DatabaseSettings:
        """Read a variable; what cannot work raises InvalidSettingError, without the password.

        >>> DatabaseSettings.from_url("postgresql://me:secret@mz:6875/materialize").shown
        'mz:6875'
        """
        text = text.strip()
        if not text:
            raise InvalidSettingError(variable, "nothing", _EXPECTED)
        scheme, slashes, rest = text.partition("://")
        if not slashes or scheme.lower() not in _SCHEMES or "\0" in text:
            raise InvalidSettingError(variable, _scheme(text), _EXPECTED)
        try:
            given: dict[str, Any] = conninfo_to_dict(f"postgresql://{rest}")
            urlsplit(f"postgresql://{rest}").port  # noqa: B018 - raises where it is none
        except (psycopg.Error, ValueError):
            # From None: the driver quotes what it could not parse, which may be the password.
            raise InvalidSettingError(variable, _scheme(text), _EXPECTED) from None
        if not given.get("host") and not given.get("hostaddr"):
            # libpq would go to a socket of this machine, or where PGHOST says.
            raise InvalidSettingError(variable, _scheme(text), f"a host: {_EXPECTED}")
        given.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
        # Whatever the URL calls us: by this name we leave ourselves out of the activity.
        given["application_name"] = APPLICATION_NAME
        host = str(given.get("host") or given["hostaddr"])
        return cls(
            variable=variable,
            conninfo=make_conninfo("", **given),
            shown=f"{host}:{given.get('port') or 5432}",
            user=str(given.get("user") or ""),
            password=str(given.get("password") or ""),
            timeout_s=timeout_s,
        )


def _scheme(text: str) -> str:
    match = re.match(r"[A-Za-z][A-Za-z0-9+]{0,30}(?=://)", text)
    return f"{match.group()}://..." if match else "a value that is no URL"
