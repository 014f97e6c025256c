"""A connection that is refused, lost, slow or of the wrong kind is one clear error, in time."""

from __future__ import annotations

import signal
import socket
import threading
import time

import pytest

from caretaker.errors import (
    InvalidSettingError,
    RefusedError,
    TransientError,
    UnknownResultError,
)
from caretaker.strategies.statements import set_size
from lab.faults import Action, Fault
from resources.materialize.client import Materialize
from resources.materialize.failures import StatementRefusedError
from resources.materialize.settings import STORE_URL, DatabaseSettings

PATIENCE_S = 20.0


# --- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@db/materialize",
        "host=db password=secret",
        "secret",
        "postgresql://me:secret@db:port/materialize",
        "postgresql://me:secret@db/materialize?no_such=1",
        "postgresql://me:secret@/materialize",
        "postgresql://",
        "postgresql://me:sec%ret@db/x",
    ],
)
def test_a_url_that_is_none_is_named_without_its_password(url):
    with pytest.raises(InvalidSettingError, match=r"^DATABASE_URL: found") as caught:
        DatabaseSettings.from_url(url)

    assert "secret" not in str(caught.value)
    assert "sec%ret" not in str(caught.value)


def test_no_url_names_its_variable():
    with pytest.raises(InvalidSettingError, match=r"^DATABASE_URL: found 'nothing'"):
        DatabaseSettings.from_url(" ")
    with pytest.raises(InvalidSettingError, match=rf"^{STORE_URL}: found 'nothing'"):
        DatabaseSettings.from_url("", STORE_URL)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_a_postgresql_url_is_taken(scheme):
    settings = DatabaseSettings.from_url(
        f"{scheme}://me:secret@db:6875/materialize?sslmode=require"
    )

    assert (settings.shown, settings.user) == ("db:6875", "me")
    assert "secret" not in repr(settings)
    assert "sslmode=require" in settings.conninfo


# --- who answers ----------------------------------------------------------------------------------


def test_it_says_who_answers(served, connect):
    who = connect(served.connection_string).identity()

    assert who.version.startswith("v")
    assert who.role == "materialize"
    assert who.environment
    assert who.superuser is True
    assert who.now.utcoffset().total_seconds() == 0


def test_we_appear_by_our_own_name_whatever_the_url_says(served, connect):
    """By this name our own statements are left out of the activity."""
    source = connect(f"{served.connection_string}?application_name=dashboard")
    source.identity()

    assert served.control.journal()[-1]["application"] == "caretaker"


def test_a_plain_postgresql_is_no_materialize(postgres_url, connect):
    with pytest.raises(RefusedError, match="is no Materialize") as caught:
        connect(postgres_url).identity()

    assert "DATABASE_URL" in caught.value.hint


@pytest.mark.parametrize("password", [None, "wrong", 'it\'s "wrong"'])
def test_a_wrong_password_is_refused_and_not_shown(lab, connect, password):
    lab.create_user("guarded", password="right")
    source = connect(lab.url_for("guarded", "right"))
    assert source.identity().role == "guarded"
    secret = "" if password is None else password
    url = lab.url_for("guarded", secret.replace('"', "%22").replace(" ", "%20"))

    with pytest.raises(RefusedError, match="refuses 'guarded'") as caught:
        connect(url).identity()
    assert not secret or secret not in str(caught.value)


def test_an_unknown_role_is_refused(lab, connect):
    with pytest.raises(RefusedError, match=r"refuses 'nobody'.*does not exist"):
        connect(lab.url_for("nobody")).identity()


