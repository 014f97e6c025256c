"""The demo's second wing: a shop whose rows change, and their audit trail, each a process."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.shop import source_url
from lab.supervisor import Child, accepts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATABASE = "audit"

_OPTIONS = r"""# Options of binlog_sync, as the Launchpad takes them; the sensor starts it so.
include: ['shop\..*']
mask: ['shop\.customers\.email']
observe_every_s: 15
"""


@dataclass
class RowChanges:
    """What the demo starts for the wing, and what it says of it.

    Attributes:
        downloads: Environment that a MySQL is fetched with.
    """

    folder: Path
    mongodb_port: int
    mysql_port: int
    downloads: Mapping[str, str]
    _read: int = 0
    _servers: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What caretaker is configured with."""
        return {
            "MYSQL_URL": source_url(self.mysql_port),
            "MONGODB_URI": f"mongodb://127.0.0.1:{self.mongodb_port}/?replicaSet=rs0",
            "MONGODB_DATABASE": DATABASE,
            "CARETAKER_BINLOG_CONFIG": str(self.folder / "binlog_sync.yaml"),
        }

    def write_down(self) -> None:
        """Write what the sync runs with."""
        (self.folder / "binlog_sync.yaml").write_text(_OPTIONS, encoding="utf-8")

    def children(self) -> tuple[Child, ...]:
        """Return the two processes; neither needs Docker or root."""
        port, told = str(self.mysql_port), str(self._told)
        return (
            Child(
                "audit trail",
                (sys.executable, "-m", "lab.mongodb", str(self.mongodb_port)),
                lambda: accepts("127.0.0.1", self.mongodb_port),
                f"port {self.mongodb_port} to answer",
            ),
            # The demo waits for the trail, which is made and paused; not for a MySQL.
            Child(
                "shop",
                (sys.executable, "-m", "lab.shop_keeper", "--port", port, "--told", told),
                self._told.exists,
                "the audit trail to be made",
                environment=self.downloads,
            ),
        )

    def said_at_start(self) -> str:
        """Return what a newcomer is told of it."""
        return f"""\
binlog: each change of a row in a real MySQL becomes a document in a MongoDB of pure Python,
database {DATABASE} at mongodb://127.0.0.1:{self.mongodb_port}/. A MySQL that is not here yet is
being fetched; what became of it will be said below."""

    def news(self) -> Iterator[str]:
        """Yield what has happened since this was last asked."""
        with contextlib.suppress(FileNotFoundError):
            lines = self._told.read_text(encoding="utf-8").splitlines()
            for line in lines[self._read :]:
                self._read += 1
                yield from self._sentence(json.loads(line))

    @property
    def _told(self) -> Path:
        return self.folder / "shop.jsonl"

    def _sentence(self, told: Mapping[str, str]) -> Iterator[str]:
        if "left_out" in told:
            yield (
                "binlog: left out, for want of a MySQL or MariaDB that this machine can have: "
                f"{told['left_out']}"
            )
        elif "seq" in told:
            yield f"binlog: {told['seq']} documents are in the audit trail"
        elif "ready" in told:
            self._servers += 1
            yield f"binlog: {told['ready']} is there; the sync starts within seconds"
            if self._servers > 1:
                yield (
                    "binlog: it is another server than before, and none has the old one's rows: "
                    "the sync stops rather than jump, and its run says what to do"
                )
