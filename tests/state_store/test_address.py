"""Where the store is, and what a person reads when that cannot be."""

from __future__ import annotations

import pytest

from caretaker.errors import InvalidSettingError
from resources.state_store import state_url


def test_without_a_setting_it_is_a_file_in_dagster_home(tmp_path):
    url = state_url({"DAGSTER_HOME": str(tmp_path)})
    assert url.render_as_string() == f"sqlite:///{tmp_path}/caretaker.db"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_postgres_means_psycopg_3(scheme):
    url = state_url({"CARETAKER_STATE_URL": f"{scheme}://me:secret@db/state"})
    assert url.drivername == "postgresql+psycopg"
    assert url.password == "secret"


@pytest.mark.parametrize("home", [None, "", "relative/home", "/does/not/exist", "/etc/passwd"])
def test_an_unusable_dagster_home_is_named_with_what_to_set(home):
    with pytest.raises(InvalidSettingError) as refused:
        state_url({} if home is None else {"DAGSTER_HOME": home})
    assert refused.value.key == "DAGSTER_HOME"
    assert "absolute path" in str(refused.value)
    assert "CARETAKER_STATE_URL" in str(refused.value)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"DAGSTER_HOME": "/tmp"},  # noqa: S108
        {"CARETAKER_STATE_URL": "sqlite:////var/lib/caretaker.db"},
    ],
)
def test_a_file_that_would_die_with_its_pod_is_refused(environ):
    with pytest.raises(InvalidSettingError, match=r"CARETAKER_STATE_URL.*postgresql://"):
        state_url({**environ, "KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_postgres_is_welcome_in_a_pod():
    environ = {"CARETAKER_STATE_URL": "postgresql://db/state"}
    assert state_url(environ, in_kubernetes=True).host == "db"


@pytest.mark.parametrize(
    "text",
    [
        "s3cret",
        "//me:s3cret@db/state",
        "postgresql://me:s3cret@db:port/state",
        "postgresql://me:p@s3cret@db/state",
        "mysql://me:s3cret@db/state",
        "postgresql+asyncpg://me:s3cret@db/state",
        "sqlite:///relative.db",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_cannot_work_is_refused_and_no_password_shown(text):
    with pytest.raises(InvalidSettingError) as refused:
        state_url({"CARETAKER_STATE_URL": text})
    assert refused.value.key == "CARETAKER_STATE_URL"
    assert "s3cret" not in str(refused.value)
    assert (
        "postgresql://" in str(refused.value)
        or "%40" in str(refused.value)
        or ("sqlite:////" in str(refused.value))
    )
