"""Pages of Materialize's clusters say what is, what is wanted, what was done, and what it costs."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from PIL import Image

from caretaker.strategies.cycle import Observed, plan
from caretaker.strategies.policy import StrategiesPolicy
from ops.strategies_metadata import (
    MOST_CHANGES_AN_HOUR,
    Done,
    actions_metadata,
    budget_check,
    configs_check,
    desired_metadata,
    flapping_check,
    signals_metadata,
)
from ops.strategies_pictures import Life, credits_used, replicas_picture

NOW = datetime(2026, 1, 30, 9, tzinfo=UTC)
SIZES = [
    {"size": size, "processes": 1, "workers": 1, "memory_bytes": 10**9, "credits_per_hour": price}
    for size, price in (("25cc", 0.25), ("50cc", 0.5), ("100cc", 1.0), ("400cc", 4.0))
]
SKY, BLUE, GREEN = (86, 180, 233), (0, 114, 178), (0, 158, 115)


def ago(**span):
    return NOW - timedelta(**span)


def replica(name, size, **more):
    created_at = ago(hours=5).isoformat()
    return {"id": f"u-{name}", "name": name, "size": size, "created_at": created_at, **more}


def observed(*clusters, strategies=None, warnings=(), **signals):
    """An environment of unmanaged clusters: (name, {replica: (size, ready)}), activity by name."""
    found = Observed(
        now=NOW.isoformat(), version="v26", environment="e", role="caretaker", sizes=SIZES,
        warnings=list(warnings),
    )  # fmt: skip
    for number, (name, replicas) in enumerate(clusters):
        cluster_id = f"u{number}"
        found.clusters.append({
            "id": cluster_id, "name": name, "managed": False, "size": None,
            "replication_factor": None, "schedule": "manual", "pending": False,
            "auto_scaling": False,
            "replicas": [replica(each, size) for each, (size, _) in replicas.items()],
        })  # fmt: skip
        found.signals[cluster_id] = {
            "activity": signals.get(name),
            "replicas": {
                each: {"ready": ready, "oom_count": 0, "crash_count": 0}
                for each, (_, ready) in replicas.items()
            },
        }
        for strategy, config in (strategies or {}).get(name, {}).items():
            found.strategies.setdefault(cluster_id, []).append(
                {"type": strategy, "config": config, "updated_at": None}
            )
    return found


def texts(metadata):
    """Every word of metadata, the tables' too."""
    return "\n".join(
        str([record.data for record in value.records])
        if isinstance(value, dg.TableMetadataValue)
        else str(getattr(value, "value", value))
        for value in metadata.values()
    )


def rows_of(metadata, name):
    return [record.data for record in metadata[name].records]


class TestSignals:
    """`cluster_signals`."""

    def test_each_cluster_has_its_line(self):
        idle = {"last_at": ago(minutes=70).isoformat(), "running": 0}
        busy = {"last_at": None, "running": 2}
        found = signals_metadata(
            observed(
                ("prod", {"r1": ("50cc", True), "r2": ("100cc", False)}),
                ("quiet", {"r1": ("25cc", True)}),
                prod=busy,
                quiet=idle,
            )
        )

        prod, quiet = rows_of(found, "signals")
        assert (prod["replicas"], prod["last used"]) == ("1 of 2 ready", "now, by 2")
        assert quiet["last used"] == "30\N{NO-BREAK SPACE}Jan 07:50:00"
        assert found["credits per hour"] == 1.75
        assert (found["replicas"], found["replicas ready"]) == (3, 2)

    def test_what_is_unknown_is_not_called_idle(self):
        found = signals_metadata(observed(("prod", {"r1": ("50cc", None)})))

        (prod,) = rows_of(found, "signals")
        assert prod["last used"] == "unknown"
        assert prod["unknown"] == "activity, readiness"
        assert found["something is unknown of"] == "prod"

    def test_suspended_are_those_that_we_keep_and_that_have_nobody(self):
        strategies = {"prod": {"idle_suspend": {"idle_after_s": 60}}}
        found = signals_metadata(
            observed(("prod", {}), ("somebody_elses", {}), strategies=strategies)
        )
        assert found["suspended"] == "prod"
        assert found["clusters suspended"] == 1

    def test_warnings_are_on_the_page(self):
        found = signals_metadata(observed(warnings=["statement logging is off"]))
        assert "statement logging is off" in texts(found)


def planned(found, **policy):
    return plan(found, StrategiesPolicy.checked(**policy))


