"""`python -m lab.cratedb`: one lab in the foreground until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from lab.control import ControlServer
from lab.cratedb.laboratory import LabCrateDB
from lab.cratedb.showcase import Decay, populate


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.cratedb", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--port-base", type=int, default=4200, help="first node's port; 0: any")
    parser.add_argument("--control-port", type=int, default=4299, help="0: any")
    parser.add_argument("--demo", action="store_true", help="start with a believable cluster")
    parser.add_argument("--decay-s", type=float, default=90.0,
                        help="with --demo: seconds between two tables falling sick")  # fmt: skip
    parser.add_argument("--lease-tick-s", type=float, default=30.0)
    parser.add_argument("--recovery-s", type=float, default=1.0)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--version", default="6.4.3")
    parser.add_argument("--cluster-name", default="lab")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 1 with one sentence where a port is taken."""
    given = _arguments(argv)
    base = given.port_base
    ports = [base + n if base else 0 for n in range(given.nodes)]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    lab = LabCrateDB(
        given.nodes,
        ports=ports,
        lease_tick_s=given.lease_tick_s,
        recovery_s=given.recovery_s,
        speed=given.speed,
        version=given.version,
        cluster_name=given.cluster_name,
        seed=given.seed,
    )
    try:
        lab.start()
        control = ControlServer(lab, given.control_port).start()
    except OSError as error:
        lab.stop()
        taken = ", ".join(str(port) for port in [*ports, given.control_port] if port)
        sys.stderr.write(f"lab CrateDB: cannot listen on one of the ports {taken}: "
                         f"{error.strerror}; is a lab running already?\n")  # fmt: skip
        return 1
    if given.demo:
        populate(lab)
        decay = Decay(lab, given.decay_s)
        decay.start()
    sys.stdout.write(f"lab CrateDB ready: {lab.connection_string} control {control.url}\n")
    sys.stdout.flush()
    stop.wait()
    control.stop()
    lab.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
