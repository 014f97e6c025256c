"""What the client promises, kept by the lab and by a real CrateDB (CARETAKER_TEST_CRATEDB_URL).

On a real server every test makes its tables in a schema of its own, and drops them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from caretaker.errors import RefusedError
from caretaker.translog.model import PartitionRef, TableRef, target_key
from lab.cratedb import LabCrateDB
from resources.cratedb.client import CrateDBClient
from resources.cratedb.settings import CrateDBSettings
from resources.sql import cratedb as shelf
from resources.sql.cratedb import Statement, flush, set_replicas
from tests.cratedb.test_shelf import CONSTANTS

REAL = "CARETAKER_TEST_CRATEDB_URL"


class Bench:
    """A client, a schema of its own, and the tables that are to be dropped."""

    def __init__(self, settings: CrateDBSettings) -> None:
        self.settings = settings
        self.client = CrateDBClient(settings)
        self.schema = f"caretaker_{uuid.uuid4().hex[:8]}"
        self._cleanup: list[str] = []

    def run(self, sql: str, *args: Any) -> None:
        self.client.change(Statement(sql, args))

    def table(self, name: str, rest: str = "CLUSTERED INTO 2 SHARDS") -> TableRef:
        self.run(f'CREATE TABLE "{self.schema}"."{name}" (id INTEGER) {rest}')
        self._cleanup.append(f'DROP TABLE IF EXISTS "{self.schema}"."{name}"')
        return TableRef(self.schema, name)

    def partitions(self) -> list[PartitionRef]:
        """Make a table whose partitions have the values that are hard to write."""
        name = "Parted"
        self.run(
            f'CREATE TABLE "{self.schema}"."{name}" (ts TIMESTAMP, "Region" TEXT, b BOOLEAN, '
            "o OBJECT AS (a TEXT)) CLUSTERED INTO 2 SHARDS "
            "PARTITIONED BY (ts, \"Region\", b, o['a']) WITH (number_of_replicas = '0-1')"
        )
        self._cleanup.append(f'DROP TABLE IF EXISTS "{self.schema}"."{name}"')
        for row in [
            (1704067200000, 'e\'u:{} "x"', True, {"a": "x"}),
            (1704153600000, None, False, {"a": "?"}),
        ]:
            self.run(
                # the schema is ours: letters and digits
                f'INSERT INTO "{self.schema}"."{name}" (ts, "Region", b, o) VALUES (?, ?, ?, ?)',  # noqa: S608
                *row,
            )
        return [table.target for table in self.tables() if isinstance(table.target, PartitionRef)]

    def tables(self) -> list[Any]:
        return [t for t in self.client.observe_tables() if t.target.schema == self.schema]

    def close(self) -> None:
        for statement in self._cleanup:
            self.run(statement)
        self.client.close()


def real_server() -> CrateDBSettings:
    if not os.environ.get(REAL):
        pytest.skip(f"not run: {REAL} is not set")
    return CrateDBSettings.from_environment({"CRATE_CONNECTION_STRING": os.environ[REAL]})


@pytest.fixture(
    params=["lab", pytest.param("real", marks=pytest.mark.live("cratedb"))], scope="module"
)
def server(request: pytest.FixtureRequest) -> Iterator[CrateDBSettings]:
    if request.param == "real":
        yield real_server()
        return
    with LabCrateDB(nodes=3, recovery_s=0.05) as lab:
        yield CrateDBSettings.from_environment({"CRATE_CONNECTION_STRING": lab.connection_string})


@pytest.fixture
def bench(server: CrateDBSettings) -> Iterator[Bench]:
    made = Bench(server)
    yield made
    made.close()


def test_connecting_finds_one_cluster(bench):
    connected = bench.client.connect()

    assert connected.cluster_id
    assert connected.versions
    assert not connected.unreachable


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_question_on_the_shelf_is_answered(name, bench):
    sql = CONSTANTS[name]

    bench.client.read(Statement(sql, ("doc",) * sql.count("?")))


def test_a_new_table_is_seen_whole(bench):
    table = bench.table("Some$Täble", "CLUSTERED INTO 3 SHARDS WITH (number_of_replicas = '0')")

    seen = bench.client.observe(table)

    assert (seen.number_of_replicas, seen.number_of_shards, seen.closed) == ("0", 3, False)
    assert seen.flush_threshold_bytes == 512 * 2**20
    assert (seen.allocation_enable, seen.blocked) == ("all", ())
    assert [copy.primary for copy in seen.copies] == [True] * 3
    assert all(copy.leases is not None and copy.node_id for copy in seen.copies)
    assert bench.tables()[0].target == table


def test_replicas_are_set_and_given_back_to_the_letter(bench):
    table = bench.table("t", "CLUSTERED INTO 2 SHARDS WITH (number_of_replicas = '0-1')")

    for text in ("0", "0-1", "0-all", "1-2", "0"):
        bench.client.change(set_replicas(table, text))
        assert bench.client.observe(table).number_of_replicas == text


def test_a_partition_is_changed_and_its_neighbour_is_not(bench):
    first, second = bench.partitions()

    bench.client.change(set_replicas(first, "0"))

    assert bench.client.observe(first).number_of_replicas == "0"
    assert bench.client.observe(second).number_of_replicas == "0-1"
    assert dict(first.values) != dict(second.values)


def test_what_a_person_pastes_does_what_we_would_have_sent(bench):
    for partition in bench.partitions():
        bench.run(set_replicas(partition, "0-all").rendered)
        assert bench.client.observe(partition).number_of_replicas == "0-all"


def test_tables_and_partitions_can_be_flushed(bench):
    for target in [bench.table("t"), *bench.partitions()]:
        bench.client.change(flush(target))


def test_partition_values_come_back_in_the_order_of_the_table(bench):
    parts = sorted(bench.partitions(), key=lambda part: part.values[0][1])

    assert parts[0].values == (
        ("ts", 1704067200000), ("Region", "e'u:{} \"x\""), ("b", True), ("o['a']", "x"),
    )  # fmt: skip
    assert parts[1].values[1] == ("Region", None)


def test_blocks_and_allocation_are_seen(bench):
    table = bench.table("t")
    bench.run(f'ALTER TABLE "{bench.schema}"."t" SET ("blocks.write" = TRUE)')
    bench.run(f'ALTER TABLE "{bench.schema}"."t" SET ("routing.allocation.enable" = \'primaries\')')

    seen = bench.client.observe(table)

    assert (seen.blocked, seen.allocation_enable) == (("write",), "primaries")


def test_what_was_dropped_is_gone(bench):
    table = bench.table("t")
    bench.run(f'DROP TABLE "{bench.schema}"."t"')

    assert bench.client.observe(table) is None
    with pytest.raises(RefusedError) as refused:
        bench.client.change(set_replicas(table, "0"))
    assert (refused.value.status, refused.value.code) in {(404, 4041), (404, 4045)}


def test_a_partition_that_is_not_there_is_refused_by_code(bench):
    first, _ = bench.partitions()
    other = PartitionRef(first.table, "nosuch", (("ts", 1), *first.values[1:]))

    assert bench.client.observe(other) is None
    with pytest.raises(RefusedError) as refused:
        bench.client.change(set_replicas(other, "0"))
    assert (refused.value.status, refused.value.code) == (404, 4046)


@pytest.mark.parametrize("replicas", ["x", "-1", "1 "])
def test_replicas_that_are_none_are_refused_and_change_nothing(replicas, bench):
    table = bench.table("t", "CLUSTERED INTO 2 SHARDS WITH (number_of_replicas = '0-1')")

    with pytest.raises(RefusedError) as refused:
        bench.client.change(set_replicas(table, replicas))

    assert (refused.value.status, refused.value.code) == (400, 4000)
    assert bench.client.observe(table).number_of_replicas == "0-1"


def test_a_partitioned_table_is_seen_as_its_partitions_only(bench):
    first, second = bench.partitions()

    keys = {target_key(table.target) for table in bench.tables()}

    assert keys == {target_key(first), target_key(second)}


def test_the_cluster_is_seen_at_rest(bench):
    bench.table("t", "CLUSTERED INTO 2 SHARDS WITH (number_of_replicas = '0')")
    bench.partitions()

    seen = bench.client.observe_cluster()

    assert seen.id == bench.client.connect().cluster_id
    assert seen.master_node in {node.id for node in seen.nodes}
    assert (seen.user, seen.superuser) == ("crate", True)
    assert seen.allocation_enable == "all"
    assert seen.max_shards_per_node
    assert seen.low_watermark
    assert seen.visible_tables >= 2
    assert seen.visible_primaries == seen.expected_primaries
    assert (seen.decommissions, seen.running_snapshots) == (0, 0)
    assert all(node.disk_total_bytes for node in seen.nodes)


def test_a_closed_table_is_no_blind_spot(bench):
    table = bench.table("t", "CLUSTERED INTO 2 SHARDS WITH (number_of_replicas = '0')")
    bench.run(f'ALTER TABLE "{bench.schema}"."t" CLOSE')

    seen = bench.client.observe_cluster()

    assert bench.client.observe(table).closed
    assert seen.visible_primaries == seen.expected_primaries


def test_a_weak_user_is_told_what_is_missing(bench, server):
    user = bench.schema
    bench.run(f"CREATE USER {user} WITH (password = 'pw')")
    try:
        weak = CrateDBSettings(server.hosts, username=user, password="pw")
        with CrateDBClient(weak) as client, pytest.raises(RefusedError) as refused:
            client.connect()
        assert f'GRANT DQL ON SCHEMA sys TO "{user}"' in str(refused.value)

        bench.run(shelf.grant_dql_on_sys(user).rendered)
        with CrateDBClient(weak) as client:
            seen = client.observe_cluster()
            assert client.observe_tables() == []
        assert (seen.visible_tables, seen.superuser) == (0, False)

        wrong = CrateDBSettings(server.hosts, username=user, password="other")
        with CrateDBClient(wrong) as client:
            with pytest.raises(RefusedError, match="wrong user or password"):
                client.connect()
            with pytest.raises(RefusedError, match="wrong user or password"):
                client.change(set_replicas(TableRef("doc", "t"), "0"))
    finally:
        bench.run(f"DROP USER {user}")
