"""What is known of clusters is known, and what is not is unknown: never a guess, never a crash."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from caretaker.errors import RefusedError
from lab.materialize import LabMaterialize
from lab.materialize.sizes import Size
from resources.materialize.look import Looker
from resources.sql import materialize as sql

EIGHT = Size("8x", 64.0, 62, 2**38, processes=8)


def signals(look, lab, cluster="c"):
    return look.signals[lab.cluster_id(cluster)]


def of_replica(look, lab, name="r", cluster="c"):
    return signals(look, lab, cluster)["replicas"][name]


def cluster(look, name="c"):
    return next(one for one in look.clusters if one["name"] == name)


# --- what clusters are ----------------------------------------------------------------------------


def test_a_cluster_and_its_replicas_are_as_the_catalog_has_them(lab, look):
    lab.cluster("c", {"r": "25cc", "s": "50cc"})
    lab.managed_cluster("m", "100cc", 2)
    seen = look()

    one, two = cluster(seen), cluster(seen, "m")
    assert [(r["name"], r["size"]) for r in one["replicas"]] == [("r", "25cc"), ("s", "50cc")]
    assert (one["managed"], one["size"], one["replication_factor"]) == (False, None, None)
    assert (two["managed"], two["size"], two["replication_factor"]) == (True, "100cc", 2)
    assert (one["schedule"], one["pending"], one["auto_scaling"]) == ("manual", False, False)
    assert all(r["created_at"].endswith("+00:00") for r in one["replicas"])
    assert seen.warnings == []


def test_unsigned_integers_are_integers(lab, look):
    """A driver knows none of Materialize's own types: as text, '2' replicas would be none."""
    lab.managed_cluster("m", "100cc", 2)
    seen = look()

    assert type(cluster(seen, "m")["replication_factor"]) is int
    for size in seen.sizes:
        assert {type(size[key]) for key in ("processes", "workers", "memory_bytes")} == {int}
        assert type(size["credits_per_hour"]) is float


def test_a_schedule_and_a_reconfiguration_are_seen(lab, look):
    lab.managed_cluster("m", "25cc")
    lab.sql(
        "UPDATE mz_internal.mz_cluster_schedules SET type = 'on-refresh' WHERE cluster_id = %s",
        (lab.cluster_id("m"),),
    )
    lab.sql(
        "INSERT INTO mz_internal.mz_pending_cluster_replicas VALUES (%s)",
        (lab.replica_id("m", "r1"),),
    )
    seen = cluster(look(), "m")

    assert (seen["schedule"], seen["pending"]) == ("on-refresh", True)
    assert seen["replicas"][0]["pending"]


def test_a_replica_of_materializes_own_is_marked(lab, look):
    lab.cluster("c", {"r": "25cc"})
    lab.sql(
        "INSERT INTO mz_internal.mz_internal_cluster_replicas VALUES (%s)",
        (lab.replica_id("c", "r"),),
    )

    assert cluster(look())["replicas"][0]["internal"] is True


# --- ready ----------------------------------------------------------------------------------------


def test_a_replica_is_ready_once_it_is_online_and_holds_everything(lab, look):
    lab.cluster("c")
    lab.index("c", "i")
    lab.materialized_view("c", "v")
    lab.source("c", "k", "kafka")
    create(lab, "r", "25cc")
    ready = []
    for seconds in (0, 2.1, 6):
        lab.advance(seconds)
        ready.append(of_replica(look(), lab)["ready"])

    assert ready == [False, False, True]


def create(lab, name, size):
    options = {"SIZE": size}
    lab.call({"op": "create_replica", "cluster": "c", "name": name, "options": options})


def test_a_replica_that_must_hold_nothing_is_ready_when_it_is_online(lab, look):
    lab.cluster("c", {"r": "25cc"})

    assert of_replica(look(), lab)["ready"] is True


def test_a_source_that_runs_on_one_replica_is_not_waited_for_on_another(lab, look):
    """Or a successor would never be ready."""
    lab.cluster("c", {"r": "25cc"})
    lab.source("c", "orders", "postgres")
    lab.make_ready("c")
    create(lab, "s", "50cc")
    lab.advance(30)

    assert of_replica(look(), lab, "s")["ready"] is True