class TestDesiredState:
    """`cluster_desired_state` and its checks."""

    def test_what_is_to_be_done_why_and_for_how_many_credits(self):
        strategies = {"prod": {"target_size": {"target_size": "50cc"}}}
        found = desired_metadata(
            planned(observed(("prod", {"old": ("100cc", True)}), strategies=strategies))
        )

        assert found["to do"] == "1 action on prod: +0.5 credits/h"
        (action,) = rows_of(found, "actions")
        assert action["action"] == "prod: create r_50cc (50cc)"
        assert action["credits/h"] == "+0.5"
        assert action["reason"].startswith("target_size: ")
        (prod,) = rows_of(found, "clusters")
        assert prod["replicas"] == "old (100cc) → old (100cc), r_50cc (50cc)"
        assert found["credits per hour"] == 1.0
        assert found["credits per hour, wanted"] == 1.5

    def test_nothing_to_do_is_said(self):
        strategies = {"prod": {"target_size": {"target_size": "50cc"}}}
        found = desired_metadata(
            planned(observed(("prod", {"r_50cc": ("50cc", True)}), strategies=strategies))
        )
        assert found["to do"].startswith("nothing")
        assert found["actions to do"] == 0

    def test_what_is_held_has_its_reason(self):
        strategies = {"prod": {"idle_suspend": {"idle_after_s": 60}}}
        found = desired_metadata(
            planned(observed(("prod", {"r1": ("50cc", True)}), strategies=strategies))
        )
        (prod,) = rows_of(found, "clusters")
        assert "unknown" in prod["held"]
        assert found["held"] == 1

    def test_a_config_that_is_wrong_turns_the_check_red_and_is_named(self):
        strategies = {"prod": {"target_size": {"target_size": "9000cc", "x": 1}}}
        check = configs_check(planned(observed(("prod", {}), strategies=strategies)))

        assert not check["passed"]
        assert check["severity"] is dg.AssetCheckSeverity.ERROR
        keys = {row["key"] for row in rows_of(check["metadata"], "problems")}
        assert keys == {"target_size", "x"}
        assert "prod, target_size" in check["description"]

    def test_two_rows_of_which_the_newest_holds_are_a_warning(self):
        found = observed(
            ("prod", {}), strategies={"prod": {"target_size": {"target_size": "50cc"}}}
        )
        newer = {**found.strategies["u0"][0], "updated_at": NOW.isoformat()}
        found.strategies["u0"].append(newer)

        check = configs_check(planned(found))

        assert not check["passed"]
        assert check["severity"] is dg.AssetCheckSeverity.WARN

    def test_a_memory_that_cannot_be_read_is_no_wrong_config(self):
        found = observed(
            ("prod", {}), strategies={"prod": {"target_size": {"target_size": "50cc"}}}
        )
        found.state["u0"] = {"target_size": {"version": 99, "payload": {}}}

        assert configs_check(planned(found))["passed"]

    @pytest.mark.parametrize(("limit", "passed"), [(None, True), (0.5, True), (0.4, False)])
    def test_the_budget_is_what_a_cluster_costs_now(self, limit, passed):
        strategies = {"prod": {"burst": {"burst_replica_size": "400cc"}}}
        found = observed(("prod", {"r1": ("50cc", True)}), strategies=strategies)

        check = budget_check(planned(found, max_credits_per_hour=limit))

        assert check["passed"] is passed
        assert check["metadata"]["credits per hour"] == 0.5


def done(cluster="prod", *, executed=True, error=None, minutes=1):
    sql = f'DROP CLUSTER REPLICA "{cluster}"."r1"'
    at = ago(minutes=minutes)
    return Done(cluster, sql, "burst", "r2 is ready", -4.0, executed, error, at)


class TestActions:
    """`cluster_actions` and its check."""

    def test_newest_first_with_reason_and_credits(self):
        found = actions_metadata([done(), done(minutes=90)], [], NOW)

        first, second = rows_of(found, "actions")
        assert first["action"] == "prod: drop r1"
        assert (first["reason"], first["credits/h"]) == ("burst: r2 is ready", "-4")
        assert second["UTC"] == "30\N{NO-BREAK SPACE}Jan 07:30:00"
        assert found["last hour"] == "1 executed, 0 not executed"
        assert found["24 h: executed"] == 2

    def test_what_failed_says_why(self):
        found = actions_metadata([done(executed=False, error="quota"), done()], [], NOW)
        assert found["24 h: failed"] == 1
        assert found["last failure"].endswith("quota")
        first, _ = rows_of(found, "actions")
        assert (first["reason"], first["credits/h"]) == ("not executed: quota", "")

    def test_one_that_nobody_ended_is_neither(self):
        found = actions_metadata([done(executed=None)], [], NOW)
        assert found["last hour"] == "0 executed, 0 not executed, 1 under way"
        (row,) = rows_of(found, "actions")
        assert row["reason"].startswith("under way")

    def test_thousands_of_actions_are_a_page_all_the_same(self):
        lives = [
            Life("prod", f"r{n}", "50cc", ago(minutes=n + 1), ago(minutes=n), 0.5)
            for n in range(1400)
        ]
        found = actions_metadata([done(minutes=n) for n in range(1400)], lives, NOW)
        assert len(rows_of(found, "actions")) < 20
        assert len(texts(found)) < 100_000

    @pytest.mark.parametrize(
        ("count", "minutes", "passed"),
        [
            (MOST_CHANGES_AN_HOUR, 1, True),
            (MOST_CHANGES_AN_HOUR + 1, 1, False),
            (MOST_CHANGES_AN_HOUR + 1, 61, True),
        ],
    )
    def test_a_cluster_that_is_changed_too_often_in_an_hour_is_named(self, count, minutes, passed):
        check = flapping_check([done("web", minutes=minutes)] * count, NOW)

        assert check["passed"] is passed
        assert ("web" in check["description"]) is not passed

    def test_what_was_not_executed_changed_nothing(self):
        tried = [done(executed=False)] * (MOST_CHANGES_AN_HOUR + 1)
        assert flapping_check(tried, NOW)["passed"]

    def test_many_clusters_with_a_few_changes_each_do_not_flap(self):
        assert flapping_check([done(f"c{n}") for n in range(500)], NOW)["passed"]


