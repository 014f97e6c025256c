"""CrateDB as a Dagster resource."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from resources.cratedb.client import CrateDBClient
from resources.cratedb.settings import (
    CA_CERT,
    CONNECTION_STRING,
    PASSWORD,
    SSL_VERIFY,
    USERNAME,
    CrateDBSettings,
)
from resources.variables import bound

#: Which field takes the value of which variable.
_VARIABLES = {
    "hosts": CONNECTION_STRING,
    "username": USERNAME,
    "password": PASSWORD,
    "ssl_verify": SSL_VERIFY,
    "ca_cert": CA_CERT,
}


class CrateDBResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A CrateDB cluster.

    The fields take the very texts of the `CRATE_*` variables, so that a `dg.EnvVar` feeds each and
    a broken one is reported by the variable's name, whoever set it.
    """

    hosts: str = ""
    username: str = ""
    password: str = ""
    ssl_verify: str = ""
    ca_cert: str = ""
    statement_timeout_s: float = 60.0

    @classmethod
    def from_variables(cls, environ: Mapping[str, str] = os.environ) -> CrateDBResource:
        """Bind each field to its variable, where that is set."""
        return cls(**bound(_VARIABLES, environ))

    @classmethod
    def with_values(cls, environ: Mapping[str, str]) -> CrateDBResource:
        """Take the values themselves, for whoever works without a run."""
        values: dict[str, Any] = {
            field: environ.get(variable, "") for field, variable in _VARIABLES.items()
        }
        return cls(**values)

    @property
    def settings(self) -> CrateDBSettings:
        """The fields, checked."""
        return CrateDBSettings.from_environment(
            {variable: getattr(self, field) for field, variable in _VARIABLES.items()},
            statement_timeout_s=self.statement_timeout_s,
        )

    @contextmanager
    def client(self) -> Iterator[CrateDBClient]:
        """A client for the length of the block; nothing is sent before it is used."""
        with CrateDBClient(self.settings) as client:
            yield client
