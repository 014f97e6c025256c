"""What a user sees and may do, as in the table of section 7 of the live facts."""

from __future__ import annotations

import pytest

#: grants -> (sys.shards, sys.cluster_health, ALTER): rows seen, or (status, code).
CASES = [
    ((), (404, 4045), (404, 4045), (404, 4045)),
    (("DDL ON TABLE doc.one",), (404, 4045), (404, 4045), 200),
    (("DQL ON TABLE doc.one",), (404, 4045), (404, 4045), (401, 4011)),
    (("DQL ON SCHEMA sys",), 0, "GREEN", (404, 4045)),
    (("DQL ON SCHEMA sys", "DDL ON TABLE doc.one"), 2, "GREEN", 200),
    (("DQL ON SCHEMA sys", "DDL ON SCHEMA doc"), 4, "GREEN", 200),
    (("AL",), (401, 4011), (401, 4011), (401, 4011)),
]


@pytest.fixture
def world(lab):
    lab.table("doc.one", shards=1, replicas="1")
    lab.table("doc.other", shards=1, replicas="1")
    return lab


@pytest.mark.parametrize(("grants", "shards", "health", "alter"), CASES)
def test_a_weak_user_sees_what_crate_shows_it(grants, shards, health, alter, world, wire):
    world.create_user("weak", "pw", *grants)
    ask = wire(world.url, "weak", "pw")

    reply = ask("SELECT count(*) FROM sys.shards")
    assert (reply.rows[0][0] if reply.status == 200 else (reply.status, reply.code)) == shards
    reply = ask("SELECT count(*) FROM sys.health")
    if isinstance(shards, int):
        assert reply.rows == [[shards // 2]]
    reply = ask("SELECT health FROM sys.cluster_health")
    assert (reply.rows[0][0] if reply.status == 200 else (reply.status, reply.code)) == health
    reply = ask("ALTER TABLE doc.one SET (number_of_replicas = 0)")
    assert (200 if reply.status == 200 else (reply.status, reply.code)) == alter


def test_a_removed_privilege_looks_like_a_dropped_table(world, wire):
    world.create_user("ops", "pw", "DDL ON TABLE doc.one")
    ask = wire(world.url, "ops", "pw")
    statement = "ALTER TABLE doc.one SET (number_of_replicas = '1')"
    assert ask(statement).status == 200
    world.revoke("ops", "DDL ON TABLE doc.one")
    reply = ask(statement)
    assert (reply.status, reply.code) == (404, 4045)


def test_only_a_superuser_decommissions(world, wire):
    world.create_user("ops", "pw", "AL")
    reply = wire(world.url, "ops", "pw")("ALTER CLUSTER DECOMMISSION 'data-hot-1'")
    assert (reply.status, reply.code) == (401, 4010)


def test_set_global_needs_al(world, wire):
    world.create_user("ops", "pw", "AL")
    world.create_user("weak", "pw")
    statement = 'SET GLOBAL "stats.enabled" = true'
    assert wire(world.url, "ops", "pw")(statement).status == 200
    assert wire(world.url, "weak", "pw")(statement).code == 4011


def test_current_user_is_who_asks(world, wire):
    world.create_user("it's", "pw")
    assert wire(world.url, "it's", "pw")("SELECT CURRENT_USER").rows == [["it's"]]


def test_a_denial_outweighs_a_wider_grant(world, wire):
    world.create_user("weak", "pw", "DDL ON SCHEMA doc")
    world.sql("DENY DDL ON TABLE doc.one TO weak")
    reply = wire(world.url, "weak", "pw")("ALTER TABLE doc.one SET (number_of_replicas = 0)")
    assert reply.status in {401, 404}


def test_users_and_privileges_are_shown(world, wire):
    world.create_user("ops", "pw", "AL", "DQL ON SCHEMA sys")
    ask = wire(world.url)
    assert ask("SELECT name FROM sys.users ORDER BY 1").rows == [["crate"], ["ops"]]
    rows = ask("SELECT class, type, ident FROM sys.privileges ORDER BY 1").rows
    assert rows == [["CLUSTER", "AL", None], ["SCHEMA", "DQL", "sys"]]


def test_a_wrong_password_is_401_in_plain_text_and_the_connection_ends(world, wire):
    world.create_user("ops", "pw")
    reply = wire(world.url, "ops", "nope")("SELECT 1")
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Basic realm="CrateDB Authenticator"'
    assert "content-type" not in reply.headers
    assert reply.text == 'password authentication failed for user "ops"\n'
