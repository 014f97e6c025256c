"""A MongoDB with transactions: DocumentDB, and `lab.documentdb` in front of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

from pymongo.errors import PyMongoError

from lab.servers.documentdb import DocumentDB
from lab.servers.mongodb_url import Client, MongoUrl
from lab.servers.process import Server, free_port

_CHECKOUT = Path(__file__).resolve().parents[2]
_READY_WITHIN_S = 60.0


class MongoDB(MongoUrl):
    """A replica set of one member, with fresh data, for whoever may reach loopback.

    Args:
        fsync: Whether what is acknowledged outlives a power cut, not only a kill -9.
        transaction_lifetime_s: How long the transaction of a client that died is held.

    """

    def __init__(self, *, fsync: bool = False, transaction_lifetime_s: float = 60.0) -> None:
        """Take a template's copy; nothing runs yet.

        Raises:
            ServerUnavailableError: This machine cannot have it.

        """
        super().__init__("")
        self.engine = DocumentDB(fsync=fsync)
        self.port = free_port()
        self.front = Server(
            self.engine.home,
            "front",
            [
                sys.executable,
                "-m",
                "lab.documentdb",
                str(self.port),
                self.engine.dsn,
                f"--transaction-lifetime-s={transaction_lifetime_s}",
            ],
            {"PYTHONPATH": os.pathsep.join([str(_CHECKOUT), *filter(None, sys.path)])},
        )

    @property
    def url(self) -> str:
        """As `MONGODB_URI` wants it."""
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0"

    def start(self) -> Self:
        """Start both and return when it answers."""
        self.engine.start()
        self.start_front()
        return self

    def start_front(self) -> None:
        """Start the front, again after `kill_front`, on the same port."""
        self.front.start(
            self._answers, waits_for=f"hello on port {self.port}", within_s=_READY_WITHIN_S
        )

    def kill_front(self) -> None:
        """Kill -9 what clients talk to."""
        self.front.kill()

    def kill_engine(self) -> None:
        """Kill -9 PostgreSQL, which has the data."""
        self.engine.kill()

    def close(self) -> None:
        """End both, and remove their data."""
        self.engine.home.close()

    def _answers(self) -> bool:
        try:
            with Client(
                "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=500
            ) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        """End it, and remove its data."""
        self.close()
