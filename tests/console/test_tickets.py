"""`caretaker tickets`: what is owed, and making good on it."""

from __future__ import annotations

import signal

import pytest

from caretaker.decommission.cluster_settings import ALLOCATION
from caretaker.decommission.model import ClusterRef
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.ticket import (
    DecommissionState,
    PodProgress,
    Remembered,
    RestartTicket,
)
from lab.faults import Fault
from resources.clock import utc_now
from resources.process import owner_of_run
from tests.console.conftest import wait_for_line

SICK = 1840
REMEDY = """ALTER TABLE "doc"."metrics" SET ("number_of_replicas" = '0-1')"""
KEYS = {
    "id", "schema", "table", "partition", "state", "original_replicas", "cluster_id",
    "cluster_name", "run_id", "host", "pid", "epoch", "created_at", "heartbeat_at", "closed_at",
    "attempts", "next_try_at", "last_error", "reason", "remedy",
}  # fmt: skip


@pytest.mark.parametrize("stop", ["", "stopped by the operator"], ids=["goes on", "stopped"])
def test_a_dry_run_of_restore_says_which_pods_would_go(caretaker, stop):
    drained = PodProgress("crate-2", "u2", 0, state=DecommissionState.DRAINING)
    pods = (drained, PodProgress("crate-1", "u1", 0), PodProgress("crate-0", "u0", 0))
    owed = (Remembered(ALLOCATION, "all", ours=("primaries",)),)
    ticket = RestartTicket(
        ClusterRef("ns", "prod", "id-1"), RestartPolicy(), pods, 3, utc_now(), owed, stop=stop
    )
    with caretaker.store as store:
        held = store.open_restart(ticket, owner_of_run("r", 1), purpose="rolling_restart", way={})
        store.restart_failed(held, ticket, "said the test", utc_now())
    left = [] if stop else ["crate-1", "crate-0"]

    ended = caretaker("tickets", "restore", "--dry-run")
    (found,) = caretaker("tickets", "restore", "--dry-run", "--output", "json").json["restarts"]

    reset = f'RESET GLOBAL "{ALLOCATION}"'
    assert ended.statements == [reset]
    assert "crate-2 is seen to its end" in ended.out
    assert ("one at a time, the elected master last: crate-1, crate-0" in ended.out) is bool(left)
    assert found == {"id": "r1", "remedy": [reset], "under_way": "crate-2", "to_restart": left}


