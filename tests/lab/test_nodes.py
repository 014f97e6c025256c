"""Nodes drain, exit, die and return as the live ones did; the clock is pushed by hand."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from lab.cratedb import LabCrateDB


class Drain:
    """A DECOMMISSION under way in a thread; `finish` pushes the clock until it answers."""

    def __init__(self, lab, node):
        self.lab, self.node = lab, node
        self.answer: Any = None
        self.began = lab.world.time
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 60
        while not lab.world.node(node).draining and self.answer is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _run(self):
        self.answer = self.lab.sql("ALTER CLUSTER DECOMMISSION ?", [self.node])

    def finish(self, step=0.5, limit=400.0):
        """Return the lab's seconds it took."""
        # Not until its thread has the answer, which may take it a while: the exit is five seconds
        # of the lab's after the drain.
        while not self.through and self.lab.world.time - self.began < limit:
            self.lab.advance(step)
            self.thread.join(0.06)
        took: float = self.lab.world.time - self.began
        if self.through:
            self.thread.join(60)
        return took

    @property
    def through(self):
        """Whether it is answered, or about to be."""
        with self.lab.world.lock:
            node = self.lab.world.node(self.node)
            return self.answer is not None or (
                node is not None and node.id in self.lab.world.drained
            )


def settings(lab, enable="all", availability="PRIMARIES", *, force=True, timeout="60s"):
    lab.sql(
        f"""SET GLOBAL TRANSIENT "cluster.routing.allocation.enable" = '{enable}',
        "cluster.graceful_stop.min_availability" = '{availability}',
        "cluster.graceful_stop.force" = {str(force).lower()},
        "cluster.graceful_stop.timeout" = '{timeout}'"""
    )


def health(lab):
    answer = lab.sql(
        "SELECT health, missing_shards, underreplicated_shards FROM sys.cluster_health"
    )
    return answer["rows"][0]


#: allocation, availability, replicas -> blocks at all, health after the exit.
DRAINS = [
    ("new_primaries", "PRIMARIES", "0", False, "RED"),
    ("primaries", "PRIMARIES", "0-1", True, "YELLOW"),
    ("primaries", "PRIMARIES", "0", True, "GREEN"),
    ("all", "PRIMARIES", "1", True, "YELLOW"),
    ("all", "FULL", "1", True, "GREEN"),
    ("primaries", "FULL", "1", True, "YELLOW"),
    ("all", "NONE", "0", False, "RED"),
    ("all", "whatever", "0", False, "RED"),
    ("all", "FULL", "2", False, "YELLOW"),
]


@pytest.mark.parametrize(("enable", "availability", "replicas", "blocks", "after"), DRAINS)
def test_a_drain_ends_as_in_the_live_table(still, enable, availability, replicas, blocks, after):
    still.table("doc.metrics", shards=6, replicas=replicas)
    settings(still, enable, availability)
    drain = Drain(still, "data-hot-2")
    drain.thread.join(0.2 if blocks else 30)
    assert (drain.answer is None) == blocks
    drain.finish()
    assert drain.answer["rowcount"] == 1
    assert len(still.world.members) == 3
    still.advance(4)
    assert len(still.world.members) == 3
    still.advance(1.2)
    assert [n.name for n in still.world.members] == ["data-hot-0", "data-hot-1"]
    assert health(still)[0] == after


def test_the_exit_is_announced_with_code_0_and_the_port_refuses(still, wire):
    gone = []
    still.on_exit.append(lambda node, code: gone.append((node, code)))
    still.table("doc.metrics", replicas="1")
    Drain(still, "data-hot-1").finish()
    still.advance(6)
    deadline = time.monotonic() + 60
    while not gone and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone == [("data-hot-1", 0)]
    with pytest.raises(ConnectionRefusedError):
        wire(still.urls[1])("SELECT 1")


def test_a_draining_node_answers_old_connections_and_refuses_new_ones(still, wire):
    still.table("doc.metrics", replicas="1")
    settings(still, "all", "FULL")
    old = wire(still.urls[1])
    assert old("SELECT 1").status == 200
    drain = Drain(still, "data-hot-1")
    new = wire(still.urls[1])("SELECT 1")
    assert (new.status, "content-type" in new.headers) == (500, False)
    assert new.text.endswith("[sql] disconnected")
    assert old("SELECT 1").status == 200
    assert wire(still.urls[1]).raw("GET", "/").status == 200
    drain.finish()


