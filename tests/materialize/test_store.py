"""The three tables keep what is written, in Materialize and in PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from caretaker.errors import RefusedError
from resources.materialize.resource import MaterializeResource, open_store
from resources.materialize.settings import STORE_URL
from resources.materialize.store import StateRow
from resources.sql.strategies import ACTIONS, COLUMNS, STATE

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


@pytest.fixture(params=["in_materialize", "in_postgresql"])
def store(request, lab, connect, postgres_url):
    elsewhere = postgres_url if request.param == "in_postgresql" else ""
    opened = open_store(connect(lab.url), elsewhere)
    yield opened
    opened.close()


@pytest.fixture
def tables(store):
    store.create()
    return store


def entry(**payload):
    return {"version": 1, "payload": payload}


# --- the tables themselves ------------------------------------------------------------------------


def test_the_first_apply_makes_the_tables_and_the_next_finds_them(store):
    before = store.read()
    assert store.create() == list(COLUMNS)

    assert store.create() == []
    assert store.read().warnings == []
    assert before.strategies == {}
    assert [f"there is no table {table} yet" in told for table, told in zip(
        COLUMNS, before.warnings, strict=True)] == [True] * 3  # fmt: skip


def test_looking_makes_no_table(store):
    store.read()

    assert store.missing() == list(COLUMNS)


def test_the_state_table_of_the_seed_is_refused_and_made_anew_on_demand(store):
    """It has no column strategy_type, so that two strategies would share a row."""
    store.session.change(
        "CREATE TABLE mz_cluster_strategy_state (cluster_id text NOT NULL,"
        " state_version int NOT NULL, payload jsonb NOT NULL, updated_at timestamptz)"
    )
    with pytest.raises(RefusedError, match="no column strategy_type") as caught:
        store.create()
    assert "wipe-state --recreate" in caught.value.hint

    assert store.recreate() == [STATE, ACTIONS]
    store.create()
    assert store.read().state == {}


def test_making_anew_keeps_what_people_wrote_and_the_audit(tables):
    tables.session.change(
        "INSERT INTO mz_cluster_strategies VALUES ('u1', 'burst', '{}'::jsonb, now())"
    )
    tables.begin_action("a", "u1", "DROP", {}, NOON)
    tables.write_state([StateRow("u1", "burst", entry())], NOON)

    assert tables.recreate() == [STATE]
    stored = tables.read()
    assert (list(stored.strategies), stored.state) == (["u1"], {})
    assert [one.action_id for one in stored.open_actions] == ["a"]


def test_a_strategies_table_of_another_shape_is_left_to_its_owner(store):
    store.session.change("CREATE TABLE mz_cluster_strategies (cluster text)")
    with pytest.raises(RefusedError, match="mz_cluster_strategies has another shape") as caught:
        store.create()

    assert "what people wrote" in caught.value.hint
    assert store.recreate() == [STATE, ACTIONS]
    assert store.session.columns("SELECT * FROM mz_cluster_strategies LIMIT 0") == ["cluster"]


def test_more_columns_than_we_need_are_no_trouble(tables):
    tables.session.change("DROP TABLE mz_cluster_strategies")
    tables.session.change(
        "CREATE TABLE mz_cluster_strategies (note text, cluster_id text, strategy_type text,"
        " config jsonb, updated_at timestamptz)"
    )

    assert tables.missing() == []


# --- strategies -----------------------------------------------------------------------------------


def row(tables, config, *, kind="burst", updated_at="now()"):
    values = f"('u1', '{kind}', %s::jsonb, {updated_at})"
    tables.session.change(f"INSERT INTO mz_cluster_strategies VALUES {values}", (config,))  # noqa: S608


def test_configs_come_as_they_were_written(tables):
    row(tables, '{"burst_replica_size": "50cc", "cooldown_s": 1.5, "x": [null, true, "é"]}')

    (read,) = tables.read().strategies["u1"]
    assert read["config"] == {"burst_replica_size": "50cc", "cooldown_s": 1.5,
                              "x": [None, True, "é"]}  # fmt: skip
    assert read["updated_at"].endswith("+00:00")


def test_a_config_that_python_cannot_read_is_text_and_no_crash(tables):
    """Nested deeper than the interpreter goes; a number of ten thousand digits."""
    row(tables, "[" * 5000 + "]" * 5000)
    row(tables, '{"cooldown_s": ' + "9" * 10_000 + "}")

    assert {type(one["config"]) for one in tables.read().strategies["u1"]} <= {str, list, dict}


@pytest.mark.parametrize("updated_at", ["NULL", "'infinity'", "'-infinity'"])
def test_a_time_that_is_none_is_the_oldest(tables, updated_at):
    row(tables, "{}", updated_at=updated_at)

    assert tables.read().strategies["u1"][0]["updated_at"] is None


# --- state ----------------------------------------------------------------------------------------


def test_what_is_remembered_comes_back_and_only_the_newest_stays(tables):
    for number in range(3):
        at = NOON + timedelta(seconds=number)
        tables.write_state([StateRow("u1", "burst", entry(n=number)),
                            StateRow("u2", "burst", entry(n=-number))], at)  # fmt: skip
    stored = tables.read()

    assert stored.state == {"u1": {"burst": entry(n=2)}, "u2": {"burst": entry(n=-2)}}
    assert stored.written_at == {
        (one, "burst"): NOON + timedelta(seconds=2) for one in ("u1", "u2")
    }
    assert tables.session.rows("SELECT count(*) FROM mz_cluster_strategy_state") == [(2,)]


def test_between_writing_and_clearing_the_newer_row_holds(tables):
    """Whoever is killed there leaves two rows."""
    tables.write_state([StateRow("u1", "burst", entry(n=1))], NOON)
    tables.session.change(
        "INSERT INTO mz_cluster_strategy_state VALUES"
        " ('u1', 'burst', 1, '{\"n\": 2}'::jsonb, %s),"
        " ('u1', 'burst', 1, '{\"n\": 0}'::jsonb, NULL)",
        (NOON + timedelta(seconds=1),),
    )
    assert tables.read().state == {"u1": {"burst": entry(n=2)}}
    tables.write_state([StateRow("u1", "burst", entry(n=3))], NOON + timedelta(seconds=2))

    assert tables.session.rows("SELECT count(*) FROM mz_cluster_strategy_state") == [(1,)]


def test_others_keep_their_state(tables):
    tables.write_state([StateRow("u1", "burst", entry()), StateRow("u1", "target_size", entry()),
                        StateRow("u2", "burst", entry())], NOON)  # fmt: skip
    tables.write_state([StateRow("u1", "burst", entry(n=1))], NOON + timedelta(seconds=1))

    assert tables.read().state == {
        "u1": {"burst": entry(n=1), "target_size": entry()},
        "u2": {"burst": entry()},
    }


def test_a_thousand_rows_are_written_in_a_few_statements(tables):
    rows = [StateRow(f"u{number}", "burst", entry(n=number)) for number in range(1000)]
    before = tables.session.sent
    tables.write_state(rows, NOON)

    assert tables.session.sent - before == 4
    assert len(tables.read().state) == 1000


def test_names_and_texts_of_every_kind_come_back_or_are_spelled_out(tables):
    """A NUL and half of a surrogate pair are in no database's text."""
    hostile = "'; DROP TABLE mz_cluster_strategies; -- \" \\ ü 💥 %s $1"
    tables.write_state([StateRow(hostile, hostile, entry(text=hostile, odd="a\0b\ud83d"))], NOON)
    payload = tables.read().state[hostile][hostile]["payload"]

    assert payload == {"text": hostile, "odd": "a\\x00b\\ud83d"}
    assert tables.missing() == []


