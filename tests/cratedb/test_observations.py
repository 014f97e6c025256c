"""What is seen of tables, partitions and the cluster, from rows as CrateDB gives them."""

from __future__ import annotations

import pytest

from caretaker.errors import InvalidSettingError, RefusedError, TransientError
from caretaker.translog.leases import LeaseVerdict, read_leases
from caretaker.translog.model import PartitionRef, TableRef
from resources.sql import cratedb as shelf
from tests.cratedb.faulty_server import disconnected, error, http, rows, silence

BLOCKS = {"read_only": False, "metadata": True, "read_only_allow_delete": False}
PLAIN = ["doc", "plain", 2, "0-1", False, None, 536870912, "all", BLOCKS]
PARTED = ["doc", "parted", 2, "1", False, ["ts", "o['a']"], 536870912, "all", {}]
PART_1 = ["doc", "parted", "p1", {"o['a']": "x", "ts": 1}, 2, "1", False, 5242880, "all", {}]
PART_2 = ["doc", "parted", "p2", {"o['a']": None, "ts": 2}, 2, "0", False, 5242880, "none", {}]

PARTITION_1 = PartitionRef(TableRef("doc", "parted"), "p1", (("ts", 1), ("o['a']", "x")))
PARTITION_2 = PartitionRef(TableRef("doc", "parted"), "p2", (("ts", 2), ("o['a']", None)))


def copy(table, ident, shard, *, primary=True, node="n1", state="STARTED", leases=False):
    row = ["doc", table, ident, shard, primary, state, node, f"name of {node}", None, 7, 8, 9, 9, 9]
    if leases:
        row.append([{"id": f"peer_recovery/{node}", "source": "peer recovery", "timestamp": 1}])
    return row


def unassigned(table, shard, *, leases=False):
    """An unassigned copy, of whichever partition: everything but its shard id is NULL."""
    return ["doc", table, "", shard, False, "UNASSIGNED", *[None] * (9 if leases else 8)]


def catalog(answers):
    """Choose a reply by the statement that is asked."""

    def choose(request):
        reply = answers.get(request.stmt, rows())
        return reply(request) if reply.__name__ == "<lambda>" else reply

    return choose


@pytest.fixture
def client_with(serve, client_of):
    def make(answers, **settings):
        return client_of(serve(catalog(answers), choose=True).url, **settings)

    return make


def test_tables_and_partitions_are_seen_with_their_copies(client_with):
    client = client_with(
        {
            shelf.TABLES: rows(PLAIN, PARTED),
            shelf.PARTITIONS: rows(PART_1, PART_2),
            shelf.SHARDS: rows(
                copy("plain", "", 0), copy("parted", "p2", 1), copy("parted", "p1", 0)
            ),
        }
    )

    plain, first, second = client.observe_tables()

    assert plain.target == TableRef("doc", "plain")
    assert (plain.number_of_replicas, plain.number_of_shards) == ("0-1", 2)
    assert plain.blocked == ("metadata",)
    assert plain.copies[0].node_name == "name of n1"
    assert plain.copies[0].uncommitted_bytes == 7
    assert plain.copies[0].leases is None
    assert (first.target, second.target) == (PARTITION_1, PARTITION_2)
    assert first.flush_threshold_bytes == 5242880
    assert second.allocation_enable == "none"
    assert [c.shard_id for c in second.copies] == [1]


def test_everything_is_seen_in_three_questions_whatever_its_size(serve, client_of):
    server = serve(catalog({shelf.TABLES: rows(*[["d", f"t{n}", *PLAIN[2:]] for n in range(500)])}),
                   choose=True)  # fmt: skip

    assert len(client_of(server.url).observe_tables()) == 500
    assert len(server.requests) == 3


def test_fifty_thousand_shards_are_observed_in_three_questions(serve, client_of):
    tables = [["doc", f"table_{n}", *PLAIN[2:]] for n in range(1000)]
    shards = [
        copy(f"table_{n}", "", s, primary=p, node=f"N_hsuQeHOMNw8H6NO1g7r{s}")
        for n in range(1000)
        for s in range(25)
        for p in (True, False)
    ]
    server = serve(catalog({shelf.TABLES: rows(*tables), shelf.SHARDS: rows(*shards)}), choose=True)
    seen = client_of(server.url, timeout_s=30).observe_tables()

    assert sum(len(table.copies) for table in seen) == 50_000
    assert len(server.requests) == 3


def test_a_table_is_observed_with_its_leases(client_with):
    client = client_with(
        {
            shelf.TABLE: rows([*PLAIN, "cluster-1"]),
            shelf.SHARDS_WITH_LEASES: rows(
                copy("plain", "", 0, leases=True), copy("plain", "", 1, node="n2", leases=True)
            ),
        }
    )

    seen = client.observe(TableRef("doc", "plain"))

    assert seen.copies[1].leases[0].id == "peer_recovery/n2"
    assert read_leases(seen).verdict is LeaseVerdict.CLEAR


