"""Materialize and the strategy tables as Dagster resources."""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg

from resources.materialize.client import Materialize
from resources.materialize.session import Session
from resources.materialize.settings import DATABASE_URL, STORE_URL, DatabaseSettings
from resources.materialize.store import StrategyStore


class MaterializeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The environment whose clusters are looked after.

    `url` is the very text of `DATABASE_URL`, `store_url` that of `CARETAKER_STRATEGY_STORE_URL`:
    where the three strategy tables are, if they are not in Materialize itself.
    """

    url: str = ""
    store_url: str = ""
    timeout_s: float = 30.0

    @classmethod
    def from_variables(cls, environ: Mapping[str, str] = os.environ) -> MaterializeResource:
        """Bind the fields to their variables, by name: the values stay out of Dagster's storage.

        Only where they are set: Dagster refuses to start a run over an EnvVar without a value.
        """
        names = {"url": DATABASE_URL, "store_url": STORE_URL}
        return cls(
            **{
                field: dg.EnvVar(name)  # type: ignore[arg-type] # what a field takes
                for field, name in names.items()
                if environ.get(name)
            }
        )

    def open(self) -> Materialize:
        """Return a client; close it. InvalidSettingError, naming DATABASE_URL, where it is none."""
        return Materialize(DatabaseSettings.from_url(self.url, timeout_s=self.timeout_s))

    def store(self, materialize: Materialize) -> StrategyStore:
        """Return the strategy tables: in Materialize, over its own connection, or elsewhere."""
        return open_store(materialize, self.store_url, timeout_s=self.timeout_s)


def open_store(
    materialize: Materialize, store_url: str = "", *, timeout_s: float = 30.0
) -> StrategyStore:
    """Return the strategy tables of `store_url`, or those in Materialize where it is ''."""
    if not store_url.strip():
        return StrategyStore(materialize.session, in_materialize=True)
    settings = DatabaseSettings.from_url(store_url, STORE_URL, timeout_s=timeout_s)
    return StrategyStore(Session(settings), in_materialize=False)
