"""What a statement that changes something may do: happen once, and never be guessed at."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time

import pytest

from caretaker.errors import RefusedError, TransientError, UnknownResultError
from caretaker.translog.model import TableRef
from resources.sql.cratedb import (
    Statement,
    decommission,
    flush,
    reset_global,
    set_global,
    set_replicas,
)
from tests.cratedb.faulty_server import (
    A_WHOLE_DRIP_S,
    disconnected,
    done,
    drip,
    error,
    hang_up,
    http,
    reset,
    rows,
    silence,
)
from tests.waiting import in_time

ZERO = set_replicas(TableRef("doc", "metrics"), "0")


def test_a_change_is_sent_with_its_values_beside_it(serve, client_of):
    server = serve(done())

    client_of(server.url, username="ops", password="pw").change(ZERO)

    assert server.statements == [ZERO.sql]
    assert server.requests[0].args == ["0"]
    assert server.requests[0].headers["authorization"] == "Basic b3BzOnB3"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(hang_up, id="hung up"),
        pytest.param(reset, id="reset"),
        pytest.param(silence, id="silence"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500), id="dripping head"),
        pytest.param(http(200, '{"cols": [], "rows": [[', length=500), id="half an answer"),
        pytest.param(http(200, '{"cols": [], "rows": [['), id="half a document"),
        pytest.param(http(200, ""), id="nothing"),
        pytest.param(http(200, "<html>ok</html>"), id="a web page"),
        pytest.param(http(302, "", "Location: http://127.0.0.1:1/"), id="a redirect"),
        pytest.param(http(504, "gateway time-out"), id="a proxy gave up"),
        pytest.param(http(404, "no such page"), id="a proxy knows nothing"),
        pytest.param(http(500, "Internal Server Error"), id="a bare 500"),
        pytest.param(error(503, 5031, "MasterNotDiscoveredException[]"), id="no master"),
        pytest.param(error(500, 5000, "NodeNotConnectedException[gone]"), id="lost a node"),
        pytest.param(error(500, 5005, "JobKilledException[killed]"), id="killed"),
        pytest.param(http(200, '{"error": {"message": "odd", "code": 5000}}'), id="200 with error"),
        pytest.param(http(400, '{"error": {"mess', length=500), id="half a refusal"),
    ],
)
def test_what_was_sent_and_not_clearly_answered_is_unknown_and_not_sent_again(
    fault, serve, client_of
):
    server, other = serve(fault), serve(done())

    with pytest.raises(UnknownResultError) as unknown:
        client_of(server.url, other.url, timeout_s=0.5).change(ZERO)

    assert server.url in str(unknown.value)
    assert unknown.value.target == ZERO.target
    assert unknown.value.hint
    # A client that gives up may be ahead of the server's threads.
    in_time(lambda: server.requests, 60)
    time.sleep(0.05)
    assert (len(server.requests), len(other.requests)) == (1, 0)


SETTING = "cluster.routing.allocation.enable"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(set_global(SETTING, "primaries"), id="set"),
        pytest.param(set_global(SETTING, "all", persistent=True), id="set persistent"),
        pytest.param(reset_global((SETTING,)), id="reset"),
    ],
)
def test_a_setting_that_not_every_node_acknowledged_is_unknown_and_not_sent_again(
    statement, serve, client_of
):
    """Row count 1: all have applied it. Row count 0: the next look may go to one that has not."""
    server, other = serve(done(0)), serve(done(1))
    client = client_of(server.url, other.url)

    with pytest.raises(UnknownResultError, match="not every node has acknowledged") as unknown:
        client.change(statement)
    assert unknown.value.hint
    assert (len(server.requests), len(other.requests)) == (1, 0)

    client.change(statement)
    assert (len(server.requests), len(other.requests)) == (1, 1)


@pytest.mark.parametrize("rowcount", [-1, 0, 1])
@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(ZERO, id="replicas"),
        pytest.param(flush(TableRef("doc", "metrics")), id="flush"),
        pytest.param(decommission("data-hot-2"), id="decommission"),
    ],
)
def test_the_row_count_of_any_other_change_says_nothing(statement, rowcount, serve, client_of):
    server = serve(done(rowcount))

    client_of(server.url).change(statement)

    assert server.statements == [statement.sql]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(disconnected, id="draining"),
        pytest.param(error(429, 4290, "too many"), id="busy"),
        pytest.param(http(429, "slow down"), id="busy proxy"),
        pytest.param(error(404, 4040, "not found in cluster state"), id="not known yet"),
    ],
)
def test_an_answer_that_says_not_now_is_worth_another_try_by_the_caller(fault, serve, client_of):
    server, other = serve(fault), serve(done())
    client = client_of(server.url, other.url)

    with pytest.raises(TransientError):
        client.change(ZERO)
    assert (len(server.requests), len(other.requests)) == (1, 0)

    client.change(ZERO)
    assert (len(server.requests), len(other.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, 4000, "SQLParseException[this action would add [2] total shards]"),
        (400, 4007, "OperationOnInaccessibleRelationException[read only]"),
        (401, 4011, "MissingPrivilegeException[Missing 'DDL' privilege for user 'ops']"),
        (404, 4041, "RelationUnknown[Relation 'doc.metrics' unknown]"),
        (404, 4045, "SchemaUnknownException[Schema 'doc' unknown]"),
        (404, 4046, "PartitionUnknownException[No partition]"),
    ],
)
def test_a_refusal_keeps_cratedbs_status_code_and_words(status, code, message, serve, client_of):
    server = serve(error(status, code, message))

    with pytest.raises(RefusedError) as refused:
        client_of(server.url).change(ZERO)

    assert (refused.value.status, refused.value.code) == (status, code)
    assert message in str(refused.value)
    assert len(server.requests) == 1


def test_a_wrong_password_changes_nothing_and_says_so(serve, client_of):
    server = serve(http(401, "", 'WWW-Authenticate: Basic realm="CrateDB Authenticator"'))

    with pytest.raises(RefusedError, match="wrong user or password"):
        client_of(server.url, username="ops", password="sesame").change(ZERO)


def test_a_host_that_is_down_has_seen_nothing_so_the_next_one_is_asked(
    serve, client_of, closed_url
):
    server = serve(done())
    client = client_of(closed_url, server.url)

    client.change(ZERO)
    client.change(ZERO)

    assert len(server.requests) == 2


def test_when_no_host_can_be_reached_nothing_was_sent(client_of, closed_url):
    with pytest.raises(TransientError, match="Connection refused"):
        client_of(closed_url).change(ZERO)


def test_a_host_that_does_not_take_connections_is_given_up_in_time(client_of):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        blockers = [socket.socket() for _ in range(4)]
        for blocker in blockers:
            blocker.settimeout(0)
            blocker.connect_ex(full.getsockname())
        started = time.monotonic()

        with pytest.raises(TransientError, match="no connection in time"):
            client_of(f"http://127.0.0.1:{full.getsockname()[1]}", timeout_s=0.5).change(ZERO)

        assert time.monotonic() - started < A_WHOLE_DRIP_S
        for blocker in blockers:
            blocker.close()


def test_a_certificate_that_is_not_trusted_changes_nothing(serve, client_of, authority):
    server = serve(done(), tls=authority.server)

    with pytest.raises(RefusedError, match="CRATE_CA_CERT"):
        client_of(server.url).change(ZERO)

    assert not server.requests


def test_changes_travel_over_tls(serve, client_of, authority):
    server = serve(done(), tls=authority.server)

    client_of(server.url, ca_cert=authority.ca_cert).change(ZERO)

    assert len(server.requests) == 1


def test_a_connection_that_reads_have_kept_is_not_trusted_with_a_change(serve, client_of):
    """It may be closing at the very moment, and then nobody knows what became of the change."""
    served = []

    def first_on_its_connection_only(request):
        served.append(request)
        return rows([1]) if len(served) == 1 else done()

    server = serve(first_on_its_connection_only, choose=True)
    client = client_of(server.url)

    client.read(Statement("SELECT 1"))
    client.change(ZERO)
    client.change(ZERO)

    assert (len(server.requests), server.connections) == (3, 3)


def test_an_answer_that_drips_cannot_stretch_the_deadline(serve, client_of):
    body = json.dumps({"cols": [], "rows": [[]], "rowcount": -1, "pad": "x" * 500}).encode()

    def reply(sock, request):
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        drip(body)(sock, request)

    started = time.monotonic()
    with pytest.raises(UnknownResultError, match=r"within 0\.5 s"):
        client_of(serve(reply).url, timeout_s=0.5).change(ZERO)

    assert time.monotonic() - started < A_WHOLE_DRIP_S


def test_an_answer_that_drips_in_chunks_cannot_either(serve, client_of):
    def reply(sock, _):
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(500):
            sock.sendall(b"1\r\n \r\n")
            time.sleep(0.05)

    started = time.monotonic()
    with pytest.raises(UnknownResultError, match=r"within 0\.5 s"):
        client_of(serve(reply).url, timeout_s=0.5).change(ZERO)

    assert time.monotonic() - started < A_WHOLE_DRIP_S


def test_ctrl_c_while_waiting_for_the_answer_comes_through(serve, client_of):
    main = threading.main_thread().ident
    assert main is not None

    def interrupted(sock, request):
        # By whoever has its request: a timer may be faster than the client, and end the whole run.
        signal.pthread_kill(main, signal.SIGINT)
        silence(sock, request)

    server = serve(interrupted)

    with pytest.raises(KeyboardInterrupt):
        client_of(server.url, timeout_s=60).change(ZERO)

    assert len(server.requests) == 1
