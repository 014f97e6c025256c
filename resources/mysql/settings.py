"""Where the source is and who we are there, as `MYSQL_URL` says it."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from caretaker.binlog.model import Mode
from caretaker.errors import InvalidSettingError

MYSQL_URL = "MYSQL_URL"
DEFAULT_PORT = 3306

_EXPECTED = (
    "mysql://user:password@host:3306/ with ssl_ca, ssl_cert, ssl_key, ssl_verify, server_id or"
    " mode behind a ?"
)
_OPTIONS = frozenset(
    ("ssl", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify", "server_id", "mode", "timeout_s")
)
_SCHEMES = frozenset(("mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"))
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")
_WITHOUT_USER = re.compile(rf"[^:]*:{DEFAULT_PORT}([/?#][^:]*)?")
_WORDS = {"true": True, "1": True, "false": False, "0": False}
_MOST_ID = 2**32 - 1
_MOST_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class MySQLSettings:
    """How to reach one source.

    Attributes:
        tls: None for what `ssl_*` left open: TLS where the server offers it, unverified, as the
            servers' own clients do. False for none. True where it must be.
        verify: What a certificate has to prove: `none`, `ca` (who signed it), `identity` (and that
            it is for this host).
        server_id: Of the dump; None for one made of the follower's name.
        mode: None for what the source's settings say.
        timeout_s: For a connection, and for each answer to a statement.
    """

    host: str
    port: int = DEFAULT_PORT
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool | None = None
    verify: str = "none"
    ca: str = ""
    cert: str = ""
    key: str = ""
    server_id: int | None = None
    mode: Mode | None = None
    timeout_s: float = 30.0

    @classmethod
    def from_url(cls, text: str) -> MySQLSettings:
        """Read `MYSQL_URL`; what cannot work raises InvalidSettingError, without the password.

        >>> MySQLSettings.from_url("mysql://me:secret@db/?ssl_verify=true").verify
        'identity'
        """
        text = text.strip()
        url = _parsed(text)
        options = _options(url, text)
        tls, verify = _tls(options, text)
        settings = cls(
            host=url.hostname or "",
            port=url.port or DEFAULT_PORT,
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            tls=tls,
            verify=verify,
            ca=_file(options, "ssl_ca"),
            cert=_file(options, "ssl_cert"),
            key=_file(options, "ssl_key"),
            server_id=_server_id(options.get("server_id")),
            mode=_mode(options.get("mode")),
            timeout_s=_timeout(options.get("timeout_s", "30")),
        )
        if settings.key and not settings.cert:
            raise InvalidSettingError(
                f"{MYSQL_URL} ssl_cert", "nothing", "the certificate of ssl_key"
            )
        settings.tls_context()
        return settings

    @property
    def shown(self) -> str:
        """The source as messages name it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what a connection must be wrapped in; None where TLS is not demanded."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            # Certificates that servers make themselves lack extensions that RFC 5280 wants.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            context.check_hostname = self.verify == "identity"
            context.verify_mode = ssl.CERT_NONE if self.verify == "none" else ssl.CERT_REQUIRED
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            found = ", ".join(filter(None, (self.ca, self.cert, self.key)))
            raise InvalidSettingError(
                f"{MYSQL_URL} ssl_ca, ssl_cert, ssl_key", found, f"PEM files that work ({error})"
            ) from error
        return context


def _no_password() -> str:
    # Asked for, OpenSSL would read it from the terminal, and a daemon would wait for ever.
    raise ValueError("the key is encrypted")


def without_password(text: str) -> str:
    """Return a URL with everything that may be a password replaced by ***.

    >>> without_password("mysql://me:p@ss/word@db:3306/?ssl_ca=x")
    'mysql://me:***@db:3306/?ssl_ca=x'
    >>> without_password("mysql://root:123456")
    'mysql://root:***'
    """
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        scheme, rest = "", text
    head, at, tail = rest.rpartition("@")
    if at:
        rest = f"{head.partition(':')[0]}:***@{tail}"
    elif not _WITHOUT_USER.fullmatch(rest):
        # A forgotten host leaves the password where the port should be, and digits may be either.
        host, colon, _ = rest.partition(":")
        rest = f"{host}{colon}***" if colon else rest
    return f"{scheme}{slashes}{rest}"


def _parsed(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        port = DEFAULT_PORT if url.port is None else url.port
    except ValueError:
        # "from None": the cause quotes what it could not parse, which may be part of a password.
        raise InvalidSettingError(MYSQL_URL, without_password(text), _EXPECTED) from None
    acceptable = (
        url.scheme in _SCHEMES
        and _HOST.fullmatch(url.hostname or "") is not None
        and port > 0
        and url.path.strip("/") == ""
        and not url.fragment
        and bool(url.username)
    )
    if not acceptable:
        raise InvalidSettingError(MYSQL_URL, without_password(text), _EXPECTED)
    return url


def _options(url: SplitResult, text: str) -> dict[str, str]:
    pairs = parse_qsl(url.query, keep_blank_values=True)
    options = dict(pairs)
    for name in options:
        if name not in _OPTIONS:
            allowed = f"one of {', '.join(sorted(_OPTIONS))}"
            raise InvalidSettingError(MYSQL_URL, f"option {name}", allowed)
    if len(options) != len(pairs):
        raise InvalidSettingError(MYSQL_URL, without_password(text), "each option once")
    return options


def _tls(options: dict[str, str], _text: str) -> tuple[bool | None, str]:
    wanted = _flag("ssl", options["ssl"]) if "ssl" in options else None
    told = options.get("ssl_verify")
    if told is not None and told.lower() == "ca":
        verify = "ca"
    elif told is not None:
        verify = "identity" if _flag("ssl_verify", told) else "none"
    else:
        verify = "identity" if options.get("ssl_ca") else "none"
    used = verify != "none" or any(
        options.get(name) for name in ("ssl_ca", "ssl_cert", "ssl_key", "ssl_verify")
    )
    if wanted is False and used:
        raise InvalidSettingError(
            f"{MYSQL_URL} ssl", "false", "true, or no ssl_* beside it: they need TLS"
        )
    return (True if used else wanted), verify


def _flag(name: str, text: str) -> bool:
    value = _WORDS.get(text.strip().lower())
    if value is None:
        also = ", or ca for a certificate of another host" if name == "ssl_verify" else ""
        raise InvalidSettingError(f"{MYSQL_URL} {name}", text, f"true or false{also}")
    return value


def _file(options: dict[str, str], name: str) -> str:
    told = options.get(name, "")
    if not told:
        return ""
    path = Path(told).expanduser()
    if not path.is_file():
        raise InvalidSettingError(f"{MYSQL_URL} {name}", told, "a PEM file that is there")
    return str(path)


def _server_id(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MOST_ID:
        raise InvalidSettingError(f"{MYSQL_URL} server_id", text, f"a number from 1 to {_MOST_ID}")
    return int(text)


def _mode(text: str | None) -> Mode | None:
    if text is None or text == "auto":
        return None
    try:
        return Mode(text)
    except ValueError:
        raise InvalidSettingError(f"{MYSQL_URL} mode", text, "auto, gtid or file") from None


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MOST_TIMEOUT_S:
        raise InvalidSettingError(f"{MYSQL_URL} timeout_s", text, "seconds from 0.001 to 3600")
    return seconds
