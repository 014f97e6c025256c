"""`caretaker doctor mongodb`: whether a trail can be kept there; it changes nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from console.doctor import doctor
from lab.mongodb.server import LabMongoDB, Mode
from lab.mongodb.users import User
from resources.mongodb.offsets import Holder
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.trail import Trail


@pytest.fixture
def server():
    with LabMongoDB() as server:
        yield server


@pytest.fixture
def examine(monkeypatch):
    """Return a function that examines a URI, and returns the exit code and the checks by name."""

    def run(uri):
        monkeypatch.setenv("MONGODB_URI", uri)
        monkeypatch.setenv("MONGODB_DATABASE", "audit")
        result = CliRunner().invoke(doctor, ["mongodb", "--output", "json"])
        found = {each["check"]: each for each in json.loads(result.output)["checks"]}
        return result.exit_code, found

    return run


def test_a_mongodb_that_is_not_configured_is_off(examine):
    """No failure."""
    code, checks = examine("")
    assert (code, checks["connection"]["status"]) == (0, "off")


def test_what_setup_would_make_is_a_warning_with_its_statement_and_nothing_is_made(examine, server):
    """A DBA may run it by hand."""
    code, checks = examine(server.url)

    assert code == 0
    assert checks["connection"]["status"] == "ok"
    assert checks["layout"]["status"] == "warn"
    assert "caretaker binlog setup" in checks["layout"]["detail"]
    assert not server.store.collections


def test_a_trail_in_order_is_told_with_its_sources(examine, server):
    """How far each is, and who paused it."""
    with Trail.open(MongoDBSettings(server.url, "audit")) as trail:
        trail.setup()
        trail.release(trail.acquire("shop", Holder("a run")))
        trail.pause("shop", "ann@ops", "tonight")

    code, checks = examine(server.url)

    assert code == 0
    assert checks["layout"]["status"] == "ok"
    assert checks["source shop"]["detail"] == "seq 0, epoch 1, paused by ann@ops"


def test_one_that_cannot_be_reached_fails_without_its_password(examine):
    """Exit 1, for a script."""
    code, checks = examine("mongodb://me:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=100")
    assert code == 1
    assert "127.0.0.1:1" in checks["reach"]["detail"]
    assert "s3cret" not in str(checks)


def test_a_wrong_password_fails(examine):
    """Nothing in the answer tells it."""
    with LabMongoDB(users=(User("keeper", "right"),)) as server:
        code, checks = examine(server.url_for("keeper", "wr0ng"))
    assert code == 1
    assert "wr0ng" not in str(checks)
    assert checks["reach"]["status"] == "fail"


@pytest.mark.parametrize(("mode", "status"), [(Mode.REPLICA_SET, "ok"), (Mode.STANDALONE, "warn")])
def test_a_server_without_transactions_is_found_out_before_the_night(examine, mode, status):
    """With the two ways out."""
    with LabMongoDB(mode=mode) as server:
        _, checks = examine(server.url)
    assert checks["transactions"]["status"] == status
    if status == "warn":
        assert "rs.initiate()" in checks["transactions"]["detail"]
        assert "--protocol idempotent" in checks["transactions"]["detail"]