# --- forgetting -----------------------------------------------------------------------------------


def test_wiping_forgets_some_or_all_and_what_was_about_to_be_remembered(tables):
    rows = [StateRow(one, "burst", entry()) for one in ("u1", "u2", "u3")]
    tables.write_state(rows, NOON)
    for one in ("u1", "u2"):
        tables.begin_action(one, one, "CREATE", {"state": entry(), "op": "create"}, NOON)

    assert tables.wipe(["u1"]) == 1
    kept = {one.cluster_id: one.context for one in tables.read().open_actions}
    assert (set(tables.read().state), "state" in kept["u1"]) == ({"u2", "u3"}, False)
    assert kept["u1"]["op"] == "create"
    assert "state" in kept["u2"]
    assert tables.wipe() == 2
    assert tables.read().state == {}
    assert all("state" not in one.context for one in tables.read().open_actions)


def test_making_anew_forgets_what_was_about_to_be_remembered(tables):
    tables.begin_action("a", "u1", "CREATE", {"state": entry(), "op": "create"}, NOON)
    tables.recreate()
    (kept,) = tables.read().open_actions
    assert ("state" in kept.context, kept.context["op"]) == (False, "create")


# --- the audit ------------------------------------------------------------------------------------


def test_an_action_is_open_until_its_end_is_written(tables):
    tables.begin_action("a", "u1", "CREATE", {"op": "create"}, NOON)
    tables.begin_action("b", "u2", "DROP", {"op": "drop"}, NOON - timedelta(seconds=1))
    opened = [one.action_id for one in tables.read().open_actions]
    of_one = [one.action_id for one in tables.open_actions_of("u1")]
    tables.end_action("a", executed=True)
    tables.end_action("b", executed=False, error="no\0 such \ud800thing")
    tables.note_actions([("c", "u3", "ALTER", {})], "not run", NOON)
    audit = {one.action_id: one for one in tables.recent(NOON - timedelta(hours=1))}

    assert (opened, of_one) == (["b", "a"], ["a"])
    assert tables.read().open_actions == []
    assert (audit["a"].executed, audit["a"].error) == (True, "")
    assert (audit["b"].executed, audit["b"].error) == (False, "no\\x00 such \\ud800thing")
    assert (audit["c"].executed, audit["c"].error) == (False, "not run")


def test_an_audit_row_that_somebody_else_wrote_is_no_crash(tables):
    tables.session.change("INSERT INTO mz_cluster_strategy_actions (action_id) VALUES ('x')")
    tables.session.change(
        "INSERT INTO mz_cluster_strategy_actions (action_id, decision_ctx, created_at)"
        " VALUES ('y', '[1]', NULL)"
    )

    assert {one.action_id: one.context for one in tables.read().open_actions} == {"x": {}, "y": {}}


# --- where they are -------------------------------------------------------------------------------


def test_the_resource_binds_names_and_no_values():
    bound = MaterializeResource.from_variables({"DATABASE_URL": "x", STORE_URL: "y"})

    assert "DATABASE_URL" in str(bound)
    assert MaterializeResource.from_variables({}).url == ""


def test_a_store_that_cannot_be_reached_names_its_own_variable(lab, connect):
    with pytest.raises(RefusedError) as caught:
        open_store(connect(lab.url), "postgresql://me@no-such-host.invalid/x").read()

    assert STORE_URL in caught.value.hint


def test_tables_in_materialize_need_a_cluster_with_a_replica(lab, connect):
    """And it is said which one, and what to do."""
    open_store(connect(lab.url)).create()
    lab.cluster("empty")
    source = connect(f"{lab.url}?options=--cluster%3Dempty")
    with pytest.raises(RefusedError, match='"empty" has no replicas') as caught:
        open_store(source).read()

    assert source.session_cluster() == "empty"
    assert STORE_URL in caught.value.hint
