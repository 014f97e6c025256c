"""`MYSQL_URL`: what it may say, and that what is wrong with it is said without the password."""

from __future__ import annotations

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from caretaker.binlog.model import Mode
from caretaker.errors import InvalidSettingError, RefusedError
from resources.mysql.resource import MySQLResource
from resources.mysql.settings import MySQLSettings, without_password
from resources.mysql.source import open_source
from tests.mysql.reading import read

SECRET = "s3cr3t"


def test_everything_that_a_url_says_is_taken():
    """Escapes, port, options."""
    settings = MySQLSettings.from_url(
        "mysql://a%40b:p%2F%3A@db.example:3307/?server_id=7&mode=file&timeout_s=2.5&ssl=true"
    )
    assert (settings.user, settings.password) == ("a@b", "p/:")
    assert (settings.host, settings.port) == ("db.example", 3307)
    assert (settings.server_id, settings.mode, settings.timeout_s) == (7, Mode.FILE, 2.5)
    assert settings.tls is True
    assert "p/:" not in repr(settings)


@pytest.mark.parametrize("password", ["123456", "65000", "1/2", "1?2", "1#2", "pw?x=1:2"])
def test_a_password_without_a_host_behind_it_is_not_shown(password):
    """It stands where a port would, and may look like one."""
    with pytest.raises(InvalidSettingError) as refused:
        MySQLSettings.from_url(f"mysql://root:{password}")
    assert "found 'mysql://root:***'" in str(refused.value)
    assert password not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{SECRET}@/",
        f"mysql://me:{SECRET}",
        f"postgres://me:{SECRET}@db/",
        f"mysql://me:{SECRET}@db:notaport/",
        f"mysql://me:{SECRET}@db:99999/",
        f"mysql://me:{SECRET}/x@db/",
        f"mysql://me:{SECRET}@db/database",
        f"mysql://me:{SECRET}@db/?no_such_option=1",
        f"mysql://me:{SECRET}@db/?server_id=0",
        f"mysql://me:{SECRET}@db/?server_id=4294967296",
        f"mysql://me:{SECRET}@db/?mode=other",
        f"mysql://me:{SECRET}@db/?ssl_ca=/no/such/file",
        f"mysql://me:{SECRET}@db/?ssl_verify=perhaps",
        f"mysql://me:{SECRET}@db/?ssl=false&ssl_verify=true",
        f"mysql://me:{SECRET}@db/?timeout_s=0",
        f"mysql://me:{SECRET}@db/?timeout_s=nan",
        f"mysql://me:{SECRET}@db/?mode=gtid&mode=file",
        f"mysql://[::1:{SECRET}@db/",
        f"me:{SECRET}@db",
        "mysql://db:3306/",
        "",
    ],
)
def test_what_cannot_work_is_refused_by_the_variables_name_and_without_password(url):
    """Whatever is wrong."""
    with pytest.raises(InvalidSettingError, match="MYSQL_URL") as error:
        open_source(url)
    told = f"{error.value!r} {error.value} {error.value.hint} {error.value.__cause__}"
    assert SECRET not in told


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20))
def test_no_password_is_shown_whatever_is_in_it(password):
    """Also an unescaped one, that breaks the URL."""
    marked = f"{password}Zq{password}"
    shown = without_password(f"mysql://me:{marked}@db:3306/")
    assert "Zq" not in shown
    with pytest.raises(InvalidSettingError) as error:
        MySQLSettings.from_url(f"mysql://me:{marked}@db:3306/?mode=no")
    assert "Zq" not in str(error.value)


def test_the_resource_opens_the_source_of_its_variable(monkeypatch):
    """By name: no value is in Dagster's storage."""
    monkeypatch.setenv("MYSQL_URL", "mysql://me:pw@db/")
    resource = MySQLResource.from_variables()
    assert "pw" not in repr(resource)
    assert MySQLResource(url="mysql://me:pw@db:1/").open("x").settings.port == 1
    with pytest.raises(InvalidSettingError, match="MYSQL_URL"):
        MySQLResource().open()


# --- TLS, on servers with a certificate of our own ------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, certificates for 127.0.0.1 and for another host, a stranger's authority."""
    folder = tmp_path_factory.mktemp("certificates")
    ca_key, ca = _signed("authority", None, None)
    stranger_key, stranger = _signed("stranger", None, None)
    for name, host in (("here", "127.0.0.1"), ("elsewhere", "db.example")):
        key, certificate = _signed(host, ca, ca_key)
        _write(folder / f"{name}.key", key)
        _write(folder / f"{name}.pem", certificate)
    _write(folder / "ca.pem", ca)
    _write(folder / "stranger.pem", stranger)
    assert stranger_key is not ca_key
    return folder


