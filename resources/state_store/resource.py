"""The state store as a Dagster resource."""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg
from pydantic import PrivateAttr

from resources.state_store.address import state_url
from resources.state_store.store import StateStore

_VARIABLE = "CARETAKER_STATE_URL"


class StateStoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Tickets, locks, audit and outcomes; sqlite under DAGSTER_HOME unless a URL says otherwise.

    Opened when it is first asked for and not when the run starts: a store that cannot be opened is
    then a step's clear failure instead of a resource's traceback.
    """

    url: str = ""
    _store: StateStore | None = PrivateAttr(default=None)

    @classmethod
    def from_variables(cls, environ: Mapping[str, str] = os.environ) -> StateStoreResource:
        """Bind the URL to its variable, by name, where it is set."""
        return cls(url=dg.EnvVar(_VARIABLE)) if environ.get(_VARIABLE) else cls()

    @property
    def store(self) -> StateStore:
        """The open store, the same one for the whole run."""
        if self._store is None:
            given = {_VARIABLE: self.url} if self.url else {}
            self._store = StateStore.open(state_url({**os.environ, **given}))
        return self._store

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Close the store when the run ends."""
        if self._store is not None:
            self._store.close()
            self._store = None