def test_nobody_at_that_port_may_come_back(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(TransientError, match=f"127.0.0.1:{port} cannot be reached"):
            connect(f"postgresql://me@127.0.0.1:{port}/x").identity()


def test_a_host_that_is_none_is_named(connect):
    with pytest.raises(RefusedError, match=r"no-such-host\.invalid:6875 cannot be found"):
        connect("postgresql://me@no-such-host.invalid:6875/x").identity()


def test_a_server_that_takes_the_call_and_says_nothing_is_given_up(connect):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"postgresql://me@127.0.0.1:{mute.getsockname()[1]}/x?connect_timeout=2"
        with pytest.raises(TransientError, match="cannot be reached"):
            connect(url).identity()


# --- deadlines ------------------------------------------------------------------------------------


def test_a_read_that_takes_too_long_is_cancelled_on_the_server(lab, connect):
    """And the connection is not used again: the cancel may still be on its way."""
    lab.faults.add(Fault(match="^SHOW cluster", action=Action.HANG, times=1))
    source = connect(lab.url, timeout_s=0.5)
    with pytest.raises(TransientError, match=r"no answer within 0\.5 s"):
        source.session_cluster()

    assert source.session_cluster() == "quickstart"


def test_a_change_that_may_take_longer_says_how_long_it_was_waited_for(lab, connect):
    lab.faults.add(Fault(match="^CREATE TABLE", action=Action.HANG, times=1))
    with pytest.raises(UnknownResultError, match=r"no answer within 0\.5 s"):
        connect(lab.url).session.change("CREATE TABLE t (a INT)", within_s=0.5)


def test_a_query_that_runs_too_long_is_ended_on_the_server(connect, postgres_url):
    """A PostgreSQL hears the cancel, and says so."""
    source = connect(postgres_url, timeout_s=0.5)
    with pytest.raises(TransientError, match=r"no answer within 0\.5 s"):
        source.session.rows("SELECT pg_sleep(60)")

    rows = source.session.rows("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(60)'"
                               " AND pid <> pg_backend_pid() AND state = 'active'")  # fmt: skip
    assert rows == [(0,)]


def test_a_server_that_does_not_even_hear_the_cancel_is_cut_off(connect, monkeypatch):
    """It greets us, and then neither answers nor hangs up."""
    monkeypatch.setattr("resources.materialize.session.GRACE_S", 0.5)
    ready = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        held = []

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                held.append(client)
                client.recv(4096)
                client.sendall(ready)

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        source = connect(f"postgresql://me@127.0.0.1:{port}/x?sslmode=disable", timeout_s=0.5)
        began = time.monotonic()
        with pytest.raises(TransientError, match="no answer within"):
            source.identity()
        assert time.monotonic() - began < PATIENCE_S
        for client in held:
            client.close()


def test_the_wait_for_a_reconfiguration_is_no_deadline_that_passed(lab, connect):
    """WAIT UNTIL READY may take longer than any other statement."""
    lab.managed_cluster("m", "25cc")
    lab.speed = 20.0
    source = connect(lab.url, timeout_s=0.1)
    source.change(set_size("m", "50cc", 60))

    assert lab.replicas("m") == {"r1": "50cc"}


# --- changes --------------------------------------------------------------------------------------


CREATE = 'CREATE CLUSTER REPLICA "c"."r" (SIZE \'25cc\')'


@pytest.mark.parametrize("action", [Action.RESET_BEFORE, Action.RESET_AFTER, Action.HALF_BODY])
def test_a_change_without_an_answer_is_unknown_and_sent_once(lab, connect, action):
    lab.cluster("c")
    lab.faults.add(Fault(match="^CREATE", action=action))
    source = connect(lab.url)
    source.identity()
    with pytest.raises(UnknownResultError):
        source.change(CREATE)

    assert sum(entry.stmt == CREATE for entry in lab.journal) == 1


def test_a_change_that_goes_down_with_the_server_is_unknown(lab, connect):
    lab.cluster("c")
    lab.faults.add(Fault(match="^CREATE", action=Action.DISCONNECTED))
    source = connect(lab.url)
    with pytest.raises(UnknownResultError, match="administrator command"):
        source.change(CREATE)


def test_a_change_that_could_not_be_sent_may_be_sent_again(lab, connect):
    lab.cluster("c")
    lab.crash()
    source = connect(lab.url)
    with pytest.raises(TransientError, match="cannot be reached"):
        source.change(CREATE)
    lab.restart()
    source.change(CREATE)

    assert lab.replicas("c") == {"r": "25cc"}


def test_a_lost_connection_is_opened_again(lab, connect):
    source = connect(lab.url)
    source.identity()
    lab.crash()
    with pytest.raises(TransientError):
        source.identity()
    lab.restart()

    assert source.identity().role == "materialize"


def test_something_else_on_that_port_is_no_answer(lab, connect):
    lab.faults.add(Fault(match="^SHOW cluster", action=Action.HTML, times=1))
    source = connect(lab.url)
    with pytest.raises(TransientError):
        source.session_cluster()

    assert source.session_cluster() == "quickstart"


@pytest.mark.parametrize(
    ("statement", "sentence", "hint"),
    [
        (CREATE.replace('"c"', '"m"'), "cannot modify managed cluster m", ""),
        ('DROP CLUSTER REPLICA "m"."r1"', "cannot drop replica of managed cluster", ""),
        (CREATE.replace('"r"', '"there"'), "cannot create multiple replicas named 'there'", ""),
        (CREATE.replace('"c"', '"nosuch"'), "unknown cluster 'nosuch'", ""),
        (CREATE.replace("25cc", "26cc"), "unknown cluster replica size 26cc", "Valid cluster"),
        ('DROP CLUSTER REPLICA "c"."gone"', 'has no CLUSTER REPLICA named "gone"', ""),
    ],
)
def test_what_materialize_refuses_is_its_own_words(lab, connect, statement, sentence, hint):
    lab.cluster("c", {"there": "25cc"})
    lab.managed_cluster("m", "25cc")
    with pytest.raises(StatementRefusedError) as caught:
        connect(lab.url).change(statement)

    assert sentence in str(caught.value)
    assert hint in caught.value.hint


def test_a_limit_names_what_to_change(lab, connect):
    lab.cluster("c", {"there": "25cc"})
    lab.set_system(max_replicas_per_cluster=1)
    with pytest.raises(StatementRefusedError, match="max_replicas_per_cluster") as caught:
        connect(lab.url).change(CREATE)

    assert (caught.value.sqlstate, "max_replicas" in caught.value.hint) == ("53000", True)


def test_a_cluster_that_is_not_ours_names_its_owner(lab, connect):
    lab.set_system(rbac="on")
    lab.create_user("guest")
    lab.cluster("c", {"r1": "25cc"})
    with pytest.raises(StatementRefusedError, match="must be owner of CLUSTER c") as caught:
        connect(lab.url_for("guest")).change(CREATE)

    assert "OWNER TO" in caught.value.hint
    assert connect(lab.url_for("guest")).clusters_of_others("guest") == ["c", "quickstart"]


def test_a_statement_with_nul_is_not_sent(lab, connect):
    """In C it would end there, and what is left may be another statement."""
    lab.cluster("c", {"r": "25cc"})
    before = len(lab.journal)
    with pytest.raises(RefusedError, match="NUL"):
        connect(lab.url).change('DROP CLUSTER REPLICA "c"."r"\0"')

    assert len(lab.journal) == before


def test_an_interrupted_wait_leaves_no_half_used_connection(lab):
    source = Materialize(DatabaseSettings.from_url(lab.url))
    asked = threading.Event()
    hangs = Fault("^SHOW cluster", Action.HANG, times=1, before=lambda _: asked.set())
    lab.faults.add(hangs)
    main = threading.main_thread()

    def press() -> None:
        # Not while it connects: it is the wait for an answer that is interrupted.
        asked.wait(PATIENCE_S)
        time.sleep(0.5)
        signal.pthread_kill(main.ident or 0, signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        source.session_cluster()

    assert source.session_cluster() == "quickstart"
    source.close()