def _signed(name, issuer, issuer_key):
    import ipaddress  # noqa: PLC0415

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    other: x509.GeneralName
    try:
        other = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        other = x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .sign(issuer_key or key, hashes.SHA256())
    )
    return key, certificate


def _write(path, what):
    pem = serialization.Encoding.PEM
    if isinstance(what, x509.Certificate):
        path.write_bytes(what.public_bytes(pem))
    else:
        plain = serialization.PrivateFormat.TraditionalOpenSSL
        path.write_bytes(what.private_bytes(pem, plain, serialization.NoEncryption()))
    path.chmod(0o644)
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o755)


@pytest.fixture
def with_certificate(start_server, certificates):
    """Start a server that shows a certificate, and wants TLS."""

    def starts(name, **options):
        return start_server(
            ssl_ca=str(certificates / "ca.pem"),
            ssl_cert=str(certificates / f"{name}.pem"),
            ssl_key=str(certificates / f"{name}.key"),
            **options,
        )

    return starts


def cipher(source):
    """What the connection is encrypted with."""
    with source._asking() as session:
        return session.rows("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]


@pytest.mark.live("mysql")
def test_a_dump_goes_over_tls_to_a_server_that_proves_who_it_is(
    with_certificate, certificates, open_at
):
    """ssl_ca alone verifies authority and host; the dump's connection is encrypted as well."""
    server = with_certificate("here")
    server.run("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT)")
    source = open_at(f"{server.url}?ssl_ca={certificates / 'ca.pem'}")
    start = source.now()
    server.run("INSERT INTO d.t VALUES (1, REPEAT('secret', 100000)), (2, 'two')")
    assert cipher(source)
    assert isinstance(source._session.connection._sock, ssl.SSLSocket)
    assert read(source, start).values()[1] == "two"


@pytest.mark.live("mysql")
def test_a_server_that_proves_nothing_is_refused(with_certificate, certificates, open_at):
    """Another host's certificate, another authority's; each says which option accepts it."""
    server = with_certificate("elsewhere")
    ca, stranger = certificates / "ca.pem", certificates / "stranger.pem"
    with pytest.raises(RefusedError, match="certificate") as error:
        open_at(f"{server.url}?ssl_ca={ca}").facts()
    assert "ssl_verify=ca" in error.value.hint
    with pytest.raises(RefusedError, match="certificate"):
        open_at(f"{server.url}?ssl_ca={stranger}&ssl_verify=ca").facts()
    with pytest.raises(RefusedError, match="certificate"):
        open_at(f"{server.url}?ssl_verify=true").facts()
    assert cipher(open_at(f"{server.url}?ssl_ca={ca}&ssl_verify=ca"))
    assert cipher(open_at(f"{server.url}?ssl_verify=false"))
    # Left open, TLS is taken where it is offered, whatever it proves.
    assert cipher(open_at(server.url))


@pytest.mark.live("mysql")
def test_tls_that_is_demanded_is_never_given_up(start_server, open_at, system):
    """A server without it, or somebody between who strips it, gets no password."""
    server = start_server(**({"tls_version": ""} if system == "mysql" else {"ssl": False}))
    with pytest.raises(RefusedError) as error:
        open_at(f"{server.url}?ssl_verify=false").facts()
    assert "SSL" in str(error.value)
    assert open_at(server.url).facts()


@pytest.mark.live("mysql")
def test_a_client_certificate_is_shown_where_the_user_needs_one(
    with_certificate, certificates, open_at
):
    """REQUIRE X509."""
    server = with_certificate("here")
    server.run("CREATE USER x@'127.0.0.1' IDENTIFIED BY 'x' REQUIRE X509")
    server.run("GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO x@'127.0.0.1'")
    url = server.url.replace("root:caretaker", "x:x")
    ca = f"ssl_ca={certificates / 'ca.pem'}"
    pair = f"ssl_cert={certificates / 'here.pem'}&ssl_key={certificates / 'here.key'}"
    with pytest.raises(RefusedError, match="refuses"):
        open_at(f"{url}?{ca}").facts()
    assert open_at(f"{url}?{ca}&{pair}").facts()


@pytest.mark.live("mysql")
def test_caching_sha2_works_without_tls(start_mysql, open_at):
    """The password is encrypted with the server's key, the first time it is seen."""
    source = open_at(f"{start_mysql().url}?ssl=false")
    assert cipher(source) == ""
    assert source.check() == []
