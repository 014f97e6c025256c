"""A MongoDB that answers at a URL, ours or somebody's."""

from __future__ import annotations

from typing import Any

import pymongo

Client = pymongo.MongoClient[dict[str, Any]]


class MongoUrl:
    """Clients of a server."""

    def __init__(self, url: str) -> None:
        """Take `mongodb://...`, of a user who may do everything."""
        self._url = url

    @property
    def url(self) -> str:
        """As `MONGODB_URI` wants it."""
        return self._url

    def client(self, **options: Any) -> Client:
        """Return a client, to be closed."""
        return Client(self.url, **options)
