"""The bare syncer as a process to be killed: `python -m proofs.binlog_child '{"mysql_url": ...}'`.

Says `ready` on stdout when it reads, ends on SIGTERM with a flush, and with 0 where that was clean.
As the module of a zygote it is one that is forked, and says everything to `said.log`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any, NoReturn

from caretaker.binlog.policy import SyncPolicy
from caretaker.errors import CaretakerError
from ops.binlog_parts import Parts
from ops.binlog_syncer import Syncer
from ops.events import Event
from proofs.orders import Order
from resources.mongodb.offsets import Holder
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.trail import Trail
from resources.mysql.source import open_source
from resources.mysql.zstd import decompress

#: What a syncer imports only when it comes to it.
_LATER = ("encodings.idna", "pymysql.cursors", "pymongo.synchronous.bulk", "pymongo.monitoring")


def import_everything() -> None:
    """Import what children use, and open nothing."""
    for name in _LATER:
        importlib.import_module(name)


def live(order: Order) -> NoReturn:
    """Carry out an order of the zygote; this process does nothing else."""
    code = 70
    try:
        said = os.open(order.answer, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(fd, target)
        os.chdir(order.folder)
        # Who waits too long for its moment is asked where it is.
        faulthandler.register(signal.SIGUSR1)
        code = follow(order.arguments)
    except BaseException:  # noqa: BLE001 - there is no caller to raise to
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def follow(order: dict[str, Any]) -> int:
    """Sync until killed, stopped, or at the source's end."""
    policy = SyncPolicy.checked(**order["policy"])
    settings = MongoDBSettings(order["mongodb_uri"], order["database"], **order.get("timeouts", {}))
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
    sys.exit(follow(json.loads(sys.argv[1])))
