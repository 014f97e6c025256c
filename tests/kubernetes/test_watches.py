"""A look at a cluster stays true whatever becomes of its watches, and asks little."""

from __future__ import annotations

import threading
import time

import pytest

from caretaker.errors import RefusedError, TransientError
from lab.faults import Action, Fault


@pytest.fixture(autouse=True)
def _only_watches(monkeypatch):
    """Nothing is read again for its age alone: what is seen, the watch has told."""
    monkeypatch.setattr("resources.kubernetes.looking.MAX_AGE_S", 3600.0)
    monkeypatch.setattr("resources.kubernetes.looking.REST_EVERY_S", 3600.0)


def test_a_change_is_seen_without_asking_again(client_of, plane, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    with client.look(client.cluster(pods.name)) as look:
        look.seen()
        before = pods.uid(0)
        asked = requests(plane)

        client.delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=30)

        until(look, lambda seen: is_another(seen, pods.pods[0], before))
        # The delete, and hardly a list: what is watched is not polled.
        assert requests(plane) - asked <= 6


def test_nothing_is_missed_when_connections_are_dropped(client_of, plane, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    with client.look(client.cluster(pods.name)) as look:
        look.seen()
        before = pods.uid(0)
        plane.front.drop_connections()
        client.delete_pod(pods.pods[0], pods.namespace, uid=before, grace_s=30)
        plane.front.drop_connections()

        until(look, lambda seen: is_another(seen, pods.pods[0], before))


def test_a_watch_that_met_410_begins_with_a_new_list(client_of, plane, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    with client.look(client.cluster(pods.name)) as look:
        look.seen()
        lists = lists_of(look)
        before = pods.uid(0)
        plane.expire_history()
        pods.rest.ask("DELETE", pod_path(pods), {"gracePeriodSeconds": 1})

        until(look, lambda seen: is_another(seen, pods.pods[0], before))
        deadline = time.monotonic() + 60
        while lists_of(look) == lists and time.monotonic() < deadline:
            look.wait(0.2)
        assert lists_of(look) > lists


def test_410_in_the_middle_of_a_watch_is_the_same(client_of, plane, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    plane.front.faults.add(
        Fault("watch pods", Action.ERROR, status=410, message="too old resource version", times=3)
    )
    with client.look(client.cluster(pods.name)) as look:
        look.seen()

        sees_a_replacement(look, pods)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_watch_that_is_refused_for_a_moment_goes_on(client_of, plane, start_pods, status):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    plane.front.faults.add(Fault("watch", Action.ERROR, status=status, times=4, seconds=0))
    with client.look(client.cluster(pods.name)) as look:
        look.seen()

        sees_a_replacement(look, pods)


def test_half_an_event_is_no_event(client_of, plane, start_pods):
    pods = start_pods(nodes=1)
    client = client_of(pods)
    plane.front.faults.add(Fault("watch pods", Action.RESET_AFTER, times=2))
    with client.look(client.cluster(pods.name)) as look:
        look.seen()

        sees_a_replacement(look, pods)


def test_an_api_server_may_be_restarted_under_a_look(client_of, plane, start_pods):
    """The pods run on, and what happens afterwards is seen."""
    pods = start_pods(nodes=1)
    client = client_of(pods)
    with client.look(client.cluster(pods.name)) as look:
        look.seen()
        before = pods.uid(0)
        plane.restart_api()
        pods.rest.ask("DELETE", pod_path(pods), {"gracePeriodSeconds": 1})

        until(look, lambda seen: is_another(seen, pods.pods[0], before))


def test_an_api_server_that_is_away_is_not_looked_past(client_of, plane, start_pods, monkeypatch):
    """What was seen is not what is: past its age it is read again, or there is no answer."""
    monkeypatch.setattr("resources.kubernetes.looking.MAX_AGE_S", 0.2)
    pods = start_pods(nodes=1)
    client = client_of(pods)
    with client.look(client.cluster(pods.name)) as look:
        look.seen()
        plane.front.stop()
        try:
            with pytest.raises(TransientError, match="Connection refused"):
                keep_looking(look, 30.0)
        finally:
            plane.front.start()
        assert look.seen(fresh=True).pod(pods.pods[0]) is not None


def test_a_silent_watch_is_taken_for_dead(client_of, plane, start_pods):
    """A connection that died without a word must not hide what happens."""
    pods = start_pods(nodes=1)
    client = client_of(pods, watch_idle_s=0.5)
    plane.front.faults.add(Fault("watch pods", Action.HANG, times=1))
    with client.look(client.cluster(pods.name)) as look:
        look.seen()

        sees_a_replacement(look, pods)


@pytest.mark.parametrize("status", [401, 403])
def test_a_watch_that_had_worked_and_is_refused_goes_on_when_it_may(
    client_of, plane, start_pods, monkeypatch, status
):
    """A token between two, an authorizer that hiccups: no reason to be blind from then on."""
    monkeypatch.setattr("resources.kubernetes.following._LONGEST_PAUSE_S", 0.2)
    pods = start_pods(nodes=1)
    client = client_of(pods)
    with client.look(client.cluster(pods.name)) as look:
        look.seen()
        pods.wait_for("watches", lambda: all(each._worked for each in look._pods))
        before = pods.uid(0)
        refusal = plane.front.faults.add(Fault("watch pods", Action.ERROR, status=status, times=2))
        plane.front.drop_connections()
        pods.rest.ask("DELETE", pod_path(pods), {"gracePeriodSeconds": 1})

        until(look, lambda seen: is_another(seen, pods.pods[0], before))
        pods.wait_for("the watch to be refused twice", lambda: refusal.fired == 2)
        look.seen(fresh=True)


def test_a_watch_that_is_granted_later_is_noticed(client_of, plane, pods, monkeypatch):
    monkeypatch.setattr("resources.kubernetes.following._LONGEST_PAUSE_S", 0.2)
    client = client_of(pods)
    rule = plane.front.faults.add(Fault("watch pods", Action.ERROR, status=403))
    with client.look(client.cluster("steady")) as look:
        with pytest.raises(RefusedError):
            until(look, lambda _: False)
        plane.front.faults.remove(rule.id)

        pods.wait_for("watches", lambda: all(each._worked for each in look._pods))
        assert look.seen().pod(pods.pods[0]) is not None


def test_a_watch_that_may_not_be_is_told_and_asked_for_at_leisure(client_of, plane, pods):
    client = client_of(pods)
    plane.front.faults.add(
        Fault(
            "watch pods", Action.ERROR, status=403, message='User "x" cannot watch resource "pods"'
        )
    )
    with client.look(client.cluster("steady")) as look:
        told = "x may not watch pods in namespace steady"
        with pytest.raises(RefusedError, match=told):
            until(look, lambda _: False)
        asked = requests(plane)
        look.wait(1.0)
        assert requests(plane) - asked <= 2


def test_a_look_ends_at_once_and_leaves_no_thread(client):
    with client.look(client.cluster("steady")) as look:
        look.seen()
    assert not [each for each in threading.enumerate() if each.name.startswith("follow-")]


def sees_a_replacement(look, pods) -> None:
    """Delete the first pod behind the look's back, and wait until it sees the next one."""
    before = pods.uid(0)
    pods.rest.ask("DELETE", pod_path(pods), {"gracePeriodSeconds": 1})
    until(look, lambda seen: is_another(seen, pods.pods[0], before))


def until(look, holds, within_s: float = 90.0) -> None:
    """Wait for what is seen to be so."""
    deadline = time.monotonic() + within_s
    while True:
        look.wait(1.0)
        try:
            seen = look.seen()
        except TransientError as error:
            seen, said = None, str(error)
        else:
            said = str(seen.pods)
        if seen is not None and holds(seen):
            return
        assert time.monotonic() < deadline, said


def keep_looking(look, seconds: float) -> None:
    """Look again and again, for at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        look.wait(0.1)
        look.seen()


def is_another(seen, name: str, before: str) -> bool:
    pod = seen.pod(name)
    return pod is not None and pod.uid != before and pod.ready


def requests(plane) -> int:
    return len(plane.front.journal)


def lists_of(look) -> int:
    return sum(each.lists for each in look._pods)


def pod_path(pods) -> str:
    return f"/api/v1/namespaces/{pods.namespace}/pods/{pods.pods[0]}"
