"""Where CrateDB is and who we are there, as the environment says it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from caretaker.errors import InvalidSettingError

CONNECTION_STRING = "CRATE_CONNECTION_STRING"
USERNAME = "CRATE_USERNAME"
PASSWORD = "CRATE_PASSWORD"  # noqa: S105 - the name of a variable
SSL_VERIFY = "CRATE_SSL_VERIFY"
CA_CERT = "CRATE_CA_CERT"

#: CrateDB's HTTP port, where a URL gives none: neither 80 nor 443 is ever meant.
DEFAULT_PORT = 4200

_URLS = "http(s)://host:4200, several separated by commas, all of one scheme, without path or query"
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True, slots=True)
class CrateDBSettings:
    """How to reach one CrateDB cluster.

    Attributes:
        hosts: Base URLs of its nodes, such as 'https://crate-0:4200', without credentials.
        username: '' sends no credentials, which CrateDB takes for `crate` where it trusts the host.
        ssl_verify: Whether a host must show a certificate that `ca_cert` vouches for.
        ca_cert: PEM file of the authority; '' for the system's.
        statement_timeout_s: From the first byte sent to the last received, however it drips.
    """

    hosts: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    ssl_verify: bool = True
    ca_cert: str = ""
    statement_timeout_s: float = 60.0

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, statement_timeout_s: float = 60.0
    ) -> CrateDBSettings:
        """Read the `CRATE_*` variables; what cannot work raises InvalidSettingError and names it.

        >>> CrateDBSettings.from_environment({"CRATE_CONNECTION_STRING": "http://a,http://b"}).hosts
        ('http://a:4200', 'http://b:4200')
        """
        if not statement_timeout_s > 0:
            raise InvalidSettingError("statement_timeout_s", statement_timeout_s, "seconds above 0")
        text = environ.get(CONNECTION_STRING, "").strip()
        urls = [_parse(entry.strip(), text) for entry in text.split(",") if entry.strip()]
        if not urls:
            raise InvalidSettingError(CONNECTION_STRING, environ.get(CONNECTION_STRING), _URLS)
        if len({url.scheme for url in urls}) > 1:
            raise InvalidSettingError(CONNECTION_STRING, without_secrets(text), _URLS)
        username, password = _credentials(urls, environ)
        return cls(
            hosts=tuple(dict.fromkeys(_base(url) for url in urls)),
            username=username,
            password=password,
            ssl_verify=_ssl_verify(environ.get(SSL_VERIFY, "")),
            ca_cert=_ca_cert(environ.get(CA_CERT, "").strip()),
            statement_timeout_s=statement_timeout_s,
        )

    def tls_context(self) -> ssl.SSLContext:
        """A context that trusts what these settings trust."""
        return _tls_context(self.ca_cert, verify=self.ssl_verify)


@cache
def _tls_context(ca_cert: str, *, verify: bool) -> ssl.SSLContext:
    # Kept: loading a machine's certificates takes 30 ms, and a run makes a client a step.
    context = ssl.create_default_context(cafile=ca_cert or None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def without_secrets(text: str) -> str:
    """Return `text` with everything that may be a password replaced by ***.

    From the first // to the last @, and all of a query: a password may itself hold a comma, a
    slash or an @, and where it ends is exactly what cannot be told in a URL that is broken.

    >>> without_secrets("http://crate:p@ss,w/rd@a:4200")
    'http://***@a:4200'
    """
    head, at, tail = text.rpartition("@")
    if at:
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", head)
        text = f"{scheme[0] if scheme else ''}***@{tail}"
    else:
        # A forgotten host leaves the password where the port should be.
        text = re.sub(r":(?!//|\d+(?:[/,?#]|$)|[^\[]*\])[^,]+", ":***", text)
    shown, question, _ = text.partition("?")
    return f"{shown}?***" if question else text


def _parse(entry: str, whole: str) -> SplitResult:
    """Take one URL apart; what is found is shown as the `whole` variable, masked as a whole."""
    try:
        url = urlsplit(entry)
        port = DEFAULT_PORT if url.port is None else url.port
    except ValueError:
        # "from None": the cause quotes what it could not parse, which may be part of a password.
        raise InvalidSettingError(CONNECTION_STRING, without_secrets(whole), _URLS) from None
    host = url.netloc.rpartition("@")[2]
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    acceptable = (
        url.scheme in {"http", "https"}
        and _HOST_NAME.fullmatch(name) is not None
        and 0 < port <= 65535  # noqa: PLR2004 - what a port is
        and url.path in {"", "/"}
        and not url.query
        and not url.fragment
    )
    if not acceptable:
        raise InvalidSettingError(CONNECTION_STRING, without_secrets(whole), _URLS)
    return url


def _base(url: SplitResult) -> str:
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}" if url.port else f"{url.scheme}://{host}:{DEFAULT_PORT}"


def _credentials(urls: list[SplitResult], environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the one pair of credentials that URLs and variables agree on."""
    username, password = (_on_a_line(key, environ.get(key, "")) for key in (USERNAME, PASSWORD))
    names = {_unquoted(url.username) for url in urls if url.username} | ({username} - {""})
    words = {_unquoted(url.password) for url in urls if url.password} | ({password} - {""})
    if len(names) > 1:
        raise InvalidSettingError(USERNAME, ", ".join(sorted(names)), _one_of("user"))
    if len(words) > 1:
        raise InvalidSettingError(PASSWORD, f"{len(words)} different ones", _one_of("password"))
    if words and not names:
        raise InvalidSettingError(USERNAME, username, f"a user, because {PASSWORD} is set")
    name, word = next(iter(names), ""), next(iter(words), "")
    # RFC 7617: the first colon ends the name, so CrateDB would see another user.
    if ":" in name:
        raise InvalidSettingError(USERNAME, name, "a name without a colon")
    return name, word


def _unquoted(text: str) -> str:
    return _on_a_line(CONNECTION_STRING, unquote(text))


def _on_a_line(key: str, text: str) -> str:
    """Return it without the line break of a pasted file; RFC 7617 knows no control characters."""
    found = text.removesuffix("\n").removesuffix("\r")
    if re.search(r"[\x00-\x1f\x7f]", found):
        raise InvalidSettingError(key, "a control character", "none in a name or a password")
    return found


def _one_of(what: str) -> str:
    return f"the same {what} as in {CONNECTION_STRING}, or none there"


def _ssl_verify(text: str) -> bool:
    word = text.strip().lower()
    if word not in {"", "true", "false"}:
        raise InvalidSettingError(SSL_VERIFY, text, "true or false")
    return word != "false"


def _ca_cert(path: str) -> str:
    if not path:
        return ""
    expanded = str(Path(path).expanduser())
    try:
        ssl.create_default_context(cafile=expanded)
    except OSError as error:  # ssl.SSLError is one
        why = "a PEM file with the certificate of your authority"
        raise InvalidSettingError(CA_CERT, path, f"{why} ({error})") from error
    return expanded
