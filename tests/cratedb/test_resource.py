"""What an op gets that asks Dagster for CrateDB."""

from __future__ import annotations

import dagster as dg
import pytest

from caretaker.errors import InvalidSettingError
from resources.cratedb.resource import CrateDBResource
from resources.sql.cratedb import Statement
from tests.cratedb.faulty_server import rows


@dg.op
def ask(cratedb: CrateDBResource) -> int:
    with cratedb.client() as client:
        return int(client.read(Statement("SELECT 7"))[0][0])


@dg.job
def asking() -> None:
    ask()


def test_the_variables_reach_the_client(serve, monkeypatch, capfd):
    server = serve(rows([7]))
    monkeypatch.setenv("CRATE_CONNECTION_STRING", server.url)
    monkeypatch.setenv("CRATE_USERNAME", "ops")
    monkeypatch.setenv("CRATE_PASSWORD", "sesame")
    monkeypatch.delenv("CRATE_CA_CERT", raising=False)
    monkeypatch.delenv("CRATE_SSL_VERIFY", raising=False)
    resource = CrateDBResource.from_variables()

    result = asking.execute_in_process(resources={"cratedb": resource})

    assert result.output_for_node("ask") == 7
    assert "authorization" in server.requests[0].headers
    assert "sesame" not in repr(resource) + "".join(capfd.readouterr())


def test_a_missing_variable_is_named():
    with pytest.raises(InvalidSettingError, match="CRATE_CONNECTION_STRING"):
        CrateDBResource().settings  # noqa: B018


def test_the_statement_timeout_is_the_clients():
    resource = CrateDBResource(hosts="http://a", statement_timeout_s=7)

    assert resource.settings.statement_timeout_s == 7