@pytest.mark.parametrize(("version", "exits"), [("6.4.3", True), ("6.4.4", False)])
def test_force_false_is_honoured_only_since_6_4_4(version, exits):
    with LabCrateDB(3, speed=0.0, recovery_s=100.0, version=version) as lab:
        lab.table("doc.metrics", shards=6, replicas="0")
        settings(lab, "primaries", force=False, timeout="6s")
        drain = Drain(lab, "data-hot-1")
        assert 6 <= drain.finish() < 60
        assert drain.answer["rowcount"] == 1
        lab.advance(6)
        assert (len(lab.world.members) == 2) == exits


def test_a_drain_can_hang_although_the_node_is_empty_until_the_timeout(still):
    still.table("doc.metrics", replicas="1")
    settings(still, "all", "FULL", timeout="720s")
    still.hang_drain(1)
    Drain(still, "data-hot-1").finish()
    still.advance(60)
    assert len(still.world.members) == 3
    still.sql("SET GLOBAL TRANSIENT \"cluster.graceful_stop.timeout\" = '5s'")
    still.advance(6)
    assert len(still.world.members) == 2


def test_a_hanging_node_without_force_serves_again_after_the_timeout(still, wire):
    still.table("doc.metrics", replicas="1")
    settings(still, "all", "FULL", force=False, timeout="30s")
    still.hang_drain(1)
    Drain(still, "data-hot-1").finish()
    still.advance(40)
    assert len(still.world.members) == 3
    assert wire(still.urls[1])("SELECT 1").status == 200


def test_a_second_decommission_of_a_draining_node_is_harmless(still):
    still.table("doc.metrics", replicas="1")
    settings(still, "all", "FULL")
    drain = Drain(still, "data-hot-1")
    assert still.sql("ALTER CLUSTER DECOMMISSION 'DATA-HOT-1'")["rowcount"] == 1
    drain.finish()


def test_kill_9_in_the_middle_of_a_drain_disconnects_and_the_node_returns_undrained(still):
    still.table("doc.metrics", shards=6, replicas="1")
    settings(still, "all", "FULL")
    drain = Drain(still, "data-hot-1")
    still.crash(1)
    drain.finish()
    assert drain.answer["error"]["code"] == 5000
    still.restart(1)
    still.advance(120)
    assert len(still.world.members) == 3
    assert not still.world.nodes[1].draining


def test_after_a_restart_in_place_primaries_keeps_it_yellow_until_reset(still):
    still.table("doc.metrics", shards=6, replicas="1")
    settings(still, "primaries", "PRIMARIES")
    Drain(still, "data-hot-1").finish()
    still.advance(6)
    still.restart(1)
    still.advance(120)
    assert len(still.world.members) == 3
    assert health(still)[0] == "YELLOW"
    still.sql('RESET GLOBAL "cluster.routing.allocation.enable"')
    still.advance(3)
    assert health(still) == ["GREEN", 0, 0]


def test_a_killed_node_is_stale_green_then_red_and_its_shards_come_back_with_it(still, wire):
    table = still.table("doc.metrics", shards=6, replicas="0")
    ask = wire(still.url)
    still.crash(2)
    assert health(still) == ["GREEN", 0, 0]
    reply = ask("SELECT count(*) FROM sys.shards")
    assert (reply.status, reply.code) == (500, 5005)
    still.advance(0.4)
    assert health(still) == ["RED", 2, 0]
    lost = [row for row in table.shards if row["routing_state"] == "UNASSIGNED"]
    assert len(lost) == 2
    assert not any(row["primary"] for row in lost)
    rows = ask(
        """SELECT node, retention_leases, translog_stats, partition_ident, size
           FROM sys.shards WHERE routing_state = 'UNASSIGNED'"""
    ).rows
    assert rows == [[None] * 5] * 2
    rows = ask("SELECT \"primary\" FROM sys.allocations WHERE current_state = 'UNASSIGNED'").rows
    assert rows == [[True], [True]]
    assert ask("SELECT count(*) FROM doc.metrics").code == 5002
    still.restart(2)
    still.advance(3)
    assert health(still) == ["GREEN", 0, 0]
    assert ask("SELECT count(*) FROM doc.metrics").rows == [[6000]]


def test_a_replica_takes_over_when_the_primary_dies(still):
    table = still.table("doc.metrics", shards=6, replicas="1")
    still.crash(2)
    still.advance(0.4)
    assert health(still)[:2] == ["YELLOW", 0]
    primaries = [row for row in table.shards if row["primary"]]
    assert len(primaries) == 6
    assert "data-hot-2" not in {row["node"]["name"] for row in primaries}


