"""Each fault does on the wire what its name says, and the journal knows what took effect."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import psycopg
import pytest

from lab.faults import Action, Fault
from lab.materialize import wire

CREATE = "CREATE CLUSTER REPLICA c.r (SIZE '25cc')"
ON_CREATE = "(?i)^create cluster replica"


@pytest.fixture
def ask(lab, connect):
    lab.cluster("c")
    return connect(lab)


@pytest.fixture(params=["simple", "extended"])
def create(request, ask):
    """Make the replica, in either of the two protocols."""
    return lambda: ask.execute(CREATE, prepare=request.param == "extended")


def test_latency_answers_late(create, lab):
    lab.faults.add(Fault(match=ON_CREATE, action=Action.LATENCY, seconds=0.3))
    began = time.monotonic()
    create()

    assert time.monotonic() - began >= 0.3
    assert lab.replicas("c") == {"r": "25cc"}


def test_reset_before_applies_nothing(create, lab):
    lab.faults.add(Fault(match=ON_CREATE, action=Action.RESET_BEFORE))
    with pytest.raises(psycopg.OperationalError):
        create()

    assert lab.replicas("c") == {}
    assert not lab.journal[-1].applied


def test_reset_after_has_applied(create, lab):
    lab.faults.add(Fault(match=ON_CREATE, action=Action.RESET_AFTER))
    with pytest.raises(psycopg.OperationalError):
        create()

    assert lab.replicas("c") == {"r": "25cc"}
    assert lab.journal[-1].applied


def test_half_an_answer_is_cut_short(create, lab):
    lab.faults.add(Fault(match=ON_CREATE, action=Action.HALF_BODY))
    with pytest.raises(psycopg.OperationalError):
        create()

    assert lab.replicas("c") == {"r": "25cc"}


def send(connection, sql):
    connection.pgconn.send_query(sql.encode())
    connection.pgconn.flush()


def test_hang_applies_and_never_answers(ask, lab, eventually):
    lab.faults.add(Fault(match=ON_CREATE, action=Action.HANG))
    send(ask, CREATE)
    eventually(lambda: lab.replicas("c") == {"r": "25cc"})
    time.sleep(0.2)
    ask.pgconn.consume_input()

    assert ask.pgconn.is_busy()


def test_late_applies_when_the_client_has_long_given_up(still, connect, eventually):
    still.cluster("c")
    still.faults.add(Fault(match=ON_CREATE, action=Action.LATE, seconds=30))
    connection = connect(still)
    send(connection, CREATE)
    eventually(lambda: len(still.journal))
    connection.pgconn.finish()
    assert still.replicas("c") == {}
    still.advance(31)

    eventually(lambda: still.replicas("c") == {"r": "25cc"})


def test_an_error_is_answered_as_told(create, lab, ask):
    lab.faults.add(
        Fault(match=ON_CREATE, action=Action.ERROR, sqlstate="53300", message="too many")
    )
    with pytest.raises(psycopg.errors.TooManyConnections, match="too many"):
        create()
    assert lab.replicas("c") == {}
    assert ask.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_goes_down_says_so(create, lab):
    lab.faults.add(Fault(match=ON_CREATE, action=Action.DISCONNECTED))
    with pytest.raises(psycopg.errors.AdminShutdown, match="administrator command"):
        create()

    assert lab.replicas("c") == {}


def test_something_else_on_that_port_is_no_server(ask, lab):
    lab.faults.add(Fault(match="SELECT 2", action=Action.HTML))
    with pytest.raises(psycopg.Error, match="lost synchronization"):
        ask.execute("SELECT 2")


@pytest.mark.parametrize("parameters", [(), ("quickstart",)])
def test_wrong_rows_are_believable(parameters, ask, lab):
    lab.faults.add(
        Fault(match="mz_clusters", action=Action.WRONG_ROWS, rows=[["u1", None], ["u2", "x"]])
    )
    where = " WHERE name = %s" if parameters else ""
    cursor = ask.execute(f"SELECT id, size FROM mz_clusters{where}", parameters or None)  # noqa: S608

    assert [column.name for column in cursor.description] == ["id", "size"]
    assert cursor.fetchall() == [("u1", None), ("u2", "x")]


def test_a_huge_answer_comes_as_fast_as_it_is_read(ask, lab):
    lab.faults.add(Fault(match="mz_clusters", action=Action.HUGE, megabytes=20))
    with ask.cursor() as cursor:
        rows = sum(1 for _ in cursor.stream("SELECT id FROM mz_clusters"))

    assert rows > 100_000


def test_refuse_closes_the_door_until_it_is_lifted(ask, lab, connect):
    lab.faults.add(Fault(action=Action.REFUSE))
    with pytest.raises(psycopg.OperationalError):
        connect(lab)
    with pytest.raises(psycopg.OperationalError):
        ask.execute("SELECT 1")
    lab.faults.clear()

    assert connect(lab).execute("SELECT 1").fetchone() == (1,)


def test_a_crash_ends_every_connection_and_the_replicas_live_on(ask, lab, connect):
    ask.execute(CREATE)
    lab.crash()
    with pytest.raises(psycopg.OperationalError):
        ask.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        connect(lab)
    lab.restart()

    rows = connect(lab).execute("SELECT replica FROM (SHOW CLUSTER REPLICAS WHERE cluster = 'c')")
    assert rows.fetchall() == [("r",)]


def test_a_connection_can_be_lost_on_either_side_of_commit(lab, connect):
    lab.cluster("c")
    for action, expected in ((Action.RESET_BEFORE, {}), (Action.RESET_AFTER, {"r": "25cc"})):
        lab.faults.clear()
        lab.faults.add(Fault(match="(?i)^commit", action=action))
        connection = connect(lab, autocommit=False)
        connection.execute(CREATE)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        assert lab.replicas("c") == expected


def test_a_fault_can_be_for_one_user_and_count(ask, lab, connect):
    lab.create_user("other")
    lab.faults.add(
        Fault(match="SELECT 3", action=Action.ERROR, user="other", after_matches=1, times=1)
    )
    other = connect(lab.url_for("other"))
    outcomes = []
    for _ in range(3):
        with contextlib.suppress(psycopg.Error):
            outcomes.append(other.execute("SELECT 3").fetchone())

    assert outcomes == [(3,), (3,)]
    assert ask.execute("SELECT 3").fetchone() == (3,)


def test_what_a_rule_does_beside_is_done_before_the_statement_runs(ask, lab):
    """Somebody else is quicker: the replica is there when ours is to be made."""
    made = {"op": "create_replica", "cluster": "c", "name": "r", "options": {"SIZE": "50cc"}}
    lab.faults.add(Fault(match=ON_CREATE, before=lambda _: lab.call(made)))
    with pytest.raises(psycopg.Error, match="multiple replicas named 'r'"):
        ask.execute(CREATE)

    assert lab.replicas("c") == {"r": "50cc"}


# --- the raw protocol ---------------------------------------------------------------------------


class Raw:
    """A client that says what it wants, message by message."""

    def __init__(self, lab):
        self.stream = wire.Stream(socket.create_connection(("127.0.0.1", lab.port), timeout=20))

    def start(self, **parameters):
        said = {"user": "materialize", "database": "materialize", **parameters}
        body = b"".join(wire.c_string(k) + wire.c_string(v) for k, v in said.items()) + b"\0"
        self.stream.put_raw(struct.pack("!ii", len(body) + 8, wire.PROTOCOL_3) + body)
        return self.until_ready()

    def until_ready(self):
        self.stream.flush()
        out = []
        while True:
            message = self.stream.message()
            out.append((message.kind.decode(), message.body))
            if message.kind == b"Z":
                return out

    def say(self, *messages):
        self.stream.put(*messages)
        return self.until_ready()

    def close(self):
        self.stream.sock.close()


@pytest.fixture
def raw(lab):
    client = Raw(lab)
    yield client
    client.close()


def test_encryption_is_declined_and_the_client_goes_on(raw):
    for request in (wire.GSS_REQUEST, wire.SSL_REQUEST):
        raw.stream.put_raw(struct.pack("!ii", 8, request))
        raw.stream.flush()
        assert raw.stream.sock.recv(1) == b"N"
    kinds = [kind for kind, _ in raw.start()]

    assert (kinds[0], kinds[-2:]) == ("R", ["K", "Z"])


def test_a_described_cluster_statement_takes_no_parameters_and_gives_no_rows(raw, lab):
    raw.start()
    lab.cluster("c")
    answers = raw.say(
        wire.parse("s", CREATE), wire.Message(b"D", b"Ss\0"), wire.bind("p", "s"),
        wire.Message(b"D", b"Pp\0"), wire.execute("p"), wire.SYNC,
    )  # fmt: skip

    assert [kind for kind, _ in answers] == ["1", "t", "n", "2", "n", "C", "Z"]
    assert answers[1][1] == b"\0\0"
    assert answers[5][1] == b"CREATE CLUSTER REPLICA\0"


def test_after_an_error_everything_is_skipped_until_sync(raw):
    raw.start()
    answers = raw.say(
        wire.parse("a", "SELECT 1"), wire.bind("", "a"), wire.execute(""),
        wire.parse("b", "LISTEN x"), wire.parse("c", "SELECT 2"), wire.bind("", "c"),
        wire.execute(""), wire.SYNC,
    )  # fmt: skip
    assert [kind for kind, _ in answers] == ["1", "2", "D", "C", "E", "Z"]
    assert [kind for kind, _ in raw.say(wire.query("SELECT 3"))] == ["T", "D", "C", "Z"]


def test_flush_brings_answers_before_sync(raw):
    raw.start()
    raw.stream.put(wire.parse("", "SELECT 1"), wire.Message(b"H", b""))
    raw.stream.flush()
    assert raw.stream.message().kind == b"1"
    assert [kind for kind, _ in raw.say(wire.bind("", ""), wire.execute(""), wire.SYNC)] == [
        "2", "D", "C", "Z",
    ]  # fmt: skip


def test_a_portal_is_read_in_pieces(raw):
    raw.start()
    answers = raw.say(
        wire.parse("", "SELECT generate_series(1, 3)"), wire.bind("p", ""),
        wire.execute("p", 2), wire.execute("p", 2), wire.SYNC,
    )  # fmt: skip

    assert [kind for kind, _ in answers] == ["1", "2", "D", "D", "s", "D", "C", "Z"]


def test_an_empty_statement_is_answered(raw):
    raw.start()

    assert [kind for kind, _ in raw.say(wire.query(" ; -- nothing"))] == ["I", "Z"]
    answers = raw.say(wire.parse("", ""), wire.bind("", ""), wire.execute(""), wire.SYNC)
    assert [kind for kind, _ in answers] == ["1", "2", "I", "Z"]


def test_an_error_has_the_servers_fields_and_none_of_postgresqls(raw):
    raw.start()
    answers = raw.say(wire.query("DROP CLUSTER nosuch"))
    fields = wire.fields_of(wire.Message(b"E", answers[0][1]))

    assert fields == {"S": "ERROR", "V": "ERROR", "C": "XX000", "M": "unknown cluster 'nosuch'"}


def test_a_client_that_says_rubbish_harms_nobody_else(lab, connect):
    for rubbish in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x04",
        struct.pack("!ii", 8, 1),
        b"\xff" * 20,
    ):
        with socket.create_connection(("127.0.0.1", lab.port), timeout=5) as sock:
            sock.sendall(rubbish)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while sock.recv(4096):
                    pass

    assert connect(lab).execute("SELECT 1").fetchone() == (1,)
    # By name: the threads of those clients are just ending.
    assert {"lab-mz", "lab-mz-clock"} <= {thread.name for thread in threading.enumerate()}
