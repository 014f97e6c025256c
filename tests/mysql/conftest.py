"""Real servers as sources: both kinds, shared or of one's own."""

from __future__ import annotations

import pytest

from resources.mysql.source import open_source


@pytest.fixture(params=["mysql", "mariadb"])
def system(request):
    """Each of the two."""
    return request.param


@pytest.fixture
def server(request, system):
    """A server that the session shares."""
    return request.getfixturevalue(f"{system}_server")


@pytest.fixture
def start_server(request, system):
    """Start a server of one's own, that may be killed."""
    return request.getfixturevalue(f"start_{system}")


@pytest.fixture
def name():
    """A name for a database that no other test has."""
    import uuid  # noqa: PLC0415

    return f"m_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def database(server, name):
    """A database of its own."""
    server.run(f"CREATE DATABASE {name}")
    yield name
    server.run(f"DROP DATABASE {name}")


@pytest.fixture
def open_at():
    """Open sources that are closed at the end."""
    opened = []

    def opens(url, who="test"):
        opened.append(open_source(url, who))
        return opened[-1]

    yield opens
    for each in opened:
        each.close()


@pytest.fixture
def source(server, open_at):
    """The shared server as a source, by a user who may do everything."""
    return open_at(server.url)
