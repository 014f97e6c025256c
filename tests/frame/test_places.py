"""What is committed names no package registry and no path of one machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# Registries by their shape: to list their names here would break the rule. Groups and escapes keep
# the patterns from finding themselves.
SHAPES = [
    r"--(?:extra-)?inde[x]-url",
    r"find-link[s]",
    r"truste[d]-host",
    r"GOPROX[Y]=\S",
    r"https?://\S*/(?:simpl[e])\b",
    (
        r"\b(?:py[p]i|pythonhoste[d]|r[e]gistry|prox[y]|repo1?|deb|mirrors?|crate[s])\."
        r"(?!example)(?:[\w-]+\.)?(?:org|io|com|dev|net)\b"
    ),
]
PATHS = [r"(?<![\w.$}/-])/(?:work|root|Users/\w+|home/(?!caretaker\b)\w+)/"]


@pytest.fixture(scope="module")
def texts(checkout) -> dict[Path, str]:
    """Return every file that is, or could be, committed."""
    if shutil.which("git") is None:
        pytest.skip("git says which files are committed, and there is no git")
    # Another user's checkout is refused without safe.directory.
    names = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    if names.returncode:
        pytest.skip("git says which files are committed, and this is no clone")
    found = {}
    for name in filter(None, names.stdout.split("\0")):
        path = checkout / name
        if path.is_file():
            found[path] = path.read_text(errors="ignore")
    return found


def places(texts: dict[Path, str], patterns: list[str]) -> list[str]:
    """Return `file:line: match` for each match."""
    return [
        f"{path.name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in texts.items()
        for pattern in patterns
        for match in re.finditer(pattern, text)
    ]


def test_no_registry_is_named(texts):
    """Where packages come from is for each machine's own settings."""
    assert places(texts, SHAPES) == []


def test_no_registry_of_this_machine_is_named(texts):
    """The same, asked of the settings of the machine at hand."""
    settings = "".join(
        path.read_text(errors="ignore")
        for path in [
            Path("/etc/pip.conf"),
            Path.home() / ".config/pip/pip.conf",
            Path.home() / ".npmrc",
            *Path("/etc/apt").glob("sources.list*"),
            *Path("/etc/apt/sources.list.d").glob("*"),
        ]
        if path.is_file()
    )
    hosts = set(re.findall(r"[a-z]://(?:[^/@\s]*@)?([\w-]+(?:\.[\w-]+)+)", settings))
    assert places(texts, [re.escape(host) for host in hosts]) == []


def test_no_path_of_a_machine_is_named(checkout, texts):
    """A path under a home is right for one person."""
    assert places(texts, [*PATHS, re.escape(f"{checkout}/")]) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index" + "-url x",
        "https://packages.example.net/" + "simple/",
        "py" + "pi.org",
        "prox" + "y.somewhere.org",
        "cd /" + "root/x",
        "/home/" + "somebody/caretaker",
    ],
)
def test_the_patterns_find_what_they_are_for(line):
    """A pattern that matches nothing passes every day."""
    assert places({Path(__file__): line}, [*SHAPES, *PATHS])
