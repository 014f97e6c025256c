"""`python -m lab.materialize`: an environment until SIGTERM, with a control port beside it."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from lab.materialize.control import control
from lab.materialize.laboratory import LabMaterialize
from lab.materialize.settings import SYSTEM


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.materialize", description=__doc__)
    parser.add_argument("--port", type=int, default=6875, help="for clients; 0: any that is free")
    parser.add_argument("--control-port", type=int, default=6899, help="of faults and levers")
    parser.add_argument("--boot-s", type=float, default=2.0, help="until a replica is online")
    parser.add_argument("--hydrate-s", type=float, default=5.0, help="for an object, on one worker")
    parser.add_argument("--restart-s", type=float, default=2.0, help="from a crash to online")
    parser.add_argument("--speed", type=float, default=1.0, help="the lab's seconds in a real one")
    parser.add_argument("--version", default=SYSTEM["version"], help="what mz_version() says")
    parser.add_argument("--no-statement-logging", action="store_true", help="as the emulator")
    parser.add_argument("--rbac", action="store_true", help="ownership is checked")
    parser.add_argument("--newer", action="store_true", help="with relations of newer servers")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 1 with one sentence where a port is taken."""
    given = _arguments(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    lab = LabMaterialize(
        port=given.port,
        boot_s=given.boot_s,
        hydrate_s=given.hydrate_s,
        restart_s=given.restart_s,
        speed=given.speed,
        version=given.version,
        statement_logging=not given.no_statement_logging,
        rbac=given.rbac,
        newer=given.newer,
        keep=False,
    )
    try:
        lab.start()
        levers = control(lab, given.control_port).start()
    except OSError as error:
        lab.stop()
        taken = ", ".join(str(port) for port in (given.port, given.control_port) if port)
        sys.stderr.write(f"lab Materialize: cannot listen on one of the ports {taken}: "
                         f"{error.strerror}; is a lab running already?\n")  # fmt: skip
        return 1
    sys.stdout.write(f"lab Materialize ready: {lab.url} control {levers.url}\n")
    sys.stdout.flush()
    stop.wait()
    levers.stop()
    lab.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