@pytest.fixture
def owed(caretaker, lab):
    """A table at 0 whose restore CrateDB refused, and its ticket 1."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    rule = lab.faults.add(
        Fault(match="^ALTER", after_matches=1, action="error", status=404, code=4041)
    )
    ended = caretaker("translogs", "--autoexec", "--config", caretaker.config())
    assert ended.code == 4
    lab.faults.remove(rule.id)
    return table


def test_nothing_is_owed_at_first(caretaker):
    for verb in (["tickets"], ["tickets", "list"], ["tickets", "restore"]):
        ended = caretaker(*verb)
        assert (ended.code, ended.out) == (0, "No open ticket: nothing waits to be put back.\n")
    assert caretaker("tickets", "list", "--all").out == "No ticket.\n"
    for verb in (["tickets", "list"], ["tickets"]):
        assert caretaker(*verb, "--output", "json").json == {"tickets": [], "restarts": []}


@pytest.mark.usefixtures("owed")
def test_an_open_ticket_is_listed_with_what_it_promises(caretaker):
    ended = caretaker("tickets")

    assert ended.code == 0
    line = ended.out.splitlines()[1].split()
    assert line[:5] == ["1", "doc.metrics", "-", "FAILED", "0-1"]
    (ticket,) = caretaker("tickets", "list", "--output", "json").json["tickets"]
    assert ticket.keys() == KEYS
    assert (ticket["schema"], ticket["table"], ticket["partition"]) == ("doc", "metrics", None)
    assert ticket["remedy"] == REMEDY
    assert ticket["original_replicas"] == "0-1"
    assert ticket["closed_at"] is None
    assert ticket["created_at"].endswith("Z")


@pytest.mark.usefixtures("owed")
def test_show_has_every_statement_that_was_sent(caretaker):
    document = caretaker("tickets", "show", "1", "--output", "json").json
    text = caretaker("tickets", "show", "1").out

    assert document.keys() == KEYS | {"statements"}
    assert [s["sql"].split()[0] for s in document["statements"]] == ["ALTER", "OPTIMIZE", "ALTER"]
    assert [s["result"] for s in document["statements"]] == ["ok", "ok", "refused"]
    assert REMEDY in text


@pytest.mark.usefixtures("owed")
def test_a_dry_run_of_restore_prints_the_statement_only(caretaker, lab):
    ended = caretaker("tickets", "restore", "--dry-run")

    assert ended.statements == [REMEDY]
    assert lab.at_zero() == ["doc.metrics"]
    document = caretaker("tickets", "restore", "1", "--dry-run", "--output", "json").json
    assert document == {
        "tickets": [{"id": 1, "remedy": REMEDY}],
        "restarts": [],
        "dry_run": True,
    }


@pytest.mark.parametrize("ids", [[], ["1"]])
def test_restore_gives_back_what_was_promised(caretaker, lab, owed, ids):
    """All, or the one that is named; and then it is closed, and still known."""
    ended = caretaker("tickets", "restore", *ids)

    assert ended.code == 0
    assert "doc.metrics" in ended.out
    assert owed.number_of_replicas == "0-1"
    assert lab.at_zero() == []
    assert caretaker("tickets").out.startswith("No open ticket")
    (ticket,) = caretaker("tickets", "list", "--all", "--output", "json").json["tickets"]
    assert ticket["closed_at"]
    caretaker("tickets", "restore", "1").refused("ticket 1 is closed")


@pytest.mark.usefixtures("owed")
def test_restore_that_is_refused_again_ends_with_1_and_keeps_the_ticket(caretaker, lab):
    lab.faults.add(Fault(match="^ALTER", action="error", status=404, code=4041))

    ended = caretaker("tickets", "restore", "--output", "json")

    assert ended.code == 1
    assert ended.json["tables"][0]["outcome"] == "NOT_RESTORED"
    assert len(caretaker("tickets", "--output", "json").json["tickets"]) == 1


def test_an_unknown_ticket_is_refused(caretaker, lab):
    for verb in (["show", "77"], ["restore", "77"], ["restore", "77", "--dry-run"]):
        caretaker("tickets", *verb).refused("there is no ticket 77")
    assert len(lab.journal) == 0


def test_a_living_owner_is_not_disturbed(caretaker, lab):
    """Exit code 3: declined, nothing touched. Without a number it is no error at all."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK, leases_stuck=True)
    process = caretaker.start("translogs", "--autoexec")
    wait_for_line(process, "MONITORING_LEASES (attempt 1")

    caretaker("tickets", "restore", "1").refused("which is alive", code=3)
    ended = caretaker("tickets", "restore")
    assert ended.code == 0
    assert "alive" in ended.out
    assert lab.at_zero() == ["doc.metrics"]

    process.send_signal(signal.SIGINT)
    assert caretaker.wait(process).code == 3
    assert table.number_of_replicas == "0-1"


def test_a_dead_owner_is_taken_over(caretaker, die_with_a_table_at_zero):
    table = die_with_a_table_at_zero("doc.metrics", "0-1")

    assert caretaker("tickets", "restore", "1").code == 0

    assert table.number_of_replicas == "0-1"


def test_clear_lets_a_table_that_was_set_aside_be_reset_again(caretaker, lab):
    """After so many resets without cure it waits for an operator, who says so."""
    table = lab.table("doc.metrics", sick_mb=SICK)
    config = caretaker.config(retry_after_s=0, set_aside_after=1, verify_timeout_s=0)
    lab.world.recovery_s = 3600
    assert caretaker("translogs", "--autoexec", "--config", config).code == 0
    lab.world.recovery_s = 0.0
    lab.advance(4000)
    table.make_sick(SICK)

    def reason():
        run = caretaker("translogs", "--dry-run", "--config", config, "--output", "json").json
        return run["tables"][0]["reason"]

    assert "set aside" in reason()
    would = caretaker("tickets", "clear", "doc.metrics", "--dry-run")
    assert would.out == "doc.metrics: would be cleared\n"
    assert "set aside" in reason()
    assert caretaker("tickets", "clear", "doc.metrics").out == "doc.metrics: is cleared\n"
    assert reason() == ""
    caretaker("tickets", "clear", "doc.other").refused("doc.other")


def test_an_option_before_the_verb_is_not_swallowed(caretaker):
    caretaker("tickets", "--output", "json", "list").refused("behind the verb", code=2)


def test_resume_that_is_refused_ends_with_4(caretaker, lab, die_with_a_table_at_zero):
    """`translogs --resume` has the exit codes of its page."""
    die_with_a_table_at_zero("doc.metrics", "0-1")
    lab.faults.add(Fault(match="^ALTER", action="error", status=404, code=4041))

    ended = caretaker("translogs", "--resume", "--output", "json")

    assert ended.code == ended.json["exit_code"] == 4
