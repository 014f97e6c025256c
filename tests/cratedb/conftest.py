"""Servers, clients and certificates for the tests of the CrateDB client."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from resources.cratedb.client import CrateDBClient
from resources.cratedb.settings import CrateDBSettings
from tests.cratedb.faulty_server import FaultyServer


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultyServer]]:
    """Start servers: `serve(rows([1]))`, `serve(lambda request: ..., choose=True)`."""
    servers: list[FaultyServer] = []

    def start(
        reply: Any, *, choose: bool = False, tls: ssl.SSLContext | None = None
    ) -> FaultyServer:
        server = FaultyServer(reply if choose else lambda _: reply, tls)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def client_of() -> Iterator[Callable[..., CrateDBClient]]:
    """Make clients: `client_of(url, url, statement_timeout_s=1)`."""
    clients: list[CrateDBClient] = []

    def make(*urls: str, timeout_s: float = 5.0, **settings: Any) -> CrateDBClient:
        made = CrateDBSettings(hosts=urls, statement_timeout_s=timeout_s, **settings)
        clients.append(CrateDBClient(made))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def closed_url() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and a server it vouches for."""

    ca_cert: str
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Made for this run: a key in the repository would set off every scanner there is."""
    return make_authority(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The same for a server of another name."""
    return make_authority(tmp_path_factory.mktemp("tls"), "10.0.0.1")


def make_authority(folder: Path, address: str) -> Authority:
    """Write a self-signed certificate for `address`, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "caretaker tests")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    public = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem.write_bytes(secret + public)
    (folder / "ca.pem").write_bytes(public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return Authority(str(folder / "ca.pem"), context)
