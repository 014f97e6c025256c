"""What somebody gets who asks CrateDB a question, and the network has other plans."""

from __future__ import annotations

import gzip
import json
import resource
import time
import tracemalloc

import pytest

from caretaker.errors import RefusedError, TransientError
from resources.sql.cratedb import Statement
from tests.cratedb.faulty_server import (
    A_WHOLE_DRIP_S,
    disconnected,
    drip,
    error,
    hang_up,
    http,
    reset,
    rows,
    silence,
)
from tests.waiting import in_time

ASK = Statement("SELECT id FROM sys.shards WHERE id = ?", (7,))


def test_rows_come_back_as_tuples(serve, client_of):
    server = serve(rows([1, "a", None], [2, "b", {"x": [1]}]))

    assert client_of(server.url).read(ASK) == [(1, "a", None), (2, "b", {"x": [1]})]
    assert (server.requests[0].stmt, server.requests[0].args) == (ASK.sql, [7])


def test_no_rows_are_no_rows(serve, client_of):
    assert client_of(serve(rows()).url).read(ASK) == []


def test_credentials_are_sent_with_every_question(serve, client_of):
    server = serve(rows([1]))

    client_of(server.url, username="öps", password="p:w").read(ASK)

    assert server.requests[0].headers["authorization"] == "Basic w7ZwczpwOnc="


def test_without_a_user_no_credentials_are_sent(serve, client_of):
    server = serve(rows([1]))

    client_of(server.url).read(ASK)

    assert "authorization" not in server.requests[0].headers


def test_one_connection_serves_many_questions(serve, client_of):
    server = serve(rows([1]))
    client = client_of(server.url)

    for _ in range(5):
        client.read(ASK)

    assert (len(server.requests), server.connections) == (5, 1)


def test_a_kept_connection_that_the_server_has_closed_is_not_noticed(serve, client_of):
    def answer_and_close(sock, request):
        rows([1])(sock, request)
        hang_up(sock, request)

    server = serve(answer_and_close)
    client = client_of(server.url)

    assert [client.read(ASK) for _ in range(3)] == [[(1,)]] * 3


def test_a_kept_connection_that_breaks_while_asking_is_replaced(serve, client_of):
    served = []

    def second_on_a_connection_resets(request):
        served.append(request)
        return reset if len(served) == 2 else rows([1])

    server = serve(second_on_a_connection_resets, choose=True)
    client = client_of(server.url)

    assert [client.read(ASK) for _ in range(2)] == [[(1,)]] * 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(hang_up, id="hangs up"),
        pytest.param(reset, id="resets"),
        pytest.param(disconnected, id="is draining"),
        pytest.param(error(500, 5000, "NodeNotConnectedException[gone]"), id="lost a node"),
        pytest.param(error(500, 5005, "JobKilledException[killed]"), id="killed the job"),
        pytest.param(error(503, 5031, "MasterNotDiscoveredException[]"), id="has no master"),
        pytest.param(error(404, 4040, "not found in cluster state"), id="does not know it yet"),
        pytest.param(error(429, 4290, "too many requests"), id="has too much to do"),
        pytest.param(http(503, "<html>nobody home</html>"), id="is behind an empty proxy"),
        pytest.param(http(200, '{"cols": ["id"], "rows": [[1', length=500), id="stops half-way"),
    ],
)
class TestAHostThat:
    def test_is_passed_over_for_one_that_answers(self, fault, serve, client_of):
        bad, good = serve(fault), serve(rows([1]))
        client = client_of(bad.url, good.url)

        assert client.read(ASK) == [(1,)]
        client.read(ASK)

        # and the one that answered is asked first from then on
        assert (len(bad.requests), len(good.requests)) == (1, 2)

    def test_is_asked_once_and_reported_as_worth_another_try(self, fault, serve, client_of):
        server = serve(fault)

        with pytest.raises(TransientError) as failed:
            client_of(server.url).read(ASK)

        assert server.url in str(failed.value)
        assert len(server.requests) == 1


def test_a_host_that_is_down_is_passed_over(serve, client_of, closed_url):
    assert client_of(closed_url, serve(rows([1])).url).read(ASK) == [(1,)]


def test_when_no_host_answers_each_is_named_with_its_reason(serve, client_of, closed_url):
    draining = serve(disconnected)

    with pytest.raises(TransientError) as failed:
        client_of(closed_url, draining.url).read(ASK)

    assert f"{closed_url}: Connection refused" in str(failed.value)
    assert f"{draining.url}: the node is shutting down" in str(failed.value)


@pytest.mark.parametrize("fault", [silence, drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500)])
def test_a_question_ends_at_its_deadline(fault, serve, client_of):
    server = serve(fault)
    started = time.monotonic()

    with pytest.raises(TransientError, match=r"within 0\.5 s"):
        client_of(server.url, timeout_s=0.5).read(ASK)

    assert time.monotonic() - started < A_WHOLE_DRIP_S
    # A client that gives up may be ahead of the server's threads.
    in_time(lambda: server.requests, 60)
    assert len(server.requests) == 1


def test_an_answer_that_drips_ends_at_the_deadline(serve, client_of):
    body = json.dumps({"cols": ["x"], "rows": [["x" * 2000]]}).encode()

    def reply(sock, request):
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        drip(body)(sock, request)

    started = time.monotonic()
    with pytest.raises(TransientError, match=r"within 0\.5 s"):
        client_of(serve(reply).url, timeout_s=0.5).read(ASK)

    assert time.monotonic() - started < A_WHOLE_DRIP_S


