"""A database on some server, seen by the trail and by the test."""

from __future__ import annotations

import threading
from typing import Any

import pymongo

from resources.mongodb.offsets import Holder
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.trail import Trail

RUN = Holder("run-1", "host-a", 1)
OTHER = Holder("run-2", "host-b", 2)
SOURCE = "orders"


class Place:
    """A database on some server, and what is in it."""

    def __init__(self, url, database):
        self.url = url
        self.settings = MongoDBSettings(
            url, database, server_selection_timeout_s=2.0, socket_timeout_s=20.0
        )
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            url, tz_aware=True, serverSelectionTimeoutMS=5000
        )
        self.db = self.client[database]
        self.events = []
        self.cancel = threading.Event()

    def trail(self, protocol=Protocol.STAGED, **given):
        """Open a trail whose events are kept."""
        return Trail.open(
            self.settings,
            protocol,
            cancel=self.cancel,
            on_event=lambda name, told: self.events.append((name, told)),
            **given,
        )

    def told(self, name):
        """Return what was told under a name."""
        return [fields for told, fields in self.events if told == name]

    def seqs(self):
        """Return the seq of every document in the trail, sorted: doubles show."""
        return sorted(each["seq"] for each in self.db.row_changes.find({}, {"seq": 1}))

    def offset(self):
        """Return the offset document of the only source."""
        (found,) = self.db.binlog_offsets.find()
        return found

    def staged(self):
        """Return the staged batches, as (n, status)."""
        found = self.db.row_changes_staging.find({}, {"n": 1, "status": 1, "batch": 1}).sort("n", 1)
        heads = [each for each in found if "n" in each]
        return [(each["n"], each["status"]) for each in heads]

    def staged_documents(self):
        """Return the batches whose documents are staged."""
        wanted = {"batch": {"$exists": True}}
        return sorted(each["batch"] for each in self.db.row_changes_staging.find(wanted))

    def close(self):
        self.client.close()
