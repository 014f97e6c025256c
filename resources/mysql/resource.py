"""A MySQL or MariaDB as a Dagster resource."""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg

from resources.mysql.settings import MYSQL_URL
from resources.mysql.source import MySQLSource, open_source


class MySQLResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The source of the audit trail; `url` is the very text of `MYSQL_URL`."""

    url: str = ""

    @classmethod
    def from_variables(cls, environ: Mapping[str, str] = os.environ) -> MySQLResource:
        """Bind the field to its variable, by name: the value stays out of Dagster's storage.

        Only if it is set: Dagster refuses to start a run over an EnvVar without a value.
        """
        return cls(url=dg.EnvVar(MYSQL_URL)) if environ.get(MYSQL_URL) else cls()

    def open(self, name: str = "audit") -> MySQLSource:
        """Return the source; `name` is who follows it, one for each that reads at a time."""
        return open_source(self.url, name)
