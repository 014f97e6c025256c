"""Programs from Debian packages that are not installed: no root, no chroot, the host untouched.

apt is given a state of its own in which nothing is installed, so that it finds everything a package
needs down to the C library, and only downloads. The programs are then run by the dynamic loader
that came with them, whatever the host's C library is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.servers.cache import once
from lab.servers.errors import ServerUnavailableError

_KEYRINGS = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")
_UPDATE_WITHIN_S = 180
_DOWNLOAD_WITHIN_S = 600
_UNPACK_WITHIN_S = 120

# What maintainer scripts and other programs of these packages need, and no server does.
_NOT_NEEDED = re.compile(
    r"""perl | perl-base | perl-modules-.* | libperl5.* | lib(json|text-.*)-perl | libdb5\.3.*
      | debconf | libdebconfclient0 | ucf | adduser | passwd | base-passwd | login\.defs
      | systemd | libsystemd-shared | sysvinit-utils | init-system-helpers | procps | netbase
      | dpkg | tar | coreutils | sensible-utils | libc-l10n | locales | libc-gconv-modules-extra
      | gnupg.* | gpg.* | dirmngr | pinentry-.* | ssl-cert | openssl | readline-common
      | fonts-.* | postgresql-common | postgresql-client-common | gcc-.*-base""",
    re.VERBOSE,
)
_NO_USE = ("doc", "man", "locale", "lintian", "info", "bug", "fonts")

_CONFIGURATION = """\
Dir::State "{state}/state";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Etc::sourcelist "{state}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
#clear DPkg::Post-Invoke;
"""


@dataclass(frozen=True)
class Root:
    """A tree of unpacked packages: `/usr/sbin/mysqld` is `root.path / "usr/sbin/mysqld"`."""

    path: Path

    def run(self, program: str) -> list[str]:
        """Return the beginning of a command line that runs `program`, such as "usr/sbin/mysqld"."""
        return [*self._loader(), str(self.path / program)]

    def wrap(self, program: str) -> None:
        """Put a script in a program's place, for those that start it without asking us.

        It finds everything from its own path, so that the tree may be moved.
        """
        path = self.path / program
        path.rename(f"{path}.real")
        loader = " ".join(self._loader()).replace(str(self.path), "$root")
        path.write_text(
            f'#!/bin/sh\nroot=${{0%/{program}}}\nexec {loader} --argv0 "$0" "$0.real" "$@"\n',
            encoding="utf-8",
        )
        path.chmod(0o755)

    def _loader(self) -> list[str]:
        found = sorted(self.path.glob("**/ld-linux*.so.*"))
        if not found:
            raise ServerUnavailableError(f"no dynamic loader in {self.path}")
        return [str(found[0]), "--library-path", ":".join(map(str, self._libraries()))]

    def _libraries(self) -> list[Path]:
        triplets = [*self.path.glob("lib/*-linux-gnu*"), *self.path.glob("usr/lib/*-linux-gnu*")]
        # BLAS and LAPACK lie one deeper, where update-alternatives would have linked them from.
        deeper = [
            folder / name
            for folder in triplets
            for name in ("blas", "lapack")
            if (folder / name).is_dir()
        ]
        # Extensions of PostgreSQL need each other.
        private = ("usr/lib/mysql/private", "usr/lib/postgresql/*/lib")
        return [*triplets, *deeper, *(each for one in private for each in self.path.glob(one))]


def unpacked(
    name: str,
    packages: Sequence[str],
    suites: Iterable[str],
    finish: Callable[[Root], None] = lambda _: None,
) -> Root:
    """Return the packages' tree, fetched from the first suite that can give them.

    `finish` does what a package's maintainer scripts would have done, as far as we need it.

    Raises:
        ServerUnavailableError: Not a Debian, no apt, no network, no such packages.

    """

    def make(folder: Path) -> None:
        complaints = []
        for suite in suites:
            try:
                _fetch(folder, packages, suite)
            except ServerUnavailableError as error:
                complaints.append(f"{suite}: {error}")
                shutil.rmtree(folder)
                folder.mkdir()
            else:
                finish(Root(folder))
                return
        raise ServerUnavailableError(f"no {packages[0]} from Debian's {'; '.join(complaints)}")

    return Root(once(name, make))


def _fetch(folder: Path, packages: Sequence[str], suite: str) -> None:
    """Download the packages of one suite with all they need, and unpack them into `folder`."""
    state = folder / ".apt"
    for part in ("state/lists/partial", "cache/archives/partial", "packages"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(_source(suite), encoding="utf-8")
    configuration = state / "apt.conf"
    configuration.write_text(_CONFIGURATION.format(state=state), encoding="utf-8")
    # APT_CONFIG is read before the machine's own configuration, -c after it.
    apt = ["apt-get", "-c", str(configuration), "-qq"]

    _run([*apt, "update"], _UPDATE_WITHIN_S, "the package lists")
    plan = _run([*apt, "--simulate", "install", *packages], _UPDATE_WITHIN_S, "a plan")
    # Inst NAME (VERSION ORIGIN [ARCH])
    wanted = [
        f"{words[1]}={words[2].lstrip('(')}"
        for words in map(str.split, plan.splitlines())
        if words[:1] == ["Inst"] and not _NOT_NEEDED.fullmatch(words[1].partition(":")[0])
    ]
    into = state / "packages"
    _run([*apt, "download", *wanted], _DOWNLOAD_WITHIN_S, "the packages", cwd=into)
    for package in into.iterdir():
        _run(["dpkg-deb", "--extract", str(package), str(folder)], _UNPACK_WITHIN_S, package.name)
    shutil.rmtree(state)
    for unused in _NO_USE:
        shutil.rmtree(folder / "usr" / "share" / unused, ignore_errors=True)


def _source(suite: str) -> str:
    """Return the line of sources.list for this machine's own mirror, and another suite of it."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ServerUnavailableError(f"this machine has no {program}")
    release = _os_release()
    if release.get("ID") != "debian":
        raise ServerUnavailableError(f"this machine is {release.get('ID', 'no Linux')}, no Debian")
    ours = {release.get("VERSION_CODENAME"), "stable", "testing", "unstable", "sid"}
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    for line in _run([*asked, "Identifier: Packages"], 30, "its sources").splitlines():
        mirror, found, component = line.split()
        if found in ours and component == "main":
            rings = [Path("/usr/share/keyrings") / name for name in _KEYRINGS]
            signed = next((f"[signed-by={ring}] " for ring in rings if ring.exists()), "")
            return f"deb {signed}{mirror} {suite} main\n"
    raise ServerUnavailableError("no Debian mirror among this machine's apt sources")


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _run(command: list[str], within_s: float, what: str, cwd: Path | None = None) -> str:
    """Return what a command prints; its complaint is the reason for having no server."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServerUnavailableError(f"waited {within_s:.0f} s for {what}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ServerUnavailableError(f"{what}: {said[-1].removeprefix('E: ')}")
    return done.stdout
