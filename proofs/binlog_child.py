"""The bare syncer as a process to be killed: `python -m proofs.binlog_child '{"mysql_url": ...}'`.

Says `ready` on stdout when it reads, ends on SIGTERM with a flush, and with 0 where that was clean.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from caretaker.binlog.policy import SyncPolicy
from caretaker.errors import CaretakerError
from ops.binlog_parts import Parts
from ops.binlog_syncer import Syncer
from ops.events import Event
from resources.mongodb.offsets import Holder
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.trail import Trail
from resources.mysql.source import open_source
from resources.mysql.zstd import decompress


def main() -> int:
    """Sync until killed, stopped, or at the source's end."""
    order = json.loads(sys.argv[1])
    policy = SyncPolicy.checked(**order["policy"])
    settings = MongoDBSettings(order["mongodb_uri"], order["database"])
    cancel = threading.Event()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        with Trail.open(settings, Protocol(policy.protocol), cancel=cancel) as trail:
            parts = Parts(
                open_source=lambda: open_source(order["mysql_url"], policy.source),
                trail=trail,
                holder=Holder("proof", "here", os.getpid()),
                say=_say,
                decompress=decompress,
                cancel=cancel,
            )
            with Syncer(parts, policy) as syncer:
                print("ready", flush=True)
                syncer.run(lambda: syncer.stop() if stopped.is_set() else None)
    except CaretakerError as error:
        print(f"failed: {type(error).__name__}: {error}", flush=True)
        return 1
    return 0


def _say(event: Event) -> None:
    print(event.sentence(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
