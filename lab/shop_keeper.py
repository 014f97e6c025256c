"""`python -m lab.shop_keeper --port N --told FILE`: opens the demo's shop, and says so in FILE.

First the audit trail is made and paused: a MySQL may have to be fetched, which takes as long as it
takes, and the sensor that keeps the sync alive then says why there is none. Each line of FILE is
JSON: `trail`, `ready`, `left_out` or `seq`, and what there is to say.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from caretaker.errors import CaretakerError
from lab.servers.errors import ServerDidNotStartError, ServerUnavailableError
from lab.shop import Shop, started
from lab.supervisor import interrupt_on_signals
from resources.mongodb.settings import MongoDBSettings
from resources.mongodb.trail import Trail

SOURCE = "mysql"
BY = "make demo"
_LOOK_EVERY_S = 5.0
_SAY_EVERY_S = 300.0
_TRY_AGAIN_AFTER_S = 0.2


def main() -> int:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m lab.shop_keeper")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--told", type=Path, required=True)
    given = parser.parse_args()
    interrupt_on_signals()
    with contextlib.suppress(KeyboardInterrupt):
        _Keeper(given.port, given.told).work()
    return 0


@dataclass
class _Keeper:
    port: int
    told: Path
    _looked_at: float = 0.0
    _said_at: float = 0.0

    def work(self) -> None:
        self._make_the_trail()
        try:
            with started(self.port) as server:
                shop = Shop(server)
                shop.open()
                version = str(server.ask("SELECT VERSION()")[0][0]).partition("-")[0]
                with _trail() as trail:
                    trail.resume(SOURCE)
                self._tell(ready=f"{server.name} {version}")
                shop.work(self._look_at_the_trail)
        except (ServerUnavailableError, ServerDidNotStartError) as error:
            reason = " ".join(str(error).split())
            self._pause(f"left out, for want of a MySQL or MariaDB: {reason}")
            self._tell(left_out=reason)
            threading.Event().wait()

    def _make_the_trail(self) -> None:
        while True:
            try:
                self._pause("its MySQL is being started, or fetched")
            except CaretakerError as error:
                print(error, flush=True)
                time.sleep(_TRY_AGAIN_AFTER_S)
            else:
                self._tell(trail="made")
                return

    def _pause(self, why: str) -> None:
        with Trail.open(_settings()) as trail:
            trail.setup()
            trail.pause(SOURCE, BY, why)

    def _look_at_the_trail(self) -> None:
        """Say how far it is, now and then; a MongoDB that came back empty gets its indexes."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        with contextlib.suppress(CaretakerError), _trail() as trail:
            if trail.check():
                trail.setup()
            seq = trail.offset(SOURCE).seq
            if seq and (not self._said_at or now - self._said_at >= _SAY_EVERY_S):
                self._said_at = now
                self._tell(seq=f"{seq:,}")

    def _tell(self, **what: str) -> None:
        with self.told.open("a", encoding="utf-8") as told:
            told.write(f"{json.dumps(what)}\n")


def _trail() -> Trail:
    return Trail.open_to_read(_settings())


def _settings() -> MongoDBSettings:
    return MongoDBSettings.from_environment(os.environ, server_selection_timeout_s=2.0)


if __name__ == "__main__":
    sys.exit(main())
