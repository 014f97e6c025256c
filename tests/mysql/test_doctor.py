"""`caretaker doctor mysql`: what works, and what a sync would refuse; it changes nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from console.doctor import doctor


def examine(monkeypatch, url):
    monkeypatch.setenv("MYSQL_URL", url)
    result = CliRunner().invoke(doctor, ["mysql", "--output", "json"])
    return result.exit_code, {each["check"]: each for each in json.loads(result.output)["checks"]}


def test_a_source_that_is_not_configured_is_off(monkeypatch):
    """No failure."""
    code, checks = examine(monkeypatch, "")
    assert (code, checks["connection"]["status"]) == (0, "off")


@pytest.mark.live("mysql")
def test_a_source_in_order_may_be_followed(monkeypatch, server):
    """With what it is and how far."""
    code, checks = examine(monkeypatch, server.url)
    assert code == 0
    assert checks["preflight"]["status"] == "ok"
    assert "by gtid" in checks["binlog"]["detail"]


@pytest.mark.live("mysql")
def test_a_setting_that_loses_changes_fails_with_its_remedy(monkeypatch, start_server):
    """Exit 1, for a script."""
    server = start_server(binlog_row_image="MINIMAL")
    code, checks = examine(monkeypatch, server.url)
    assert code == 1
    assert "preflight" not in checks
    assert "binlog_row_image = 'FULL'" in checks["binlog_row_image"]["detail"]


def test_a_source_that_cannot_be_reached_fails_without_its_password(monkeypatch):
    """By the variable's name."""
    code, checks = examine(monkeypatch, "mysql://me:s3cret@127.0.0.1:1/")
    assert code == 1
    assert "127.0.0.1:1" in checks["reach"]["detail"]
    assert "s3cret" not in str(checks)
