"""The lock files answer for pyproject.toml, and name no place."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PIN = re.compile(
    r"^([a-z0-9][a-z0-9._-]*)==(\S+)(?: ; (.*?))?((?: \\\n    --hash=sha256:\w{64})*)$",
    re.MULTILINE,
)


def pins(lock) -> dict[str, list[re.Match[str]]]:
    """Return the pins of each distribution; several where they depend on the platform."""
    found: dict[str, list[re.Match[str]]] = {}
    for pin in PIN.finditer(lock.read_text()):
        found.setdefault(pin[1], []).append(pin)
    return found


@pytest.fixture
def project(checkout):
    return tomllib.loads((checkout / "pyproject.toml").read_text())


@pytest.mark.parametrize(
    ("lock", "extras"), [("requirements.lock", ["lab"]), ("requirements-dev.lock", ["lab", "dev"])]
)
def test_a_lock_satisfies_pyproject(checkout, project, lock, extras):
    """After a change of dependencies `make lock` was run."""
    locked = pins(checkout / lock)
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["bootstrap"]
    for extra in extras:
        wanted = wanted + project["project"]["optional-dependencies"][extra]

    for requirement in map(Requirement, wanted):
        matches = locked.get(canonicalize_name(requirement.name), [])
        assert matches, f"{requirement.name} is not in {lock}"
        for pin in matches:
            assert requirement.specifier.contains(pin[2]), f"{pin[0]} is not {requirement}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_has_a_hash(checkout, lock):
    """What is not hashed is refused at install."""
    for versions in pins(checkout / lock).values():
        assert all(pin[4] for pin in versions)
    unread = re.sub(r"^ +#.*\n", "", PIN.sub("", (checkout / lock).read_text()), flags=re.MULTILINE)
    assert unread.strip() == ""


def test_a_venv_for_tests_serves_the_demo(checkout):
    """bootstrap.sh relies on it: the larger lock holds the same versions as the smaller one."""
    small = pins(checkout / "requirements.lock")
    large = pins(checkout / "requirements-dev.lock")
    for name, versions in small.items():
        assert [pin[2] for pin in versions] == [pin[2] for pin in large[name]]
