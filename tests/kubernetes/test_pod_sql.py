"""CrateDB by exec in its pod: the same client, the same errors as over HTTP."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest

from caretaker.errors import RefusedError, TransientError, UnknownResultError
from lab.faults import Action, Fault
from ops.decommission_way import Crates
from resources.cratedb.restarts import takes_requests
from resources.kubernetes import pod_exec
from resources.kubernetes.pod_exec import ExecResult
from resources.sql import cratedb as sql
from resources.sql.cratedb import Statement

TIMEOUT = "cluster.graceful_stop.timeout"


def test_a_cluster_says_who_it_is_and_how_it_fares(client, pods):
    with client.crate(pods.pods[1]) as crate:
        connected = crate.connect()
        observed = crate.observe_cluster()

    assert connected.cluster_name == "steady"
    assert set(connected.versions) == set(pods.crate.nodes)
    assert (observed.health, observed.superuser) == ("GREEN", True)
    assert observed.id == connected.cluster_id


def test_values_go_there_and_come_back_as_they_are(client, pods):
    words = ["it's", 'a "quoted" one', "Täb ☃", "two\nlines", "", "$HOME `x` \\n"]
    with client.crate(pods.pods[0]) as crate:
        for word in words:
            rows = crate.read(Statement("SELECT name FROM sys.nodes WHERE name <> ?", (word,)))
            assert sorted(row[0] for row in rows) == sorted(pods.crate.nodes)


def test_a_setting_is_changed_and_put_back(client, pods):
    with client.crate(pods.pods[0]) as crate:
        crate.change(Statement(f'SET GLOBAL TRANSIENT "{TIMEOUT}" = ?', ("720s",)))
        assert setting(pods) == "720s"
        crate.change(Statement(f'RESET GLOBAL "{TIMEOUT}"'))

    assert setting(pods) == "7200000ms"


def test_a_refusal_keeps_its_status_and_code(client, pods):
    with client.crate(pods.pods[0]) as crate:
        with pytest.raises(RefusedError, match="could not be found") as caught:
            crate.change(Statement("ALTER CLUSTER DECOMMISSION ?", ("nobody",)))
        assert (caught.value.status, caught.value.code) == (400, 4000)
        with pytest.raises(RefusedError) as caught:
            crate.read(Statement("SELECT * FROM doc.not_there"))
        assert (caught.value.status, caught.value.code) == (404, 4041)


def test_a_change_whose_channel_was_cut_is_unknown_though_it_was_applied(client, plane, pods):
    with client.crate(pods.pods[0], scheme="http") as crate:
        plane.front.faults.add(Fault("pods/exec", Action.RESET_AFTER, seconds=30, times=1))

        with pytest.raises(UnknownResultError, match="may have run"):
            crate.change(Statement(f'SET GLOBAL TRANSIENT "{TIMEOUT}" = ?', ("721s",)))

        pods.wait_for("the statement to have run", lambda: setting(pods) == "721s")
        crate.change(Statement(f'RESET GLOBAL "{TIMEOUT}"'))


def test_a_read_whose_channel_was_cut_may_be_asked_again(client, plane, pods):
    with client.crate(pods.pods[0], scheme="http") as crate:
        plane.front.faults.add(Fault("pods/exec", Action.RESET_AFTER, seconds=30, times=1))

        with pytest.raises(TransientError):
            crate.read(Statement("SELECT 1"))
        assert crate.read(Statement("SELECT 1")) == [(1,)]


def test_an_answer_cut_in_half_is_no_answer(client, pods):
    pods.crate.faults.add(Fault("SELECT 1", Action.HALF_BODY))
    try:
        with (
            client.crate(pods.pods[0], scheme="http") as crate,
            pytest.raises(TransientError, match="no answer"),
        ):
            crate.read(Statement("SELECT 1"))
    finally:
        pods.crate.faults.clear()


def test_what_stops_a_change_at_the_last_moment_stops_it(client, pods):
    def no() -> None:
        raise RefusedError("another owner")

    with (
        client.crate(pods.pods[0], scheme="http") as crate,
        pytest.raises(RefusedError, match="another owner"),
    ):
        crate.change(Statement(f'SET GLOBAL "{TIMEOUT}" = ?', ("5s",)), just_before=no)

    assert setting(pods) == "7200000ms"


def test_a_node_of_a_cluster_that_speaks_only_tls_is_asked_by_tls_whether_it_serves(
    client, monkeypatch
):
    """Whether it still drains decides; curl ends with 52 where plain HTTP is spoken to TLS."""
    answer = b'HTTP/1.1 200 OK\r\n\r\n{"cols":["1"],"rows":[[1]],"rowcount":1}'

    def run(*arguments, **_):
        (url,) = (word for word in arguments[4] if word.endswith("/_sql"))
        if url.startswith("http:"):
            return ExecResult(52, b"", b"curl: (52) Empty reply from server")
        return ExecResult(0, answer, b"")

    monkeypatch.setattr(pod_exec, "run", run)
    crates = Crates(client, "ns", "crate", statement_timeout_s=10.0)
    crates.in_pod("crate-0").read(Statement("SELECT 1"))

    assert takes_requests(crates.probe("crate-1")) is True


def test_a_setting_that_not_every_node_acknowledged_is_unknown_by_exec_too(client, monkeypatch):
    answer = b'HTTP/1.1 200 OK\r\n\r\n{"cols":[],"rows":[[]],"rowcount":0,"duration":30000.1}'
    monkeypatch.setattr(pod_exec, "run", lambda *_, **__: ExecResult(0, answer, b""))

    with (
        client.crate("crate-0", scheme="http") as crate,
        pytest.raises(UnknownResultError, match="not every node has acknowledged"),
    ):
        crate.change(sql.set_global(TIMEOUT, "720s"))


def test_a_node_drains_itself_by_exec_and_then_answers_nobody_new(client_of, start_pods):
    """DECOMMISSION needs the superuser, who is trusted in the pod; curl ends with 0 throughout."""
    pods = start_pods(nodes=3)
    pods.crate.table("doc.t", shards=4, replicas="1")
    pods.crate.world.exit_delay_s = 20.0
    client = client_of(pods)
    with client.crate(pods.pods[2]) as crate:
        crate.change(Statement("ALTER CLUSTER DECOMMISSION ?", ("data-hot-2",)), timeout_s=60)

        with pytest.raises(TransientError, match="shutting down"):
            crate.read(Statement("SELECT 1"))
    shards = pods.crate.sql(
        "SELECT count(*) FROM sys.shards WHERE node['name'] = 'data-hot-2' AND \"primary\""
    )
    assert shards["rows"] == [[0]]


def test_our_own_time_out_leaves_a_drain_unknown_and_it_goes_on(client_of, start_pods):
    pods = start_pods(nodes=3)
    pods.crate.table("doc.t", shards=4, replicas="1")
    pods.crate.world.relocation_s = 8.0
    client = client_of(pods)
    with (
        client.crate(pods.pods[2], scheme="http") as crate,
        pytest.raises(UnknownResultError),
    ):
        crate.change(Statement("ALTER CLUSTER DECOMMISSION ?", ("data-hot-2",)), timeout_s=2)

    pods.wait_for(
        "the drained node to restart in place",
        lambda: container(pods, 2).get("restartCount") == 1,
        90,
    )


def test_a_node_that_is_down_was_sent_nothing(client_of, start_pods):
    pods = start_pods(nodes=2)
    client = client_of(pods)
    with client.crate(pods.pods[1], scheme="http") as crate:
        pods.crate.faults.add(Fault("", Action.REFUSE, node=1))
        pods.wait_for("the port to close", lambda: refuses(pods))

        with pytest.raises(TransientError, match="CrateDB does not answer there"):
            crate.change(Statement(f'SET GLOBAL "{TIMEOUT}" = ?', ("5s",)))


def test_an_image_without_curl_has_python(client_of, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    only_python(pods)
    pods.kubelet.container(pods.pods[0]).signal(9)
    pods.wait_for("the restart", lambda: container(pods, 0).get("restartCount") == 1)
    pods.wait_for("Ready", lambda: pods.is_ready(0))
    port = pods.crate.world.nodes[0].port

    with client.crate(pods.pods[0], port=port) as crate:
        assert crate.connect(for_restore=True).cluster_name == pods.name
        with pytest.raises(RefusedError) as caught:
            crate.read(Statement("SELECT * FROM doc.not_there"))
        assert caught.value.code == 4041


def test_an_image_with_neither_says_what_to_do(client_of, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    folder = only_python(pods)
    (folder / "python3").unlink()
    pods.kubelet.container(pods.pods[0]).signal(9)
    pods.wait_for("the restart", lambda: container(pods, 0).get("restartCount") == 1)

    with (
        client.crate(pods.pods[0], scheme="http") as crate,
        pytest.raises(RefusedError, match="neither curl nor python3") as caught,
    ):
        crate.read(Statement(sql.CLUSTER_IDENTITY))
    assert "CRATE_CONNECTION_STRING" in caught.value.hint


def test_several_threads_may_ask_at_once(client, pods):
    """A drain blocks one of them for many minutes."""
    answers: list[object] = []

    def ask(name: str) -> None:
        with client.crate(name, scheme="http") as crate:
            answers.append(crate.read(Statement("SELECT 1")))

    threads = [threading.Thread(target=ask, args=(name,)) for name in pods.pods * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert answers == [[(1,)]] * 6


def setting(pods) -> object:
    rows = pods.crate.sql("SELECT settings['cluster']['graceful_stop']['timeout'] FROM sys.cluster")
    return rows["rows"][0][0]


def container(pods, number: int):
    status = (pods.pod(number) or {}).get("status") or {}
    return (status.get("containerStatuses") or [{}])[0]


def refuses(pods) -> bool:
    return "data-hot-1" not in pods.crate._servers


def only_python(pods) -> Path:
    """Leave the image of these pods nothing but sh, crate and python3."""
    folder = Path(pods._image.path)
    for name in ("curl", "dc_util"):
        (folder / name).unlink()
    for name, target in (("sh", shutil.which("sh")), ("python3", sys.executable)):
        (folder / name).symlink_to(str(target))
    environment = pods.kubelet._runtime.environment
    environment["PATH"] = str(folder)
    return folder