def test_replicas_wait_a_minute_for_a_node_that_left(still):
    still.table("doc.metrics", shards=6, replicas="1")
    still.crash(2)
    still.advance(50)
    assert health(still)[0] == "YELLOW"
    still.advance(15)
    assert health(still) == ["GREEN", 0, 0]


def test_a_crash_cuts_open_connections_and_a_restart_serves_the_same_port(lab, wire):
    ask = wire(lab.urls[1])
    assert ask("SELECT 1").status == 200
    lab.crash(1)
    with pytest.raises((ConnectionError, OSError)):
        ask("SELECT 1")
    lab.world.boot_s = 0.05
    lab.restart(1)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert wire(lab.urls[1])("SELECT 1").status == 200
            break
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_without_a_master_reads_go_on_and_changes_wait_then_fail(wire):
    with LabCrateDB(3, speed=100.0, master_timeout_s=30.0) as lab:
        lab.table("doc.metrics", replicas="1")
        ask = wire(lab.url)
        lab.drop_master()
        assert ask("SELECT master_node FROM sys.cluster").rows == [[None]]
        assert ask("SELECT health FROM sys.cluster_health").rows == [["GREEN"]]
        began = time.monotonic()
        reply = ask("ALTER TABLE doc.metrics SET (number_of_replicas = 0)")
        assert (reply.status, reply.code) == (503, 5031)
        assert time.monotonic() - began > 0.25
        assert ask.raw("GET", "/").status == 503
        assert lab.table("doc.metrics").number_of_replicas == "1"


def test_without_a_quorum_there_is_no_master_until_a_node_returns(still):
    still.table("doc.metrics", shards=6, replicas="1")
    still.crash(1)
    still.crash(2)
    still.advance(5)
    assert still.sql("SELECT master_node FROM sys.cluster")["rows"] == [[None]]
    assert health(still)[0] == "GREEN"
    still.restart(2)
    still.advance(5)
    assert still.sql("SELECT master_node FROM sys.cluster")["rows"] != [[None]]
    assert [n.name for n in still.world.members] == ["data-hot-0", "data-hot-2"]
    still.restart(1)
    still.advance(120)
    assert health(still) == ["GREEN", 0, 0]


def test_a_single_node_comes_back_as_its_own_master():
    with LabCrateDB(1, speed=0.0) as alone:
        alone.table("doc.metrics", replicas="0-1")
        alone.crash(0)
        alone.advance(2)
        alone.restart(0)
        alone.advance(5)
        assert health(alone) == ["GREEN", 0, 0]
        assert alone.sql("SELECT master_node FROM sys.cluster")["rows"] != [[None]]


def test_another_node_becomes_master_when_the_master_dies(still):
    still.crash(2)
    still.advance(1)
    rows = still.sql("SELECT name FROM sys.nodes WHERE is_master")["rows"]
    assert rows == [["data-hot-1"]]


def test_a_change_waits_for_the_new_master(wire):
    with LabCrateDB(3, speed=10.0) as lab:
        lab.table("doc.metrics", replicas="1")
        lab.drop_master(3)
        reply = wire(lab.url)("ALTER TABLE doc.metrics SET (number_of_replicas = 0)")
        assert reply.status == 200
        assert lab.table("doc.metrics").number_of_replicas == "0"


def test_snapshots_and_full_disks_are_shown(lab, wire):
    ask = wire(lab.url)
    lab.start_snapshot()
    assert ask("SELECT state FROM sys.snapshots").rows == [["IN_PROGRESS"]]
    lab.end_snapshots()
    assert ask("SELECT state FROM sys.snapshots").rows == [["SUCCESS"]]
    lab.fill_disk(0, 91)
    rows = ask("SELECT fs['total']['used'] * 100 / fs['total']['size'] FROM sys.nodes "
               "ORDER BY name").rows  # fmt: skip
    assert rows[0] in ([90], [91])


def test_a_lost_primary_can_be_made_and_mended_by_hand(lab):
    table = lab.table("doc.metrics", shards=2, replicas="1")
    table.lose_primary(1)
    assert health(lab)[0] == "RED"
    assert [row["primary"] for row in table.shards if row["id"] == 1] == [False, False]
    table.find_primary(1)
    lab.advance(2)
    assert health(lab) == ["GREEN", 0, 0]


def test_two_labs_of_one_seed_are_alike():
    with LabCrateDB(seed=5) as one, LabCrateDB(seed=5) as other:
        question = "SELECT id FROM sys.nodes ORDER BY name"
        assert one.sql(question)["rows"] == other.sql(question)["rows"]