def test_hydration_that_dropped_replicas_left_behind_counts_for_nobody(lab, look):
    """Its rows linger on, and say that all is hydrated, or that nothing is."""
    lab.cluster("c", {"r": "25cc"})
    lab.index("c", "i", hydrate_s=-1)
    seen = []
    for left_behind in (True, False):
        lab.sql(
            "INSERT INTO mz_internal.mz_hydration_statuses"
            " SELECT object_id, 'u999', %s FROM mz_internal.mz_hydration_statuses"
            " WHERE replica_id = %s AND object_id LIKE 'u%%'",
            (left_behind, lab.replica_id("c", "r")),
        )
        seen.append(of_replica(look(), lab)["ready"])
        lab.make_ready("c")
    seen.append(of_replica(look(), lab)["ready"])

    assert seen == [False, True, True]


def test_one_process_of_eight_that_is_down_is_a_replica_that_is_down(lab, look):
    lab.size(EIGHT)
    lab.cluster("c", {"r": "8x"})
    before = of_replica(look(), lab)["ready"]
    lab.sql(
        "UPDATE mz_internal.mz_cluster_replica_statuses SET status = 'offline'"
        " WHERE replica_id = %s AND process_id = '1'::mz_catalog.uint8",
        (lab.replica_id("c", "r"),),
    )
    one_down = of_replica(look(), lab)["ready"]
    lab.sql(
        "DELETE FROM mz_internal.mz_cluster_replica_statuses"
        " WHERE replica_id = %s AND process_id = '1'::mz_catalog.uint8",
        (lab.replica_id("c", "r"),),
    )

    assert (before, one_down, of_replica(look(), lab)["ready"]) == (True, False, False)


def test_a_replica_without_introspection_never_says_and_is_unknown(lab, look):
    lab.cluster("c", {"r": "25cc"})
    lab.index("c", "i", hydrate_s=-1)
    lab.sql(
        "DELETE FROM mz_internal.mz_hydration_statuses WHERE replica_id = %s",
        (lab.replica_id("c", "r"),),
    )

    assert of_replica(look(), lab)["ready"] is None


def test_a_hydration_without_a_value_is_unknown(lab, look):
    lab.cluster("c", {"r": "25cc"})
    lab.index("c", "i")
    lab.make_ready("c")
    lab.sql(
        "UPDATE mz_internal.mz_hydration_statuses SET hydrated = NULL"
        " WHERE replica_id = %s AND object_id LIKE 'u%%'",
        (lab.replica_id("c", "r"),),
    )

    assert of_replica(look(), lab)["ready"] is None


# --- crashes --------------------------------------------------------------------------------------


def test_one_end_of_eight_processes_is_one(lab, look):
    lab.size(EIGHT)
    lab.cluster("c", {"r": "8x"})
    lab.advance(100)
    lab.crash_replica("c", "r", process=3)
    lab.advance(20)
    seen = of_replica(look(), lab)

    assert (seen["oom_count"], seen["crash_count"]) == (1, 1)


def test_ends_are_counted_and_old_ones_forgotten(lab, look):
    lab.cluster("c", {"r": "25cc"})
    counts = []
    for reason in ("oom-killed", None, "oom-killed"):
        lab.advance(600)
        lab.crash_replica("c", "r", reason=reason)
        lab.advance(10)
        seen = of_replica(look(), lab)
        counts.append((seen["oom_count"], seen["crash_count"]))
    lab.advance(1900)
    late = of_replica(look(), lab)
    short = of_replica(look(crash_lookback_s=600), lab)

    assert counts == [(1, 1), (1, 2), (2, 3)]
    assert (late["oom_count"], late["crash_count"]) == (2, 3)
    assert (short["oom_count"], short["crash_count"]) == (0, 0)


def test_the_first_end_in_the_look_back_is_one_if_it_was_online_before_that(lab, look):
    """A day online, then a crash: the row that says so is the only one of this hour."""
    lab.cluster("c", {"r": "25cc"})
    lab.advance(86400)
    lab.crash_replica("c", "r", reason=None)

    assert of_replica(look(), lab)["crash_count"] == 1