def test_a_table_that_the_catalog_does_not_show_is_none(client_with):
    assert client_with({}).observe(TableRef("doc", "gone")) is None
    assert client_with({}).observe(PARTITION_1) is None


def test_a_partitioned_table_is_not_looked_after_as_one(client_with):
    client = client_with(
        {shelf.TABLE: rows([*PARTED, "cluster-1"]), shelf.SHARDS_WITH_LEASES: rows()}
    )

    with pytest.raises(RefusedError, match="partitioned by ts, o"):
        client.observe(TableRef("doc", "parted"))


def test_the_lost_primary_of_a_table_is_seen(client_with):
    client = client_with(
        {
            shelf.TABLE: rows(["doc", "plain", 2, "0", *PLAIN[4:], "cluster-1"]),
            shelf.SHARDS_WITH_LEASES: rows(
                copy("plain", "", 0, leases=True), unassigned("plain", 1, leases=True)
            ),
        }
    )

    assert (
        read_leases(client.observe(TableRef("doc", "plain"))).verdict is LeaseVerdict.PRIMARY_LOST
    )


class TestUnassignedCopiesOfAPartitionedTable:
    """Their rows do not say of which partition they are."""

    def observe(self, client_with, partition, row, *shards):
        client = client_with(
            {shelf.PARTITION: rows([*row, "cluster-1"]), shelf.SHARDS_WITH_LEASES: rows(*shards)}
        )
        return client.observe(partition)

    def test_the_lost_primary_of_a_drained_partition_is_seen(self, client_with):
        seen = self.observe(
            client_with,
            PARTITION_2,
            PART_2,
            copy("parted", "p2", 0, leases=True),
            unassigned("parted", 1, leases=True),
        )

        assert read_leases(seen).verdict is LeaseVerdict.PRIMARY_LOST

    def test_a_neighbours_trouble_is_not_taken_for_the_loss_of_our_primary(self, client_with):
        seen = self.observe(
            client_with,
            PARTITION_2,
            PART_2,
            copy("parted", "p2", 0, leases=True),
            copy("parted", "p2", 1, leases=True),
            unassigned("parted", 0, leases=True),
            unassigned("parted", 1, leases=True),
        )

        assert read_leases(seen).verdict is LeaseVerdict.CLEAR

    def test_a_partition_whose_replicas_are_still_to_come_is_not_complete(self, client_with):
        seen = self.observe(
            client_with,
            PARTITION_1,
            PART_1,
            copy("parted", "p1", 0, leases=True),
            copy("parted", "p1", 1, leases=True),
            unassigned("parted", 0, leases=True),
            unassigned("parted", 1, leases=True),
        )

        assert [c.routing_state for c in seen.copies].count("UNASSIGNED") == 2

    def test_a_partition_takes_no_more_than_it_lacks(self, client_with):
        seen = self.observe(
            client_with,
            PARTITION_1,
            PART_1,
            copy("parted", "p1", 0, leases=True),
            copy("parted", "p1", 0, primary=False, node="n2", leases=True),
            copy("parted", "p1", 1, leases=True),
            *[unassigned("parted", shard, leases=True) for shard in (0, 1) for _ in range(50)],
        )

        assert [c.shard_id for c in seen.copies if c.routing_state == "UNASSIGNED"] == [1]

    def test_a_thousand_partitions_do_not_multiply_them(self, client_with):
        partitions = [["doc", "parted", f"p{n}", {"ts": n, "o['a']": ""}, *PART_1[4:]]
                      for n in range(1000)]  # fmt: skip
        shards = [copy("parted", f"p{n}", s) for n in range(1000) for s in (0, 1)]
        shards += [unassigned("parted", s) for _ in range(1000) for s in (0, 1)]
        client = client_with(
            {
                shelf.TABLES: rows(PARTED),
                shelf.PARTITIONS: rows(*partitions),
                shelf.SHARDS: rows(*shards),
            }
        )

        assert sum(len(table.copies) for table in client.observe_tables()) == 4000


