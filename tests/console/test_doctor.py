"""`caretaker doctor`: what works, what would refuse, what to change; it changes nothing."""

from __future__ import annotations

import pytest

from lab.cratedb import LabCrateDB
from tests.console.conftest import changes_of

#: What is not configured here; the tests of their wings examine them.
OFF = ("kubernetes", "mysql", "mongodb", "materialize")


@pytest.fixture(autouse=True)
def no_kubeconfig_of_ones_own(caretaker, tmp_path):
    """Whoever runs the tests may have one at home."""
    caretaker.environment["HOME"] = str(tmp_path)


def checks(caretaker, *arguments):
    ended = caretaker("doctor", *arguments, "--output", "json")
    document = ended.json
    assert document.keys() == {"checks", "ok"}
    assert document["ok"] is (ended.code == 0)
    return ended.code, {(c["system"], c["check"]): c for c in document["checks"]}


def test_all_is_well(caretaker, lab):
    lab.table("doc.calm", replicas="1")

    code, found = checks(caretaker)

    assert code == 0
    for system in OFF:
        assert found.pop((system, "connection"))["status"] == "off"
    assert {check["status"] for check in found.values()} == {"ok"}
    assert ("crate", "preflight") in found
    assert "3 nodes, CrateDB 6.4.3" in found["crate", "connection"]["detail"]
    assert not changes_of(lab)


def test_the_table_says_the_same(caretaker, lab):
    lab.table("doc.calm", replicas="1")

    ended = caretaker("doctor", "crate")

    assert ended.code == 0
    assert ended.out.splitlines()[0].split() == ["SYSTEM", "CHECK", "STATUS", "DETAIL"]
    assert "a reset may begin" in ended.out
    assert "dagster" not in ended.out


def test_what_would_make_a_reset_refuse_is_a_warning(caretaker, lab):
    lab.table("doc.calm", replicas="1")
    lab.start_snapshot()

    code, found = checks(caretaker, "crate")

    assert code == 0
    assert found["crate", "preflight"]["status"] == "warn"
    assert "snapshot" in found["crate", "preflight"]["detail"]


@pytest.mark.parametrize(
    ("changed", "system", "said"),
    [
        ({"CRATE_CONNECTION_STRING": "crate://h"}, "crate", "CRATE_CONNECTION_STRING"),
        ({"CRATE_CONNECTION_STRING": "http://127.0.0.1:1"}, "crate", "127.0.0.1:1"),
        ({"CRATE_USERNAME": "u", "CRATE_PASSWORD": "secret"}, "crate", "CRATE_PASSWORD"),
        ({"CARETAKER_STATE_URL": "mysql://u:secret@h/d"}, "state", "CARETAKER_STATE_URL"),
        ({"DAGSTER_HOME": "/nowhere"}, "dagster", "DAGSTER_HOME"),
    ],
)
def test_what_cannot_work_fails_with_a_sentence(caretaker, changed, system, said):
    """Exit code 1; the other systems are examined all the same."""
    caretaker.environment |= changed

    code, found = checks(caretaker)

    assert code == 1
    assert found[system, "reach"]["status"] == "fail"
    assert said in found[system, "reach"]["detail"]
    assert "secret" not in str(found)
    assert {name for name, _ in found} == {"dagster", "state", "crate", *OFF}


def test_a_cratedb_that_is_not_configured_is_off(caretaker):
    del caretaker.environment["CRATE_CONNECTION_STRING"]

    code, found = checks(caretaker)

    assert code == 0
    assert found["crate", "connection"]["status"] == "off"


def test_an_old_cratedb_fails(caretaker):
    with LabCrateDB(nodes=1, version="5.4.0") as old:
        caretaker.environment["CRATE_CONNECTION_STRING"] = old.url
        code, found = checks(caretaker, "crate")

    assert code == 1
    assert "5.4.0" in found["crate", "reach"]["detail"]


def test_too_few_privileges_come_with_the_grant(caretaker, lab):
    lab.table("doc.metrics")
    lab.create_user("weak", "word")
    caretaker.environment |= {"CRATE_USERNAME": "weak", "CRATE_PASSWORD": "word"}

    _, found = checks(caretaker, "crate")

    assert "GRANT" in str(found)
    assert {check["status"] for check in found.values()} != {"ok"}


def test_an_open_ticket_is_a_warning(caretaker, die_with_a_table_at_zero):
    die_with_a_table_at_zero("doc.metrics", "0-1")

    _, found = checks(caretaker, "state")

    assert found["state", "tickets"] == {
        "system": "state", "check": "tickets", "status": "warn",
        "detail": "1 open: caretaker tickets",
    }  # fmt: skip


def test_an_unknown_system_is_a_usage_error(caretaker):
    caretaker("doctor", "oracle").refused("oracle", "crate", code=2)