def test_a_start_is_no_crash(lab, look):
    """A replica begins offline, too."""
    lab.cluster("c")
    create(lab, "r", "25cc")
    lab.advance(10)
    seen = of_replica(look(), lab)

    assert (seen["oom_count"], seen["crash_count"]) == (0, 0)


# --- activity -------------------------------------------------------------------------------------


def test_the_last_use_is_by_others_than_us(lab, look):
    lab.cluster("c", {"r": "25cc"})
    lab.statement_ran("c", seconds_ago=300)
    lab.statement_ran("c", seconds_ago=5, application="caretaker")
    lab.statement_ran("c", seconds_ago=3, application="caretaker", running=True)
    activity = signals(look(), lab)["activity"]

    assert activity["running"] == 0
    assert lab.now() - psycopg_time(activity["last_at"]) == pytest.approx(300, abs=1)


def psycopg_time(text):
    return datetime.fromisoformat(text).timestamp()


def test_what_runs_and_who_subscribes_is_activity(lab, look):
    for name in ("c", "s", "old", "gone"):
        lab.cluster(name, {"r": "25cc"})
    lab.statement_ran("c", seconds_ago=3600, running=True)
    lab.subscribe("s")
    lab.statement_ran("old", seconds_ago=90000, running=True)
    lab.statement_ran("gone", seconds_ago=60, running=True, status="aborted")
    lab.sql(
        "UPDATE mz_internal.mz_statement_execution_history SET finished_status = 'aborted'"
        " WHERE cluster_id = %s",
        (lab.cluster_id("gone"),),
    )
    seen = look()

    running = {name: signals(seen, lab, name)["activity"]["running"] for name in ("c", "s")}
    assert running == {"c": 1, "s": 1}
    assert signals(seen, lab, "old")["activity"]["running"] == 0
    assert signals(seen, lab, "gone")["activity"]["running"] == 0


def test_a_subscription_that_began_long_ago_and_ended_just_now_is_activity(lab, look):
    lab.cluster("c", {"r": "25cc"})
    lab.statement_ran("c", seconds_ago=30 * 3600)
    lab.sql(
        "UPDATE mz_internal.mz_statement_execution_history"
        " SET finished_at = lab.now() - interval '1 minute' WHERE cluster_id = %s",
        (lab.cluster_id("c"),),
    )
    activity = signals(look(), lab)["activity"]

    assert activity["last_at"] is not None
    assert lab.now() - psycopg_time(activity["last_at"]) == pytest.approx(60, abs=1)


def test_a_query_that_failed_for_want_of_a_replica_is_activity(lab, look):
    """It is how a suspended cluster is woken."""
    lab.cluster("c")
    with psycopg.connect(lab.url, autocommit=True) as somebody:
        somebody.execute("SET cluster = c")
        somebody.execute("SET auto_route_catalog_queries = off")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            somebody.execute("SELECT name FROM mz_catalog.mz_tables")
    activity = signals(look(), lab)["activity"]

    assert activity["last_at"] is not None


def test_never_used_is_known_and_not_unknown(lab, look):
    lab.cluster("c", {"r": "25cc"})

    assert signals(look(), lab)["activity"] == {"last_at": None, "running": 0}


def test_without_statement_logging_activity_is_unknown(lab, look):
    """As the emulator starts; what was logged long ago says nothing of now."""
    lab.cluster("c", {"r": "25cc"})
    lab.statement_logging = False
    lab.statement_ran("c", seconds_ago=3000)
    seen = look()

    assert signals(seen, lab)["activity"] is None
    assert any("statement logging is off" in warning for warning in seen.warnings)


def test_without_the_right_to_read_it_activity_is_unknown(lab, look):
    lab.cluster("c", {"r": "25cc"})
    lab.create_user("reader")
    lab.create_user("monitor", "mz_monitor_redacted")
    reader, monitor = look(user="reader"), look(user="monitor")

    assert signals(reader, lab)["activity"] is None
    assert any("GRANT mz_monitor_redacted" in warning for warning in reader.warnings)
    assert signals(monitor, lab)["activity"] is not None


# --- versions -------------------------------------------------------------------------------------