CLUSTER = {
    shelf.CLUSTER: rows(["id1", "prod", "n1", "all", "85%", 1000, "ops"]),
    shelf.CLUSTER_HEALTH: rows(["YELLOW", 0, 3]),
    shelf.NODES: rows(["n1", "hot-0", "6.4.3", 1000, 400, ["data", "master_eligible"]],
                      ["n2", "master-0", "6.4.3", -1, -1, ["master_eligible"]]),
    shelf.UNHEALTHY: rows(["doc", "plain", "", "YELLOW", 0, 2]),
    shelf.MOVING: rows(["doc", "plain", "", "INITIALIZING"]),
    shelf.SHARD_COUNTS: rows([12, 6]),
    shelf.VISIBLE_RELATIONS: rows([3, 2], [0, 4]),
    shelf.RUNNING_SNAPSHOTS: rows([1]),
    shelf.RUNNING_JOBS: rows([1, 0]),
    shelf.SUPERUSER: rows([False]),
}  # fmt: skip


def test_the_cluster_is_seen_as_preflight_needs_it(serve, client_of):
    server = serve(catalog(CLUSTER), choose=True)

    seen = client_of(server.url).observe_cluster()

    assert (seen.id, seen.name, seen.master_node, seen.user) == ("id1", "prod", "n1", "ops")
    assert (seen.health, seen.missing_shards, seen.underreplicated_shards) == ("YELLOW", 0, 3)
    assert (seen.allocation_enable, seen.low_watermark, seen.max_shards_per_node) == (
        "all", "85%", 1000,
    )  # fmt: skip
    assert [(n.name, n.is_data, n.disk_used_bytes) for n in seen.nodes] == [
        ("hot-0", True, 400),
        ("master-0", False, None),
    ]
    assert seen.unhealthy[0].target_key == ("doc", "plain", "")
    assert seen.moving[0].routing_state == "INITIALIZING"
    assert (seen.open_shards, seen.visible_primaries) == (12, 6)
    assert (seen.visible_tables, seen.expected_primaries) == (3, 6)
    assert (seen.running_snapshots, seen.decommissions, seen.superuser) == (1, 1, False)
    assert len(server.requests) == 10


@pytest.mark.parametrize(
    ("superuser", "sick", "master", "health"),
    [
        (True, [], "n1", "GREEN"),
        (True, [["doc", "a", "", "YELLOW", 0, 1], ["doc", "b", "", "RED", 1, 0]], "n1", "RED"),
        (True, [["doc", "a", "", "YELLOW", 0, 1]], "n1", "YELLOW"),
        (True, [], None, "RED"),
        (False, [], "n1", None),
    ],
)
def test_before_6_0_health_is_known_only_to_who_sees_every_table(
    superuser, sick, master, health, client_with
):
    old = {
        **CLUSTER,
        shelf.CLUSTER: rows(["id1", "prod", master, "all", "85%", 1000, "ops"]),
        shelf.CLUSTER_HEALTH: error(404, 4041, "RelationUnknown[Relation 'sys.cluster_health']"),
        shelf.NODES: error(404, 4043, "ColumnUnknownException[Column roles unknown]"),
        shelf.NODES_WITHOUT_ROLES: rows(["n1", "hot-0", "5.10.4", 1000, 400, None]),
        shelf.UNHEALTHY: rows(*sick),
        shelf.SUPERUSER: rows([superuser]),
    }

    seen = client_with(old).observe_cluster()

    assert (seen.health, seen.missing_shards) == (health, None)
    assert seen.nodes[0].is_data


def test_who_may_not_read_sys_users_is_not_known_to_be_superuser(client_with):
    denied = {**CLUSTER, shelf.SUPERUSER: error(401, 4011, "Missing 'DQL' privilege")}

    assert client_with(denied).observe_cluster().superuser is None


def test_an_unassigned_copy_is_ours_only_when_nobody_elses_partition_is_unhealthy(client_with):
    own = frozenset({("doc", "parted", "p1")})
    moving = rows(["doc", "parted", "", "UNASSIGNED"])
    ours = {**CLUSTER, shelf.MOVING: moving,
            shelf.UNHEALTHY: rows(["doc", "parted", "p1", "YELLOW", 0, 1])}  # fmt: skip
    theirs = {**ours, shelf.UNHEALTHY: rows(["doc", "parted", "p1", "YELLOW", 0, 1],
                                            ["doc", "parted", "p2", "YELLOW", 0, 1])}  # fmt: skip

    assert client_with(ours).observe_cluster(own).moving[0].target_key == ("doc", "parted", "p1")
    assert client_with(theirs).observe_cluster(own).moving[0].target_key == ("doc", "parted", "")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, 4045, "SchemaUnknownException[Schema 'sys' unknown]"),
        (401, 4011, "MissingPrivilegeException[Missing 'DQL' privilege for user 'ops']"),
    ],
)
def test_a_user_who_may_not_look_is_told_the_grant_to_ask_for(status, code, message, client_with):
    client = client_with({shelf.CLUSTER: error(status, code, message)}, username="ops")

    with pytest.raises(RefusedError) as refused:
        client.observe_cluster()

    assert 'GRANT DQL ON SCHEMA sys TO "ops"' in str(refused.value)
    assert (refused.value.status, refused.value.code) == (status, code)


