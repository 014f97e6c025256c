"""A server that will not do is refused: one sentence, what fixes it, and no password."""

from __future__ import annotations

import pytest
from pymongo.errors import OperationFailure

from caretaker.errors import CaretakerError, InvalidSettingError, RefusedError, TransientError
from lab.mongodb.server import LabMongoDB, Mode
from lab.mongodb.users import User
from resources.mongodb.failures import told
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.trail import Trail
from tests.mongodb.batches import batch
from tests.mongodb.place import RUN, SOURCE, Place

USERS = (User("caretaker", "s3cr:t/@"), User("reader", "only-l00k", role="read"))
SECRETS = ("s3cr:t/@", "s3cr%3At%2F%40", "only-l00k", "not-th1s")


def settings(url):
    return MongoDBSettings(url, "audit", server_selection_timeout_s=0.5, socket_timeout_s=5.0)


def refused(url, protocol=Protocol.STAGED):
    """Return what opening it raises."""
    with pytest.raises(CaretakerError) as found, Trail.open(settings(url), protocol):
        pass
    said = f"{found.value} {found.value.hint} {found.value.__cause__}"
    assert not any(secret in said for secret in SECRETS)
    return found.value


@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.DIRECT])
def test_a_standalone_is_refused_with_the_command_that_helps(protocol):
    with LabMongoDB(mode=Mode.STANDALONE) as server:
        error = refused(server.url, protocol)
    assert isinstance(error, RefusedError)
    assert "no replica set" in str(error)
    assert "rs.initiate()" in error.hint


def test_a_server_that_only_says_it_has_transactions_is_found_out():
    with LabMongoDB(mode=Mode.IGNORES_TRANSACTIONS) as server:
        error = refused(server.url)
        place = Place(server.url, "audit")
        assert place.db.caretaker_proof.count_documents({}) == 0
        place.close()
    assert "announces transactions and ignores them" in str(error)
    assert "rs.initiate()" in error.hint


@pytest.mark.parametrize("mode", [Mode.STANDALONE, Mode.IGNORES_TRANSACTIONS])
def test_auto_goes_on_without_transactions_and_says_so(mode):
    with LabMongoDB(mode=mode) as server:
        place = Place(server.url, "audit")
        with place.trail(Protocol.AUTO) as trail:
            assert trail.protocol is Protocol.IDEMPOTENT
            assert "idempotent" in trail.warnings[0]
            held = trail.acquire(SOURCE, RUN)
            trail.commit(held, batch(1, 5))
        assert place.seqs() == [1, 2, 3, 4, 5]
        place.close()


def test_auto_takes_the_safer_one_where_transactions_work(lab):
    with Trail.open(settings(lab.url), Protocol.AUTO) as trail:
        assert trail.protocol is Protocol.STAGED
        assert trail.warnings == ()


def test_the_right_password_opens():
    with LabMongoDB(users=USERS) as server:
        place = Place(server.url_for("caretaker", "s3cr%3At%2F%40"), "audit")
        with place.trail() as trail:
            trail.commit(trail.acquire(SOURCE, RUN), batch(1, 3))
        assert place.seqs() == [1, 2, 3]
        place.close()


@pytest.mark.parametrize("user", ["caretaker", "nobody"])
def test_a_wrong_password_is_refused_at_once(user):
    with LabMongoDB(users=USERS) as server:
        error = refused(server.url_for(user, "not-th1s"))
    assert isinstance(error, RefusedError)
    assert "refused user or password" in str(error)
    assert "authSource" in error.hint


def test_no_password_where_one_is_asked_for():
    with LabMongoDB(users=USERS) as server:
        error = refused(server.url)
    assert isinstance(error, RefusedError)
    assert "requires authentication" in str(error)


@pytest.mark.parametrize("protocol", [Protocol.STAGED, Protocol.IDEMPOTENT, Protocol.AUTO])
def test_a_user_who_may_only_read_is_refused_with_the_grant(protocol):
    with LabMongoDB(users=USERS) as server:
        error = refused(server.url_for("reader", "only-l00k"), protocol)
    assert isinstance(error, RefusedError)
    assert "may not do this" in str(error)
    assert 'role: "readWrite", db: "audit"' in error.hint


def test_nobody_there_is_told_with_the_address(lab, monkeypatch):
    monkeypatch.setattr("resources.mongodb.retries.FIRST_PAUSE_S", 0.0)
    url = lab.url_for("caretaker", "s3cr%3At%2F%40")
    lab.stop()
    error = refused(url)
    assert isinstance(error, TransientError)
    assert f"127.0.0.1:{lab.port}" in str(error)
    assert "tried 5 times" in str(error)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "MONGODB_URI"),
        ({"MONGODB_URI": "mongodb://u:s3cr:t/@h:1/"}, "MONGODB_URI"),
        ({"MONGODB_URI": "mongodb://u:not-th1s"}, "MONGODB_URI"),
        ({"MONGODB_URI": "postgres://u:not-th1s@h/"}, "MONGODB_URI"),
        ({"MONGODB_URI": "mongodb://h:27017/?replicaSet=rs0"}, "MONGODB_DATABASE"),
        ({"MONGODB_URI": "mongodb://h", "MONGODB_DATABASE": "a b"}, "MONGODB_DATABASE"),
    ],
)
def test_a_setting_that_cannot_work_is_named(given, key):
    with pytest.raises(InvalidSettingError) as found:
        MongoDBSettings.from_environment(given)
    assert found.value.key == key
    assert "u:" not in str(found.value).replace("user:", "")
    assert not any(secret in str(found.value) for secret in SECRETS)


def test_what_a_driver_quotes_is_shown_without_the_password():
    given = MongoDBSettings("mongodb://u:s3cr%3At%2F%40@h:27017/", "audit")
    error = OperationFailure("cannot parse u:s3cr%3At%2F%40 (s3cr:t/@)", 8000)
    assert str(told(error, given)).endswith("cannot parse u:*** (***)")


def test_a_setting_shows_no_password():
    given = MongoDBSettings("mongodb://u:s3cr%3At@h:27017/", "audit")
    assert "s3cr" not in repr(given)
    assert "s3cr" not in given.place
