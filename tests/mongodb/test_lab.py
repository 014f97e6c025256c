"""The lab's MongoDB passes the cases that the real one must pass."""

from __future__ import annotations

import inspect
import uuid

import pytest

from lab.mongodb.server import LabMongoDB
from lab.servers.mongodb_url import MongoUrl
from tests.servers import test_mongodb as cases

# Those that kill a front or its engine are about these.
globals().update(
    {
        name: found
        for name, found in vars(cases).items()
        if name in {"db", "other"}
        or (name.startswith("test_") and "start_mongodb" not in inspect.signature(found).parameters)
    }
)


@pytest.fixture(scope="module")
def mongodb_server():
    with LabMongoDB(ttl_every_s=0.5) as server:
        yield MongoUrl(server.url)


@pytest.fixture
def name():
    return f"lab_{uuid.uuid4().hex[:12]}"