IDENTITY = {
    shelf.CLUSTER_IDENTITY: rows(["id1", "prod"]),
    shelf.NODE_VERSIONS: rows(["a", "6.4.3"]),
}


def test_connecting_tells_which_cluster_it_is_and_who_did_not_answer(serve, client_of, closed_url):
    good, draining = serve(catalog(IDENTITY), choose=True), serve(disconnected)

    connected = client_of(closed_url, good.url, draining.url).connect()

    assert (connected.cluster_id, connected.cluster_name) == ("id1", "prod")
    assert connected.versions == {"a": "6.4.3"}
    assert set(connected.unreachable) == {closed_url, draining.url}
    assert "Connection refused" in connected.unreachable[closed_url]


def test_hosts_of_two_clusters_in_one_list_are_refused(serve, client_of):
    prod = serve(catalog(IDENTITY), choose=True)
    test = serve(catalog({**IDENTITY, shelf.CLUSTER_IDENTITY: rows(["id2", "test"])}), choose=True)

    with pytest.raises(InvalidSettingError) as refused:
        client_of(prod.url, test.url).connect()

    assert f"{prod.url} in prod (id1), {test.url} in test (id2)" in str(refused.value)
    assert refused.value.key == "CRATE_CONNECTION_STRING"


@pytest.mark.parametrize("version", ["5.9.12", "4.8.0", "", "weird"])
def test_a_server_too_old_is_refused(version, client_with):
    client = client_with({**IDENTITY, shelf.NODE_VERSIONS: rows(["a", "6.4.3"], ["b", version])})

    with pytest.raises(RefusedError, match=rf"node b runs CrateDB {version}: .*5\.10 or newer"):
        client.connect()


@pytest.mark.parametrize("version", ["5.10.0", "6.4.3", "7.0.0-SNAPSHOT"])
def test_a_server_new_enough_is_welcome(version, client_with):
    client = client_with({**IDENTITY, shelf.NODE_VERSIONS: rows(["a", version])})

    assert client.connect().versions == {"a": version}


def test_nobody_there_is_worth_another_try(client_of, closed_url):
    with pytest.raises(TransientError, match="Connection refused"):
        client_of(closed_url).connect()


def test_a_silent_host_does_not_hide_the_others(serve, client_of):
    good, mute = serve(catalog(IDENTITY), choose=True), serve(silence)

    # The good one has to answer within it, too, on a machine that is busy.
    connected = client_of(mute.url, good.url, timeout_s=3).connect()

    assert "within 3 s" in connected.unreachable[mute.url]


def test_a_cluster_that_answers_with_nothing_is_worth_another_try(client_with):
    with pytest.raises(TransientError, match="answered without a row"):
        client_with({}).observe_cluster()


HTML = http(200, "<html>It works!</html>")


def test_one_host_that_is_no_cratedb_refuses_a_reset_and_not_a_restore(serve, client_of):
    """What was promised is honoured by the others; a new promise waits for a list that is right."""
    good, html = serve(catalog(IDENTITY), choose=True), serve(HTML)
    client = client_of(html.url, good.url)

    with pytest.raises(RefusedError, match="not like CrateDB"):
        client.connect()
    connected = client.connect(for_restore=True)

    assert connected.cluster_id == "id1"
    assert "not like CrateDB" in connected.unreachable[html.url]


def test_a_restore_too_is_refused_where_no_host_is_cratedb(serve, client_of):
    with pytest.raises(RefusedError, match="not like CrateDB"):
        client_of(serve(HTML).url, serve(HTML).url).connect(for_restore=True)


def test_a_restore_too_is_refused_by_hosts_of_two_clusters(serve, client_of):
    prod = serve(catalog(IDENTITY), choose=True)
    test = serve(catalog({**IDENTITY, shelf.CLUSTER_IDENTITY: rows(["id2", "test"])}), choose=True)

    with pytest.raises(InvalidSettingError):
        client_of(prod.url, test.url).connect(for_restore=True)


@pytest.mark.parametrize("version", [None, "5.9.12"])
def test_a_restore_is_not_kept_by_a_version(version, client_with):
    client = client_with({**IDENTITY, shelf.NODE_VERSIONS: rows(["a", version])})

    assert client.connect(for_restore=True).cluster_id == "id1"


@pytest.mark.parametrize("reply", [HTML, rows(), rows([1]), rows([None, None])])
def test_a_server_that_is_no_cratedb_is_refused(reply, serve, client_of):
    server = serve(reply)

    with pytest.raises(RefusedError, match=f"{server.url} answered, but not like CrateDB"):
        client_of(server.url).connect()
