"""Each fault does on the wire what its name says, and the journal knows what took effect."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from lab.control import ControlServer, LabControl, LabUnreachableError
from lab.faults import Action, Fault, from_json
from tests.waiting import in_time

ZERO = "ALTER TABLE doc.t SET (number_of_replicas = 0)"


@pytest.fixture
def ask(lab, wire):
    lab.table("doc.t", shards=1, replicas="1")
    return wire(lab.url)


def replicas(lab):
    return lab.table("doc.t").number_of_replicas


def send_raw(lab, stmt, timeout, *, to_the_end=False):
    """Send a statement; read once (None where nothing comes in time), or until the end."""
    parts = urlsplit(lab.url)
    body = json.dumps({"stmt": stmt}).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as sock:
        head = f"POST /_sql HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        with contextlib.suppress(TimeoutError):
            data = sock.recv(100)
            while to_the_end and data:
                data = sock.recv(100)
            return data
    return None


def test_latency_answers_late(ask, lab):
    lab.faults.add(Fault(action=Action.LATENCY, seconds=0.2))
    began = time.monotonic()
    assert ask("SELECT 1").rows == [[1]]
    assert time.monotonic() - began >= 0.2


def test_reset_before_applies_nothing(ask, lab):
    lab.faults.add(Fault(match="(?i)^alter", action=Action.RESET_BEFORE))
    with pytest.raises(ConnectionResetError):
        ask(ZERO)
    assert replicas(lab) == "1"
    assert not lab.journal[-1].applied


def test_reset_after_has_applied(ask, lab):
    lab.faults.add(Fault(match="(?i)^alter", action=Action.RESET_AFTER))
    with pytest.raises(ConnectionResetError):
        send_raw(lab, ZERO, timeout=5, to_the_end=True)
    assert ask("SELECT 1").status == 200
    assert replicas(lab) == "0"
    assert lab.journal[0].applied


def test_hang_applies_and_never_answers(ask, lab):
    lab.faults.add(Fault(match="(?i)^alter", action=Action.HANG))
    assert send_raw(lab, ZERO, timeout=0.4) is None
    in_time(lambda: replicas(lab) == "0", 60)
    assert ask("SELECT 1").status == 200


@pytest.mark.usefixtures("ask")
def test_late_applies_when_the_client_has_long_given_up(lab):
    lab.faults.add(Fault(match="(?i)^alter", action=Action.LATE, seconds=600.0))
    assert send_raw(lab, ZERO, timeout=0.2) is None
    in_time(lambda: lab.journal, 60)
    assert replicas(lab) == "1"

    def landed():
        lab.advance(600.0)
        return replicas(lab) == "0"

    # It is in the journal a moment before its delay begins.
    in_time(landed, 60)
    assert lab.journal[-1].applied


def test_an_error_is_answered_as_told(ask, lab):
    lab.faults.add(Fault(match="(?i)^alter", action=Action.ERROR))
    reply = ask(ZERO)
    assert (reply.status, reply.code) == (503, 5031)
    lab.faults.clear()
    lab.faults.add(Fault(action=Action.ERROR, status=429, code=4290, message="CircuitBreaking[x]"))
    reply = ask(ZERO)
    assert (reply.status, reply.code, reply.message) == (429, 4290, "CircuitBreaking[x]")
    assert replicas(lab) == "1"


def test_disconnected_is_plain_text(ask, lab):
    lab.faults.add(Fault(action=Action.DISCONNECTED))
    reply = ask("SELECT 1")
    assert (reply.status, "content-type" in reply.headers) == (500, False)
    assert reply.text.endswith("[sql] disconnected")


def test_wrong_rows_are_believable(ask, lab):
    lab.faults.add(Fault(match="health", action=Action.WRONG_ROWS, rows=[["GREEN"]]))
    lab.crash(1)
    lab.advance(1)
    reply = ask("SELECT health FROM sys.cluster_health")
    assert (reply.json["cols"], reply.rows) == (["health"], [["GREEN"]])


def test_half_a_body_is_cut_short(ask, lab):
    lab.faults.add(Fault(match="(?i)^alter", action=Action.HALF_BODY))
    with pytest.raises(http.client.IncompleteRead):
        ask(ZERO)
    assert replicas(lab) == "0"


def test_a_huge_answer_is_streamed_and_is_json(ask, lab):
    lab.faults.add(Fault(action=Action.HUGE, megabytes=3))
    reply = ask("SELECT 1")
    assert len(reply.text) > 2_500_000
    assert reply.json["cols"] == ["huge"]


def test_something_else_listens_there(ask, lab):
    lab.faults.add(Fault(action=Action.HTML))
    reply = ask("SELECT 1")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html")


def test_refuse_closes_the_port_of_one_node_until_it_is_lifted(ask, lab, wire):
    lab.faults.add(Fault(action=Action.REFUSE, node=1))
    with pytest.raises(ConnectionRefusedError):
        wire(lab.urls[1])("SELECT 1")
    assert ask("SELECT 1").status == 200
    lab.faults.clear()
    assert wire(lab.urls[1])("SELECT 1").status == 200


def test_rules_count_their_matches(ask, lab):
    rule = lab.faults.add(Fault(match="SELECT 1", action=Action.ERROR, after_matches=1, times=2))
    assert [ask("SELECT 1").status for _ in range(5)] == [200, 503, 503, 200, 200]
    assert ask("SELECT 2").status == 200
    assert (rule.matched, rule.fired) == (5, 2)


def test_rules_may_look_at_node_and_user(ask, lab, wire):
    lab.create_user("ops", "pw", "AL")
    lab.faults.add(Fault(action=Action.ERROR, node="data-hot-1"))
    lab.faults.add(Fault(action=Action.ERROR, user="ops", status=500, code=5000))
    assert ask("SELECT 1").status == 200
    assert wire(lab.urls[1])("SELECT 1").status == 503
    assert wire(lab.url, "ops", "pw")("SELECT 1").status == 500


def test_a_seed_makes_chance_repeatable(ask, lab):
    def draw():
        lab.faults.clear()
        lab.faults.add(Fault(action=Action.ERROR, probability=0.5, seed=3))
        return [ask("SELECT 1").status for _ in range(20)]

    first = draw()
    assert set(first) == {200, 503}
    assert draw() == first


def test_callbacks_come_before_and_after_a_statement_takes_effect(ask, lab):
    seen = []
    lab.faults.add(
        Fault(
            match="(?i)^alter",
            before=lambda entry: seen.append(("before", entry.applied, replicas(lab))),
            after=lambda entry: seen.append(("after", entry.applied, replicas(lab))),
        )
    )
    ask(ZERO)
    assert seen == [("before", False, "1"), ("after", True, "0")]


def test_a_callback_may_crash_the_node_that_answers(ask, lab):
    lab.faults.add(Fault(match="(?i)^alter", after=lambda _: lab.crash(0)))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(ZERO)
    assert replicas(lab) == "0"


def test_the_journal_has_every_statement_in_order(ask, lab):
    ask("SELECT 1")
    ask(ZERO)
    ask("SELECT nosuch FROM sys.nodes")
    found = [(e.stmt, e.status, e.code, e.applied) for e in lab.journal]
    assert found == [
        ("SELECT 1", 200, None, True),
        (ZERO, 200, None, True),
        ("SELECT nosuch FROM sys.nodes", 404, 4043, False),
    ]
    assert {(e.node, e.user) for e in lab.journal} == {("data-hot-0", "crate")}


def test_many_clients_at_once_are_all_served(lab, wire):
    lab.table("doc.t", shards=1, replicas="1")
    wrong = []

    def client(number):
        ask = wire(lab.urls[number % 3])
        for n in range(15):
            text = ["0", "1"][(n + number) % 2]
            one = ask("ALTER TABLE doc.t SET (number_of_replicas = ?)", [text])
            two = ask('SELECT count(*) FROM sys.shards WHERE "primary"')
            if one.status != 200 or two.rows != [[1]]:
                wrong.append((one.text, two.text))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert len(lab.journal) == 8 * 15 * 2


@pytest.fixture
def control(lab):
    server = ControlServer(lab).start()
    yield LabControl(server.url)
    server.stop()


def test_the_control_port_sets_and_lifts_faults(control, ask):
    number = control.add_fault(Fault(match="SELECT 1", action=Action.ERROR))
    assert ask("SELECT 1").status == 503
    assert [rule["fired"] for rule in control.faults()] == [1]
    control.clear_faults(number)
    assert ask("SELECT 1").status == 200
    control.add_fault({"action": "error"})
    control.clear_faults()
    assert ask("SELECT 1").status == 200


def test_the_control_port_pulls_every_lever(control, lab, ask):
    lab.create_user("ops", "pw", "AL")
    control.pull("sick", table="doc.t", mb=1500)
    control.pull("leases", table="doc.t", stuck=True)
    status = control.status()
    assert status["sick"] == [{"table": "doc.t", "replicas": "1", "worst_mb": 1500.0}]
    ask(ZERO)
    assert control.status()["at_zero"] == ["doc.t"]
    control.pull("crash", node=1)
    control.pull("clock", advance=1, speed=2)
    assert [node["alive"] for node in control.status()["nodes"]] == [True, False, True]
    control.pull("restart", node="data-hot-1")
    control.pull("clock", advance=10)
    assert control.status()["health"] == "GREEN"
    control.pull("snapshot")
    control.pull("snapshot", running=False)
    control.pull("lose-primary", table="doc.t")
    assert control.status()["health"] == "RED"
    control.pull("find-primary", table="doc.t")
    control.pull("drop-master")
    assert not any(node["master"] for node in control.status()["nodes"])
    control.pull("elect-master")
    control.pull("revoke", user="ops")
    control.pull("fill-disk", node=0, percent=92)
    control.pull("hang-drain", node=0)
    assert control.journal()[0]["stmt"] == ZERO
    assert control.journal(since=1) == []


def test_the_control_port_says_what_was_wrong(control):
    with pytest.raises(LabUnreachableError, match="unknown keys nix"):
        control.add_fault({"nix": 1})
    with pytest.raises(LabUnreachableError, match="no node 9"):
        control.pull("crash", node=9)
    with pytest.raises(LabUnreachableError, match="node is missing"):
        control.pull("crash")
    with pytest.raises(LabUnreachableError, match="no /nosuch"):
        control.pull("nosuch")
    with pytest.raises(LabUnreachableError, match="no lab answers"):
        LabControl("http://127.0.0.1:9").status()


def test_an_unknown_action_is_refused():
    with pytest.raises(ValueError, match="explode"):
        from_json({"action": "explode"})