_UNKNOWN = {
    "mz_internal.mz_cluster_replica_statuses": ("ready", None),
    "mz_internal.mz_hydration_statuses": ("ready", None),
    "mz_catalog.mz_indexes": ("ready", None),
    "mz_catalog.mz_materialized_views": ("ready", None),
    "mz_catalog.mz_sources": ("ready", None),
    "mz_internal.mz_cluster_replica_status_history": ("oom_count", None),
    "mz_internal.mz_statement_execution_history_redacted": ("activity", None),
    "mz_internal.mz_subscriptions": ("activity", None),
    "mz_internal.mz_cluster_replica_history": ("created_at", None),
    "mz_internal.mz_cluster_schedules": ("schedule", "manual"),
    "mz_internal.mz_pending_cluster_replicas": ("pending", False),
    "mz_internal.mz_internal_cluster_replicas": ("internal", False),
}


@pytest.mark.parametrize("relation", _UNKNOWN)
def test_a_relation_that_this_version_lacks_is_an_unknown_signal(lab, look, relation):
    lab.cluster("c", {"r": "25cc"})
    lab.drop_relation(relation)
    seen = look()

    key, expected = _UNKNOWN[relation]
    known = {
        **cluster(seen),
        **cluster(seen)["replicas"][0],
        **of_replica(seen, lab),
        "activity": signals(seen, lab)["activity"],
    }
    assert known[key] == expected
    assert any(relation in warning for warning in seen.warnings)


def test_a_column_that_this_version_lacks_is_an_unknown_signal(lab, look):
    lab.cluster("c", {"r": "25cc"})
    lab.sql("ALTER TABLE mz_internal.mz_hydration_statuses RENAME hydrated TO hydration")
    seen = look()

    assert of_replica(seen, lab)["ready"] is None
    warning = "no mz_internal.mz_hydration_statuses.hydrated"
    assert any(warning in told for told in seen.warnings)


@pytest.mark.parametrize("reading", sql.REQUIRED, ids=lambda one: next(iter(one.needs)))
def test_without_clusters_replicas_or_sizes_nothing_is_decided(lab, look, reading):
    relation = next(iter(reading.needs))
    lab.sql(f"ALTER TABLE {relation} RENAME {reading.needs[relation][-1]} TO other")

    with pytest.raises(RefusedError, match=f"this version has no {relation}"):
        look()


def test_where_no_size_is_offered_nothing_is_decided(lab, look):
    """A cluster that is suspended then could not be brought back."""
    lab.sql("DELETE FROM mz_catalog.mz_cluster_replica_sizes")
    with pytest.raises(RefusedError, match="offers no size"):
        look()


def test_a_managed_cluster_whose_schedule_nobody_knows_is_not_called_manual(lab, look):
    lab.managed_cluster("m", "25cc")
    lab.drop_relation("mz_internal.mz_cluster_schedules")
    assert cluster(look(), "m")["schedule"] == "unknown"


def test_what_only_newer_versions_have_is_used_where_it_is(connect):
    with LabMaterialize(speed=0.0, newer=True) as lab:
        lab.managed_cluster("m", "25cc")
        lab.managed_cluster("n", "25cc")
        lab.sql(
            "INSERT INTO mz_internal.mz_cluster_auto_scaling_strategies VALUES (%s, '{}', NULL)",
            (lab.cluster_id("m"),),
        )
        lab.sql(
            "INSERT INTO mz_internal.mz_cluster_reconfigurations VALUES (%s, 'running', now())",
            (lab.cluster_id("n"),),
        )
        seen = looked(connect(lab.url), lab)

    assert (cluster(seen, "m")["auto_scaling"], cluster(seen, "m")["pending"]) == (True, False)
    assert (cluster(seen, "n")["auto_scaling"], cluster(seen, "n")["pending"]) == (False, True)


def looked(source, lab):
    now = datetime.fromtimestamp(lab.now(), tz=UTC)
    return Looker(source, now=now, crash_lookback_s=3600, activity_lookback_s=86400).look()


def test_as_many_statements_for_fifty_clusters_as_for_one(lab, connect):
    lab.set_system(max_clusters=100)
    counts = []
    for clusters in (1, 50):
        for number in range(clusters):
            lab.cluster(f"c{clusters}_{number}", {"r": "25cc"})
        source = connect(lab.url)
        looked(source, lab)
        counts.append(source.session.sent)

    assert counts[0] == counts[1] < 20
