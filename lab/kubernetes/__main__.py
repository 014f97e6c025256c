"""`python -m lab.kubernetes`: a CrateDB in pods on the lab's Kubernetes, until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Sequence

from lab.control import ControlServer
from lab.cratedb.laboratory import LabCrateDB
from lab.cratedb.showcase import populate
from lab.kubernetes import manifests
from lab.kubernetes.cluster import CratePods, LabDidNotSettleError
from lab.kubernetes.control import KubernetesControl
from lab.kubernetes.plane import LabPlane


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.kubernetes", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--name", default="lab", help="of the CrateDB cluster")
    parser.add_argument("--namespace", default="crate")
    parser.add_argument("--port", type=int, default=0, help="of the API server; 0: any")
    parser.add_argument("--control-port", type=int, default=0, help="of the database's levers")
    parser.add_argument("--kube-control-port", type=int, default=0, help="of Kubernetes' levers")
    parser.add_argument("--managed", action="store_true", help="with dc_util as the preStop hook")
    parser.add_argument("--grace-s", type=int, default=None, help="terminationGracePeriodSeconds")
    parser.add_argument("--back-off-s", type=float, default=10.0)
    parser.add_argument("--recovery-s", type=float, default=1.0)
    # Another one than lab.cratedb's: two clusters of one seed have one id.
    parser.add_argument("--seed", type=int, default=2, help="of the CrateDB")
    parser.add_argument("--demo", action="store_true", help="start with a believable cluster")
    parser.add_argument("--kubeconfig", default="", help="write it to this file, too")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 1 with one sentence where it cannot."""
    given = _arguments(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    crate = LabCrateDB(
        given.nodes, cluster_name=given.name, recovery_s=given.recovery_s, seed=given.seed
    )
    with contextlib.ExitStack() as running:
        try:
            crate.start()
            running.callback(crate.stop)
            if given.demo:
                populate(crate)
            plane = running.enter_context(LabPlane(given.port))
            pods = running.enter_context(
                CratePods(
                    plane,
                    crate=crate,
                    name=given.name,
                    namespace=given.namespace,
                    nodes=given.nodes,
                    prestop=manifests.DC_UTIL if given.managed else None,
                    grace_s=given.grace_s,
                    back_off_s=given.back_off_s,
                )
            )
            control = ControlServer(crate, given.control_port).start()
            running.callback(control.stop)
            levers = KubernetesControl(pods, given.kube_control_port).start()
            running.callback(levers.stop)
        except (OSError, LabDidNotSettleError) as error:
            reason = getattr(error, "strerror", None) or error
            sys.stderr.write(f"lab Kubernetes: {reason}; is a lab running already?\n")
            return 1
        path = str(plane.kubeconfig(given.namespace))
        if given.kubeconfig:
            plane.write_kubeconfig(given.kubeconfig, given.namespace)
            path = given.kubeconfig
        sys.stdout.write(
            f"lab Kubernetes ready: KUBECONFIG={path} crate {crate.connection_string} "
            f"control {control.url} levers {levers.url}\n"
        )
        sys.stdout.flush()
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
