"""Bad input: one clear sentence on stderr, the exit code, no traceback, and nothing touched."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import pytest

from lab.cratedb import LabCrateDB
from lab.faults import Fault
from tests.console.conftest import changes_of
from tests.cratedb.conftest import make_authority

SECRET = "s3cr3t-never-shown"
VARIABLE = "CRATE_CONNECTION_STRING"


@pytest.fixture(autouse=True)
def _untouched(lab):
    """Whatever is asked for here, no lab may see a changing statement."""
    lab.table("doc.metrics", sick_mb=1840)
    yield
    assert not changes_of(lab)
    assert lab.at_zero() == []


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--nonsense"], ["No such option", "--nonsense"]),
        (["--percentage"], ["--percentage", "argument"]),
        (["--percentage", "many"], ["--percentage", "many", "integer"]),
        (["--percentage", "0"], ["--percentage", "0", "at least 1"]),
        (["--percentage", "-1"], ["--percentage", "-1", "at least 1"]),
        (["--max-wait", "-1"], ["--max-wait", "-1", "at least 0"]),
        (["--max-wait", "nan"], ["--max-wait", "nan"]),
        (["--max-wait", "inf"], ["--max-wait", "inf", "at most"]),
        (["--concurrent", "0"], ["--concurrent", "0", "from 1 to 8"]),
        (["--concurrent", "9"], ["--concurrent", "9", "from 1 to 8"]),
        (["--size-mb", "much"], ["--size-mb", "much", "float"]),
        (["--size-mb", "-1"], ["--size-mb", "-1", "at least 0"]),
        (["--remedy", "nonsense"], ["--remedy", "nonsense", "replicas or flush_first"]),
        (["--table", "(("], ["--table", "((", "regular expression"]),
        (["--expected-nodes", "0"], ["--expected-nodes", "0", "at least 1"]),
        (["--max-tables", "0"], ["--max-tables", "0", "at least 1"]),
        (["--log-format", "xml"], ["--log-format", "xml", "console", "json"]),
        (["--output", "xml"], ["--output", "xml", "table", "json"]),
        (["doc.metrics"], ["doc.metrics"]),
    ],
)
def test_an_option_that_cannot_work(caretaker, lab, flags, words):
    """Named as it was typed, with the value found and what is allowed; CrateDB is not asked."""
    for face in ([], ["--autoexec"]):
        caretaker("translogs", *face, *flags).refused(*words)
    assert len(lab.journal) == 0


def test_an_unknown_verb_is_a_usage_error(caretaker):
    caretaker("translog").refused("No such command", "translog", code=2)
    caretaker("tickets", "burn").refused("No such command", "burn", code=2)
    caretaker("tickets", "show", "many").refused("many", "12, r3", code=2)
    caretaker("--nonsense").refused("--nonsense", code=2)


def test_no_verb_shows_the_help(caretaker):
    ended = caretaker()

    assert ended.code == 2
    assert "translogs" in ended.out + ended.err


def test_a_usage_error_is_logged_as_json_where_that_was_asked_for(caretaker):
    (line,) = caretaker("translogs", "--nonsense", "--log-format", "json").log
    assert line["event"] == "error"
    assert line["level"] == "ERROR"
    assert "--nonsense" in line["error"]


# --- the config file --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("percentage: [", ["while parsing"]),
        ("- percentage: 300\n", ["a list", "percentage: 300"]),
        ("just words\n", ["a str"]),
        ("42\n", ["a int"]),
        ("percent: 300\n", ["percent", "300", "percentage"]),
        ("percentage: many\n", ["percentage", "'many'", "integer"]),
        ("percentage: true\n", ["percentage", "True", "integer"]),
        ("percentage: 0\n", ["percentage", "0", "at least 1"]),
        ("max_wait_s: soon\n", ["max_wait_s", "'soon'", "number"]),
        ("max_wait_s: .inf\n", ["max_wait_s", "inf", "at most"]),
        ("nudge: maybe\n", ["nudge", "'maybe'", "boolean"]),
        ("table: 5\n", ["table", "5", "string"]),
        ("wait_ladder_s: 10\n", ["wait_ladder_s", "10", "list"]),
        ("wait_ladder_s: []\n", ["wait_ladder_s", "[]", "above 0"]),
        ("wait_ladder_s: [10, -1]\n", ["wait_ladder_s", "-1", "above 0"]),
        ("? [a, b]\n: 1\n", ["YAML"]),
        ("day: 2024-13-45\n", ["YAML"]),
        ("[" * 3000, ["YAML"]),
        ("a: &a [*a]\n", ["a:"]),
        (b"\xff\xfe\x00bad", ["YAML"]),
    ],
)
def test_a_config_file_that_cannot_work(caretaker, lab, content, words):
    """Named with its path, the key, the value and what is allowed."""
    path = caretaker.folder / "conf.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)

    caretaker("translogs", "--autoexec", "--config", str(path)).refused(str(path), *words)

    assert len(lab.journal) == 0


def test_a_config_file_that_is_not_there(caretaker):
    caretaker("translogs", "--config", "nowhere.yaml").refused("nowhere.yaml", "No such file")
    caretaker("translogs", "--config", str(caretaker.folder)).refused("Is a directory")


def test_a_flag_that_cannot_work_is_not_blamed_on_the_file(caretaker):
    path = caretaker.config(percentage=300)

    said = caretaker("translogs", "--config", path, "--percentage", "0").refused("--percentage")

    assert path not in said


# --- the connection ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "found ''"),
        ("", ""),
        ("   ", ""),
        (",", ","),
        (f"postgres://u:{SECRET}@h:5432/db", "postgres://***@h:5432/db"),
        ("crate://h:4200", "crate://h:4200"),
        ("h:4200", "h:4200"),
        ("http://h:port", "http://h"),
        ("http://h:99999", "http://h:99999"),
        ("http://h:4200,https://i:4200", "https://i"),
        ("http://", "http://"),
        (f"http://u:{SECRET}@h:4200/path", "***@h"),
    ],
)
def test_a_connection_string_that_cannot_work(caretaker, value, shown):
    """The variable, what was found without a password, and what is expected."""
    caretaker.environment.pop(VARIABLE)
    if value is not None:
        caretaker.environment[VARIABLE] = value

    for face in ("--autoexec", "--execute"):
        said = caretaker("translogs", face).refused(VARIABLE, shown, "http(s)://host:4200")
        assert SECRET not in said


def test_hosts_of_two_clusters_are_refused(caretaker, lab):
    with LabCrateDB(nodes=1, seed=2, cluster_name="other") as other:
        caretaker.environment[VARIABLE] = f"{lab.url},{other.url}"

        caretaker("translogs", "--autoexec").refused(VARIABLE, "other", "one and the same cluster")


@pytest.fixture
def closed_url():
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_unreachable_host_is_tried_five_times_and_not_fifteen(caretaker, closed_url):
    caretaker.environment[VARIABLE] = closed_url

    for face in ("--autoexec", "--dry-run", "--execute"):
        caretaker("translogs", face).refused(closed_url, "Connection refused", "tried 5 times")


def test_one_of_two_hosts_unreachable_is_noted_and_works(caretaker, lab, closed_url):
    caretaker.environment[VARIABLE] = f"{closed_url},{lab.url}"

    ended = caretaker("translogs", "--dry-run")

    assert ended.code == 0
    assert f"{closed_url} does not answer" in ended.err
    assert len(ended.statements) == 3


def test_a_wrong_password_is_named_and_not_shown(caretaker, lab):
    lab.create_user("ops", "right", "AL")
    caretaker.environment |= {"CRATE_USERNAME": "ops", "CRATE_PASSWORD": SECRET}

    for face in ("--autoexec", "--execute"):
        said = caretaker("translogs", face).refused("CRATE_USERNAME", "CRATE_PASSWORD")
        assert SECRET not in said


def test_a_password_without_a_user_is_refused(caretaker):
    caretaker.environment["CRATE_PASSWORD"] = SECRET

    said = caretaker("translogs").refused("CRATE_USERNAME")

    assert SECRET not in said


def test_tls_to_a_plain_port_says_which_scheme(caretaker, lab):
    caretaker.environment[VARIABLE] = lab.url.replace("http:", "https:")

    caretaker("translogs", "--autoexec").refused("http://", VARIABLE)


def test_plain_to_a_tls_port_says_which_scheme(caretaker, tmp_path):
    make_authority(tmp_path, "127.0.0.1")
    pem = str(tmp_path / "server.pem")
    with LabCrateDB(nodes=1, tls=(pem, pem)) as secure:
        secure.table("doc.calm", replicas="0")
        caretaker.environment[VARIABLE] = secure.url.replace("https:", "http:")
        caretaker("translogs", "--autoexec").refused("https://", VARIABLE)

        caretaker.environment[VARIABLE] = secure.url
        caretaker("translogs", "--autoexec").refused("not trusted", "CRATE_CA_CERT")

        caretaker.environment["CRATE_CA_CERT"] = str(tmp_path / "ca.pem")
        assert caretaker("translogs", "--autoexec").code == 0

        caretaker.environment["CRATE_SSL_VERIFY"] = "perhaps"
        caretaker("translogs", "--autoexec").refused("CRATE_SSL_VERIFY", "perhaps", "true or false")


def test_something_else_that_speaks_http_is_no_cratedb(caretaker, lab):
    lab.faults.add(Fault(action="html"))

    caretaker("translogs", "--autoexec").refused("CrateDB")


def test_something_that_speaks_no_http_is_no_cratedb(caretaker):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(b"\x00\x01SSH-2.0-what do you want\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()
        host = f"http://127.0.0.1:{listener.getsockname()[1]}"
        caretaker.environment[VARIABLE] = host

        caretaker("translogs", "--autoexec").refused(host)


def test_half_an_answer_is_not_taken_for_a_whole_one(caretaker, lab):
    lab.faults.add(Fault(action="half_body"))

    caretaker("translogs", "--autoexec").refused("half-way")


def test_an_answer_of_200_mb_is_not_read(caretaker, lab):
    lab.faults.add(Fault(match="sys.shards", action="huge", megabytes=200))

    caretaker("translogs", "--autoexec").refused("bytes")


def test_a_cratedb_that_is_too_old_is_refused(caretaker):
    with LabCrateDB(nodes=1, version="5.4.0") as old:
        old.table("doc.metrics", sick_mb=1840, replicas="1")
        caretaker.environment[VARIABLE] = old.url

        caretaker("translogs", "--autoexec").refused("5.4.0", "5.10")


def test_a_user_who_sees_nothing_is_told_what_to_grant(caretaker, lab):
    """An empty sys.shards looks GREEN; it is not taken for nothing to do."""
    lab.create_user("weak", "word")
    caretaker.environment |= {"CRATE_USERNAME": "weak", "CRATE_PASSWORD": "word"}

    caretaker("translogs", "--autoexec").refused("weak", "GRANT")
    caretaker("translogs", "--dry-run").refused("weak", "GRANT")


# --- Dagster's home and the store -------------------------------------------------------------


def test_a_dagster_home_that_cannot_work(caretaker, tmp_path):
    """Unset, relative, missing, a file in its place."""
    caretaker.environment.pop("DAGSTER_HOME")
    for verb in (["translogs", "--autoexec"], ["translogs"], ["tickets"]):
        caretaker(*verb).refused("DAGSTER_HOME", "absolute path")
    a_file = tmp_path / "file"
    a_file.write_text("")
    for value in ("relative/home", "", str(tmp_path / "missing"), str(a_file)):
        caretaker.environment["DAGSTER_HOME"] = value
        caretaker("translogs", "--autoexec").refused("DAGSTER_HOME", value, "absolute path")
        caretaker("tickets").refused("DAGSTER_HOME", "absolute path")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")  # noqa: PTH112
def test_a_dagster_home_where_nothing_can_be_written(caretaker):
    """/proc: root may write anywhere else."""
    caretaker.environment["DAGSTER_HOME"] = "/proc/self"

    caretaker("translogs", "--autoexec").refused("DAGSTER_HOME", "/proc/self", "writable")


@pytest.mark.parametrize(
    "content", ["storage: nonsense\n", "nonsense: 1\n", "run_queue: [\n", "- a\n"]
)
def test_a_dagster_yaml_that_cannot_work(caretaker, content):
    (caretaker.home / "dagster.yaml").write_text(content)

    caretaker("translogs", "--autoexec").refused("DAGSTER_HOME", "dagster.yaml")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", ["no URL"]),
        (f"mysql://u:{SECRET}@h/db", ["mysql://..."]),
        ("sqlite:///relative.db", ["relative.db", "sqlite:////"]),
        ("sqlite:////nowhere/at/all.db", ["/nowhere/at/all.db"]),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/db", ["127.0.0.1:1"]),
        (f"postgresql://u:{SECRET}@h:port/db", ["postgresql://..."]),
    ],
)
def test_a_state_store_that_cannot_work(caretaker, url, words):
    """Named without its password, before anything is changed."""
    caretaker.environment["CARETAKER_STATE_URL"] = url

    for verb in (["translogs", "--autoexec"], ["tickets"], ["translogs", "--resume"]):
        said = caretaker(*verb).refused(*words)
        assert SECRET not in said


def test_a_log_format_in_the_environment_that_cannot_work(caretaker):
    caretaker.environment["CARETAKER_LOG_FORMAT"] = "xml"

    caretaker("translogs", "--autoexec").refused("CARETAKER_LOG_FORMAT", "xml", "console or json")


def test_an_error_that_nobody_foresaw_is_one_sentence_too(caretaker, monkeypatch):
    """And --log-format json has the traceback, for who is to mend it."""

    def burst(*_, **__):
        raise ZeroDivisionError("a bug\nof two lines")

    monkeypatch.setattr("console.translog.run_job", burst)

    caretaker("translogs").refused("ZeroDivisionError: a bug of two lines", "unexpected")
    (line,) = caretaker("translogs", "--log-format", "json").log
    assert "in burst" in line["exception"]


# --- the .env file ----------------------------------------------------------------------------


def test_an_env_file_in_the_working_directory_is_read(caretaker):
    connection = caretaker.environment.pop(VARIABLE)
    (caretaker.folder / ".env").write_text(f"{VARIABLE}={connection}\n")

    assert len(caretaker("translogs", "--dry-run").statements) == 3


def test_the_real_environment_wins_over_the_env_file(caretaker):
    (caretaker.folder / ".env").write_text(f"{VARIABLE}=http://nowhere.invalid:1\n")

    assert caretaker("translogs", "--dry-run").code == 0


def test_an_env_file_that_cannot_be_read_is_one_sentence(caretaker):
    (caretaker.folder / ".env").write_bytes(b"A=\xff\xfe\n")

    caretaker("translogs").refused(".env")
