"""What a script may rely on: the JSON document, the JSON log, the console's lines, no secrets."""

from __future__ import annotations

import re

import pytest

from lab.faults import Fault

SICK = 1840
TABLE_KEYS = {
    "schema", "table", "partition", "worst_mb", "threshold_mb", "percentage", "cause",
    "original_replicas", "final_replicas", "state", "outcome", "reason", "degraded",
    "lease_wait_s", "duration_s", "statements",
}  # fmt: skip
SUMMARY_KEYS = {"found", "attempted", "completed", "failed", "not_restored", "skipped"}
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[(INFO|WARNING|ERROR|CRITICAL)\] \S.*")


@pytest.mark.parametrize("flags", [[], ["--execute"], ["--dry-run"], ["--autoexec"], ["--resume"]])
def test_json_is_one_document_with_the_keys_of_the_contract(caretaker, lab, flags):
    """Of every face; logs are on stderr alone."""
    lab.table(
        "doc.p", replicas="0-1", partitioned_by=[("day", "timestamp"), ("R", "text")],
        partitions=[{"day": 1735689600000, "R": None}], sick_mb=SICK,
    )  # fmt: skip
    lab.table("doc.plain", sick_mb=SICK)

    ended = caretaker("translogs", *flags, "--output", "json", "--log-format", "json")

    assert ended.code == 0, ended.err
    document = ended.json
    assert document.keys() == {"tables", "summary", "exit_code"}
    assert document["summary"].keys() == SUMMARY_KEYS
    assert document["exit_code"] == ended.code
    assert all(table.keys() >= TABLE_KEYS for table in document["tables"])
    assert ended.log is not None
    if flags != ["--resume"]:
        by_name = {table["table"]: table for table in document["tables"]}
        assert by_name["p"]["partition"] == {"day": 1735689600000, "R": None}
        assert by_name["plain"]["partition"] is None
        assert by_name["p"]["original_replicas"] == by_name["p"]["final_replicas"] == "0-1"
        assert by_name["p"]["worst_mb"] == SICK
        assert by_name["p"]["threshold_mb"] == 563.2
        assert by_name["p"]["cause"] == "safe_commit_lag"
        assert len(by_name["p"]["statements"]) == 3
        outcome = "COMPLETED" if flags == ["--autoexec"] else None
        assert by_name["p"]["outcome"] == outcome
        assert document["summary"]["found"] == 2


def test_the_streams_of_a_process_are_clean(caretaker, lab):
    """Stdout is the document, every line of stderr an object: nothing of Dagster's in between."""
    (caretaker.home / "dagster.yaml").unlink()
    lab.table("doc.metrics", sick_mb=SICK)

    for flags in (["--autoexec"], []):
        ended = caretaker.process("translogs", *flags, "--output", "json", "--log-format", "json")
        assert ended.code == ended.json["exit_code"] == 0
        assert all("event" in line for line in ended.log)


def test_each_line_of_the_json_log_is_flat_and_has_its_fields(caretaker, lab):
    """Timestamps in UTC, replicas as text, no nulls to trip over."""
    lab.table("doc.metrics", replicas="1", sick_mb=SICK, leases_stuck=True)

    config = caretaker.config()
    log = caretaker("translogs", "--autoexec", "--config", config, "--log-format", "json").log

    for line in log:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
        assert line["level"] in {"INFO", "WARNING", "ERROR", "CRITICAL"}
        assert line["event"]
        assert not any(isinstance(value, dict | list) for value in line.values())
        assert None not in line.values()
        assert line["table"] == "doc.metrics"
        assert re.fullmatch(r"[0-9a-f-]{36}", line["run_id"])
    moves = [line for line in log if line["event"] == "state_transition"]
    assert [(move["from_state"], move["to_state"]) for move in moves] == [
        ("DETECTED", "SETTING_REPLICAS_ZERO"),
        ("SETTING_REPLICAS_ZERO", "MONITORING_LEASES"),
        ("MONITORING_LEASES", "RESTORING_REPLICAS"),
        ("RESTORING_REPLICAS", "VERIFYING"),
        ("VERIFYING", "FAILED"),
    ]
    assert all(move["original_replicas"] == "1" for move in moves)
    assert all(isinstance(move["elapsed_ms"], int) for move in moves)
    leases = [line for line in log if line["event"] == "leases"]
    assert [line["attempt"] for line in leases] == [1, 2, 3]
    assert all((line["state"], line["leases"]) == ("MONITORING_LEASES", 8) for line in leases)
    sent = [line for line in log if line["event"] == "sql"]
    assert [line["sql"].split()[0] for line in sent] == ["ALTER", "OPTIMIZE", "ALTER"]
    assert all(isinstance(line["elapsed_ms"], int) for line in sent)
    (outcome,) = [line for line in log if line["event"] == "outcome"]
    assert outcome["outcome"] == "LEASES_TIMED_OUT"
    assert outcome["original_replicas"] == outcome["final_replicas"] == "1"