class TestCredits:
    """What replicas have cost, from when they lived."""

    @pytest.mark.parametrize(
        ("created", "dropped", "credits_"),
        [
            (ago(hours=2), None, 8.0),
            (ago(hours=30), None, 24 * 4.0),
            (ago(hours=30), ago(hours=25), 0.0),
            (ago(hours=30), ago(hours=23), 4.0),
        ],
    )
    def test_only_the_hours_that_are_asked_for_count(self, created, dropped, credits_):
        life = Life("prod", "r1", "400cc", created, dropped, 4.0)
        assert credits_used([life], ago(hours=24), NOW) == pytest.approx(credits_)

    def test_a_size_without_a_price_costs_nothing_that_is_known(self):
        assert credits_used([Life("p", "r", "x", ago(hours=1), None, None)], ago(hours=2), NOW) == 0


def opened(png):
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGB")


def share(png, colour):
    """How many pixels are about this colour."""
    counts = opened(png).getcolors(100_000) or []
    return sum(
        count
        for count, pixel in counts
        if all(abs(a - b) < 14 for a, b in zip(pixel, colour, strict=True))
    )


class TestThePicture:
    """Replicas over time: as long as they lived, as high as they cost."""

    def test_sizes_have_their_colours_by_price(self):
        png = replicas_picture(
            [
                Life("a", "r1", "25cc", ago(hours=2), ago(hours=1), 0.25),
                Life("a", "r2", "50cc", ago(hours=1), None, 0.5),
                Life("b", "r3", "400cc", ago(hours=1), None, 4.0),
            ],
            NOW,
        )
        assert all(share(png, colour) > 300 for colour in (SKY, BLUE, GREEN))

    def test_twice_as_long_is_twice_as_wide(self):
        png = replicas_picture(
            [
                Life("a", "r1", "25cc", ago(hours=9), ago(hours=3), 1.0),
                Life("a", "r2", "50cc", ago(hours=3), None, 1.0),
            ],
            NOW,
        )
        assert share(png, SKY) / share(png, BLUE) == pytest.approx(2.0, abs=0.2)

    def test_at_the_same_time_they_stand_on_each_other(self):
        """Each with its own height: twice the credits, twice the area."""
        png = replicas_picture(
            [
                Life("a", "r1", "25cc", ago(hours=3), None, 1.0),
                Life("a", "r2", "50cc", ago(hours=3), None, 2.0),
            ],
            NOW,
        )
        assert share(png, BLUE) / share(png, SKY) == pytest.approx(2.0, abs=0.2)

    def test_a_suspended_cluster_leaves_a_gap(self):
        def drawn(end):
            lives = [
                Life("a", "r1", "50cc", ago(hours=9), end, 1.0),
                Life("a", "r1", "50cc", ago(hours=1), None, 1.0),
            ]
            return share(replicas_picture(lives, NOW), SKY)

        assert drawn(ago(hours=5)) < 0.75 * drawn(ago(hours=1))

    @pytest.mark.parametrize("clusters", [0, 1, 6, 300])
    @pytest.mark.parametrize("price", [None, 0.0, 1e6])
    def test_any_number_of_clusters_at_any_price_is_a_picture_that_fits(self, clusters, price):
        lives = [
            Life(f"c$a_{n}{{", "r", "日$x_{$", ago(hours=1), None, price) for n in range(clusters)
        ]
        png = replicas_picture(lives, NOW)
        assert opened(png).width == 900
        assert opened(png).height <= 1100
        assert len(png) < 60_000

    @pytest.mark.parametrize("created", [ago(days=400), NOW, NOW + timedelta(hours=1)])
    @pytest.mark.parametrize("dropped", [None, NOW, ago(hours=48)])
    def test_any_life_can_be_drawn(self, created, dropped):
        assert replicas_picture([Life("a", "r", "50cc", created, dropped, 1.0)], NOW)
