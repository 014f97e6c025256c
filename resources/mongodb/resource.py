"""MongoDB as a Dagster resource."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from resources.mongodb.failures import mongodb_errors
from resources.mongodb.retries import OnEvent, nobody
from resources.mongodb.settings import DATABASE, URI, MongoDBSettings, Protocol
from resources.mongodb.trail import Trail
from resources.variables import bound

#: Which field takes the value of which variable.
_VARIABLES = {"uri": URI, "database": DATABASE}


class MongoDBResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where the audit trail is kept."""

    uri: str = ""
    database: str = ""

    @classmethod
    def from_variables(cls, environ: Mapping[str, str] = os.environ) -> MongoDBResource:
        """Bind each field to its variable, where that is set."""
        return cls(**bound(_VARIABLES, environ))

    @property
    def settings(self) -> MongoDBSettings:
        """The fields, checked."""
        return MongoDBSettings.from_environment(
            {variable: getattr(self, field) for field, variable in _VARIABLES.items()}
        )

    @contextmanager
    def trail(
        self,
        protocol: Protocol = Protocol.STAGED,
        *,
        cancel: threading.Event | None = None,
        on_event: OnEvent = nobody,
    ) -> Iterator[Trail]:
        """A trail to write to, for the length of the block; transactions are proved first."""
        with Trail.open(self.settings, protocol, cancel=cancel, on_event=on_event) as trail:
            yield trail

    @contextmanager
    def reading(self) -> Iterator[Trail]:
        """A trail to read from, and to pause and resume; the driver's errors become ours."""
        settings = self.settings
        with mongodb_errors(settings), Trail.open_to_read(settings) as trail:
            yield trail
