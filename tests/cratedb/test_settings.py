"""What an operator who has set the CRATE_* variables gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.errors import InvalidSettingError
from resources.cratedb.settings import CrateDBSettings, without_secrets


def settings(text: str | None = None, **variables: str) -> CrateDBSettings:
    environ = {f"CRATE_{name}": value for name, value in variables.items()}
    if text is not None:
        environ["CRATE_CONNECTION_STRING"] = text
    return CrateDBSettings.from_environment(environ)


def test_several_hosts_are_one_cluster():
    made = settings(
        " https://a:4201, https://b/ ,", USERNAME="ops", PASSWORD="pw", SSL_VERIFY="false"
    )

    assert made.hosts == ("https://a:4201", "https://b:4200")
    assert (made.username, made.password, made.ssl_verify) == ("ops", "pw", False)


def test_certificates_are_verified_unless_somebody_says_otherwise():
    assert settings("https://a").ssl_verify is True
    assert settings("https://a", SSL_VERIFY="").ssl_verify is True


@pytest.mark.parametrize(
    "text",
    [
        None, "", "  ", ",", "a:4200", "crate://a:4200", "postgres://a:5432/doc", "http://",
        "http://a:no", "http://a:0", "http://a:70000", "http://a/doc", "http://a?x=1", "http://a#x",
        "http://a b", "http://a,https://b", "http://a,b", "http://[::1", "https//a", "http://a:-1",
    ],
)  # fmt: skip
def test_a_connection_string_that_cannot_work_is_named(text):
    with pytest.raises(InvalidSettingError) as refused:
        settings(text)

    assert "CRATE_CONNECTION_STRING" in str(refused.value)
    assert "expected http(s)://host:4200" in str(refused.value)
    assert refused.value.key == "CRATE_CONNECTION_STRING"


def test_what_was_found_is_shown():
    with pytest.raises(InvalidSettingError, match="found 'crate://a:4200'"):
        settings("crate://a:4200")


PASSWORDS = st.text("abcXYZ019,@/:?#%&+ '\"", min_size=4).filter(
    lambda word: not word.isdigit() and any(c.isalpha() for c in word)
)


@given(
    PASSWORDS, st.sampled_from(["crate://u:{}@a", "http://u:{}@a,b", "http://u:{}@a/x", "u:{}@a"])
)
def test_a_password_is_never_shown(word, url):
    secret = f"S3cret{word}S3cret"
    with pytest.raises(InvalidSettingError) as refused:
        settings(url.format(secret))

    assert "S3cret" not in str(refused.value)
    assert "S3cret" not in without_secrets(url.format(secret))


def test_a_password_without_its_host_is_not_shown_either():
    with pytest.raises(InvalidSettingError) as refused:
        settings("http://crate:sesame")

    assert "sesame" not in str(refused.value)


def test_the_cause_of_a_refusal_does_not_quote_the_password():
    with pytest.raises(InvalidSettingError) as refused:
        settings("http://crate:ses,ame@a:4200")

    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_settings_do_not_show_their_password():
    assert "sesame" not in repr(settings("http://a", USERNAME="ops", PASSWORD="sesame"))


def test_credentials_in_the_url_are_taken():
    made = settings("http://ops:p%40ss@a:4200,http://b:4200")

    assert made.hosts == ("http://a:4200", "http://b:4200")
    assert (made.username, made.password) == ("ops", "p@ss")


def test_credentials_that_agree_are_fine():
    made = settings("http://ops:pw@a", USERNAME="ops", PASSWORD="pw")

    assert (made.username, made.password) == ("ops", "pw")


def test_a_password_with_the_line_break_of_a_pasted_file_is_the_password():
    made = settings("http://a", USERNAME="ops\n", PASSWORD="p w\r\n")

    assert (made.username, made.password) == ("ops", "p w")


@pytest.mark.parametrize(
    ("text", "variables", "named"),
    [
        ("http://a", {"USERNAME": "ops", "PASSWORD": "pw\none"}, "CRATE_PASSWORD"),
        ("http://ops:pw%00one@a", {}, "CRATE_CONNECTION_STRING"),
        ("http://ops:pw@a", {"USERNAME": "crate"}, "CRATE_USERNAME"),
        ("http://ops:pw@a", {"USERNAME": "ops", "PASSWORD": "other"}, "CRATE_PASSWORD"),
        ("http://ops:one@a,http://ops:two@b", {}, "CRATE_PASSWORD"),
        ("http://ops:one@a,http://dba:one@b", {}, "CRATE_USERNAME"),
        ("http://a", {"PASSWORD": "other"}, "CRATE_USERNAME"),
        ("http://a", {"USERNAME": "a:b"}, "CRATE_USERNAME"),
        ("http://a", {"SSL_VERIFY": "maybe"}, "CRATE_SSL_VERIFY"),
        ("http://a", {"CA_CERT": "/no/such.pem"}, "CRATE_CA_CERT"),
        ("http://a", {"CA_CERT": __file__}, "CRATE_CA_CERT"),
    ],
)
def test_a_variable_that_cannot_work_is_named(text, variables, named):
    with pytest.raises(InvalidSettingError) as refused:
        settings(text, **variables)

    assert refused.value.key == named
    for secret in ("other", "one", "two", "pw"):
        assert f"'{secret}'" not in str(refused.value)
