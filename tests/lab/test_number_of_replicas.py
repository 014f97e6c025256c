"""number_of_replicas is text with traps, and the lab has every one of them."""

from __future__ import annotations

import pytest

from lab.cratedb import replicas

TEXT = "SELECT number_of_replicas FROM information_schema.tables WHERE table_name = 't'"


@pytest.fixture
def ask(lab, wire):
    lab.table("doc.t", shards=2, replicas="1")
    return wire(lab.url)


@pytest.mark.parametrize("text", ["0-1", "0-all", "1-2", "0-0", "0", "2", "1"])
def test_the_text_is_kept_verbatim(text, ask):
    assert ask("ALTER TABLE doc.t SET (number_of_replicas = ?)", [text]).json["rowcount"] == -1
    assert ask(TEXT).rows == [[text]]


@pytest.mark.parametrize(("value", "shown"), [("'01'", "1"), ("2-1", "1"), ("3", "3"), ("0", "0")])
def test_what_is_silently_something_else(value, shown, ask):
    assert ask(f"ALTER TABLE doc.t SET (number_of_replicas = {value})").status == 200
    assert ask(TEXT).rows == [[shown]]


@pytest.mark.parametrize("value", ["0-1", "true", "1.0", "null", "'1 '", "'-1'", "'x'", "'1-'",
                                   "0-all"])  # fmt: skip
def test_what_is_refused_changes_nothing(value, ask):
    reply = ask(f"ALTER TABLE doc.t SET (number_of_replicas = {value})")
    assert (reply.status, reply.code) == (400, 4000)
    assert ask(TEXT).rows == [["1"]]


@pytest.mark.parametrize(
    ("text", "nodes", "wanted"),
    [("0-1", 1, 0), ("0-1", 3, 1), ("0-all", 3, 2), ("1-2", 1, 1), ("1-2", 5, 2), ("2", 1, 2)],
)
def test_a_range_expands_with_the_nodes_and_a_number_does_not(text, nodes, wanted):
    assert replicas.effective(text, nodes) == wanted


def test_reset_gives_the_default_not_the_original(ask):
    ask("ALTER TABLE doc.t RESET (number_of_replicas)")
    assert ask(TEXT).rows == [["0-1"]]


def test_with_timeout_is_taken_although_the_packaged_grammar_does_not(ask):
    reply = ask("ALTER TABLE doc.t SET (number_of_replicas = 0) WITH (timeout = '60s')")
    assert reply.json["rowcount"] == -1
    assert ask(TEXT).rows == [["0"]]


def test_a_number_is_held_against_the_shard_budget_and_a_range_is_not(ask):
    ask('SET GLOBAL TRANSIENT "cluster.max_shards_per_node" = 1')
    assert ask("ALTER TABLE doc.t SET (number_of_replicas = 0)").status == 200
    reply = ask("ALTER TABLE doc.t SET (number_of_replicas = '1')")
    assert (reply.status, reply.code) == (400, 4000)
    wanted = "would add [2] total shards, but this cluster currently has [2]/[3] maximum shards"
    assert wanted in reply.message
    assert ask("ALTER TABLE doc.t SET (number_of_replicas = '0-1')").status == 200


def test_wait_for_active_shards_refuses_zero_up_front(ask):
    ask('ALTER TABLE doc.t SET ("write.wait_for_active_shards" = 2)')
    reply = ask("ALTER TABLE doc.t SET (number_of_replicas = 0)")
    assert (reply.status, reply.code) == (400, 4000)
    assert ask(TEXT).rows == [["1"]]


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("blocks.read_only", 4007),
        ("blocks.metadata", 4007),
        ("blocks.read_only_allow_delete", None),
    ],
)
def test_blocks_refuse_or_let_through(block, code, ask):
    ask(f'ALTER TABLE doc.t SET ("{block}" = true)')
    reply = ask("ALTER TABLE doc.t SET (number_of_replicas = 0)")
    assert (reply.code if reply.status != 200 else None) == code


def test_a_closed_table_takes_it(ask):
    ask("ALTER TABLE doc.t CLOSE")
    assert ask("ALTER TABLE doc.t SET (number_of_replicas = 0)").status == 200


def test_plain_alter_clobbers_all_partitions_only_the_template(lab, wire):
    table = lab.table("doc.p", replicas="0-1", partitioned_by=[("d", "integer")],
                      partitions=[{"d": 1}, {"d": 2}])  # fmt: skip
    ask = wire(lab.url)
    ask("ALTER TABLE ONLY doc.p SET (number_of_replicas = '2')")
    assert table.number_of_replicas == "2"
    assert table.partition({"d": 1}).number_of_replicas == "0-1"
    ask("ALTER TABLE doc.p PARTITION (d = 1) SET (number_of_replicas = 0)")
    assert table.partition({"d": 1}).number_of_replicas == "0"
    assert table.partition({"d": 2}).number_of_replicas == "0-1"
    assert table.number_of_replicas == "2"
    ask("ALTER TABLE doc.p SET (number_of_replicas = '1')")
    assert table.partition({"d": 1}).number_of_replicas == "1"
    assert table.partition({"d": 2}).number_of_replicas == "1"


def test_the_book_of_zero_knows_who_how_many_and_how_long(lab, wire):
    ask = wire(lab.url)
    lab.table("doc.a", replicas="0-1")
    lab.table("doc.always", replicas="0")
    parted = lab.table("doc.b", partitioned_by=[("d", "integer")], partitions=[{"d": 1}])
    name = parted.partition({"d": 1}).name
    assert lab.at_zero() == []
    ask("ALTER TABLE doc.a SET (number_of_replicas = 0)")
    ask("ALTER TABLE doc.b PARTITION (d = 1) SET (number_of_replicas = 0)")
    assert lab.at_zero() == ["doc.a", name]
    assert lab.most_at_zero == 2
    ask("ALTER TABLE doc.a SET (number_of_replicas = '0-1')")
    parted.drop()
    assert lab.at_zero() == []
    assert lab.most_at_zero == 2
    assert len(lab.seconds_at_zero()["doc.a"]) == 1
    assert "doc.always" not in lab.seconds_at_zero()
