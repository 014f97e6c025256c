"""MongoDBs to write trails to: the lab's, and a real engine behind its own front."""

from __future__ import annotations

import uuid

import pytest

from lab.mongodb.server import LabMongoDB
from tests.mongodb.place import Place


@pytest.fixture(autouse=True)
def _looks_again_soon(monkeypatch):
    """A driver that lost its server looks again after 10 ms instead of half a second."""
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.01)


@pytest.fixture
def lab():
    """The lab's MongoDB; what a dead client left open is held for a second."""
    with LabMongoDB(transaction_lifetime_s=1.0) as server:
        yield server


@pytest.fixture
def place(lab):
    """A trail's database in the lab, collections and indexes made."""
    found = Place(lab.url, "audit")
    with found.trail() as trail:
        trail.setup()
    lab.journal.clear()
    yield found
    found.close()


@pytest.fixture(params=["lab", pytest.param("real", marks=pytest.mark.live("mongodb"))])
def anywhere(request):
    """The same in the lab and on a real engine: what the lab claims is held against it."""
    server = request.getfixturevalue("lab" if request.param == "lab" else "mongodb_server")
    found = Place(server.url, f"audit_{uuid.uuid4().hex[:12]}")
    with found.trail() as trail:
        trail.setup()
    yield found
    found.client.drop_database(found.db.name)
    found.close()