def test_a_partition_is_named_in_every_event(caretaker, lab):
    lab.table(
        "doc.p", partitioned_by=[("day", "timestamp")], partitions=[{"day": 1735689600000}],
        sick_mb=SICK,
    )  # fmt: skip

    log = caretaker("translogs", "--autoexec", "--log-format", "json").log

    assert log
    assert {line["partition"] for line in log} == {"day=1735689600000"}


def test_a_refused_preflight_is_an_event(caretaker, lab):
    lab.table("doc.metrics", sick_mb=SICK)
    lab.start_snapshot()

    log = caretaker("translogs", "--autoexec", "--log-format", "json").log

    assert [line["event"] for line in log] == ["preflight_refused", "error"]
    assert "snapshot" in log[0]["reason"]


def test_the_unexpected_has_its_traceback_in_json_and_only_there(caretaker, lab, monkeypatch):
    """A step that bursts with the table at 0: put back, and the cause kept for who mends it."""
    table = lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)

    def burst(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("ops.reset.watch_leases", burst)

    ended = caretaker("translogs", "--autoexec", "--log-format", "json")
    assert ended.code == 2
    (note,) = [line for line in ended.log if "exception" in line]
    assert "in burst" in note["exception"]
    assert table.number_of_replicas == "0-1"

    table.make_sick(SICK)
    config = caretaker.config(retry_after_s=0)
    plain = caretaker("translogs", "--autoexec", "--config", config)
    assert "ZeroDivisionError: a bug" in plain.err
    assert "Traceback" not in plain.err


def test_the_console_has_a_line_for_each_event(caretaker, lab):
    """`2024-01-15 10:30:18 [INFO] schema.table1: MONITORING_LEASES (attempt 1/11, ...)`."""
    lab.table("doc.metrics", sick_mb=SICK, leases_stuck=True)

    config = caretaker.config(max_wait_s=1.0, wait_ladder_s=[0.25])
    ended = caretaker("translogs", "--autoexec", "--config", config)

    lines = ended.err.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), ended.err
    wanted = "[INFO] doc.metrics: MONITORING_LEASES (attempt 1/5, next look in 0.25 s)"
    assert any(wanted in line for line in lines), ended.err
    assert any("[ERROR] doc.metrics: LEASES_TIMED_OUT" in line for line in lines)


def test_a_value_with_a_line_break_does_not_break_a_line(caretaker, lab):
    lab.table(
        "doc.p", partitioned_by=[("r", "text")], partitions=[{"r": "a\nERROR b\x1b[31m"}],
        sick_mb=SICK,
    )  # fmt: skip

    ended = caretaker("translogs", "--autoexec")

    assert all(LINE.fullmatch(line) for line in ended.err.splitlines()), ended.err
    assert "\x1b" not in ended.err + ended.out


def test_a_password_is_nowhere(caretaker, lab):
    """Neither on the streams, nor in Dagster's event log, nor in the state store."""
    secret = "s3cr3t-never-shown"
    lab.table("doc.done", sick_mb=2 * SICK)
    lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    lab.create_user("ops", secret, "AL", "DQL", "DML", "DDL ON SCHEMA doc")
    lab.faults.add(Fault(match='^ALTER TABLE "doc"."metrics"', after_matches=1, action="error",
                         status=403, code=4031, message=f"no {secret[:0]}"))  # fmt: skip
    address = lab.connection_string.replace("http://", f"http://ops:{secret}@")
    caretaker.environment["CRATE_CONNECTION_STRING"] = address

    said = ""
    for flags in (["--autoexec", "--config", caretaker.config()], ["--execute"], ["--dry-run"]):
        for log_format in ("console", "json"):
            ended = caretaker("translogs", *flags, "--log-format", log_format)
            said += ended.out + ended.err
    for verb in (["doctor"], ["tickets"], ["tickets", "show", "2"]):
        ended = caretaker(*verb)
        said += ended.out + ended.err

    assert "doc.metrics" in said
    assert secret not in said
    kept = [path for path in caretaker.home.rglob("*") if path.is_file()]
    assert len(kept) > 3
    for path in kept:
        assert secret.encode() not in path.read_bytes(), path


def test_what_a_run_told_is_in_its_log_in_the_ui_too(caretaker, lab):
    """The statement to paste, for who looks there first."""
    lab.table("doc.metrics", replicas="0-1", sick_mb=SICK)
    caretaker("translogs", "--autoexec")

    with caretaker.instance() as instance:
        (run,) = instance.get_runs(limit=1)
        messages = [entry.user_message for entry in instance.all_logs(run.run_id)]

    assert any("SETTING_REPLICAS_ZERO -> MONITORING_LEASES" in message for message in messages)