def test_two_silent_hosts_share_one_deadline(serve, client_of):
    started = time.monotonic()

    with pytest.raises(TransientError):
        client_of(serve(silence).url, serve(silence).url, timeout_s=0.5).read(ASK)

    assert time.monotonic() - started < A_WHOLE_DRIP_S


def flood(*, announced: bool):
    """200 MB of a result set that never ends."""

    def reply(sock, _):
        length = b"Content-Length: 209715200\r\n" if announced else b""
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + length + b'\r\n{"rows": [')
        for _ in range(200):
            sock.sendall(b"[1]," * 262_144)

    return reply


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_too_large_to_hold_is_given_up_early(announced, serve, client_of):
    client = client_of(serve(flood(announced=announced)).url, timeout_s=30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()

    with pytest.raises(RefusedError, match=r"209,715,200|more than 67,108,864"):
        client.read(ASK)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 * 1024


def test_a_small_answer_that_unpacks_to_a_huge_one_is_given_up_too(serve, client_of):
    bomb = gzip.compress(b"[1]," * 26_214_400, compresslevel=9)
    assert len(bomb) < 2**20

    with pytest.raises(RefusedError, match="more than 67,108,864"):
        client_of(serve(http(200, bomb, "Content-Encoding: gzip")).url, timeout_s=30).read(ASK)


def test_a_packed_answer_is_unpacked(serve, client_of):
    packed = gzip.compress(b'{"cols": ["a"], "rows": [[1]], "rowcount": 1}')

    assert client_of(serve(http(200, packed, "Content-Encoding: gzip")).url).read(ASK) == [(1,)]


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, 4000, "SQLParseException[no such node]"),
        (404, 4041, "RelationUnknown[Relation 'doc.nosuch' unknown]"),
        (404, 4045, "SchemaUnknownException[Schema 'doc' unknown]"),
        (401, 4010, "UnauthorizedException[Superuser permissions are required]"),
        (409, 4093, "RelationAlreadyExists[x]"),
    ],
)
def test_a_refusal_keeps_cratedbs_status_code_and_words(status, code, message, serve, client_of):
    server, other = serve(error(status, code, message)), serve(rows([1]))

    with pytest.raises(RefusedError) as refused:
        client_of(server.url, other.url).read(ASK)

    assert (refused.value.status, refused.value.code) == (status, code)
    assert message in str(refused.value)
    assert not other.requests


def test_a_wrong_password_is_called_that(serve, client_of):
    server = serve(http(401, "", 'WWW-Authenticate: Basic realm="CrateDB Authenticator"'))

    with pytest.raises(RefusedError, match="wrong user or password") as refused:
        client_of(server.url, username="ops", password="sesame").read(ASK)

    assert refused.value.status == 401
    assert "CRATE_PASSWORD" in refused.value.hint
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (http(200, "<html><h1>It works!</h1>", "Content-Type: text/html"), "It works!"),
        (http(404, "nothing here", "Content-Type: text/plain"), "nothing here"),
        (http(302, "", "Location: https://login.example/"), "a redirect to https://login.example/"),
        (http(200, '{"hits": []}', "Content-Type: application/json"), None),
        (http(200, b"\xff\xfe\x00"), "HTTP 200"),
        (http(200, "[]"), "HTTP 200"),
    ],
)
def test_a_server_that_is_no_cratedb_is_quoted(reply, shown, serve, client_of):
    server = serve(reply)

    if shown is None:
        with pytest.raises((RefusedError, TransientError), match=server.url):
            client_of(server.url).read(ASK)
        return
    with pytest.raises(RefusedError) as refused:
        client_of(server.url).read(ASK)
    assert str(refused.value).startswith(f"{server.url} answered, but not like CrateDB: ")
    assert shown in str(refused.value)


def test_a_redirect_is_not_followed(serve, client_of):
    other = serve(rows([1]))
    server = serve(http(307, "", f"Location: {other.url}/_sql"))

    with pytest.raises(RefusedError):
        client_of(server.url, username="ops", password="pw").read(ASK)

    assert not other.requests


def test_a_trusted_certificate_is_accepted(serve, client_of, authority):
    server = serve(rows([1]), tls=authority.server)

    assert client_of(server.url, ca_cert=authority.ca_cert).read(ASK) == [(1,)]


def test_verification_can_be_switched_off(serve, client_of, authority):
    server = serve(rows([1]), tls=authority.server)

    assert client_of(server.url, ssl_verify=False).read(ASK) == [(1,)]


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        ("untrusted", "set CRATE_CA_CERT"),
        ("other name", "certificate is for another name"),
        ("tls to plain", "write http:// in CRATE_CONNECTION_STRING"),
        ("plain to tls", "write https:// in CRATE_CONNECTION_STRING"),
    ],
)
def test_a_connection_that_is_set_up_wrong_says_what_to_change(
    what, advice, serve, client_of, authority, elsewhere
):
    plain, secure = serve(rows([1])), serve(rows([1]), tls=authority.server)
    named = serve(rows([1]), tls=elsewhere.server)
    client = {
        "untrusted": lambda: client_of(secure.url),
        "other name": lambda: client_of(named.url, ca_cert=elsewhere.ca_cert),
        "tls to plain": lambda: client_of(plain.url.replace("http", "https")),
        "plain to tls": lambda: client_of(secure.url.replace("https", "http")),
    }[what]()

    with pytest.raises(RefusedError) as refused:
        client.connect()

    assert advice in str(refused.value)
    assert not any(plain.statements + secure.statements)


def test_a_stale_bundle_of_another_program_does_not_matter(serve, client_of, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")

    assert client_of(serve(rows([1])).url).read(ASK) == [(1,)]
