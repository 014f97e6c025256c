"""A lab Materialize in a process of its own: start it, wait until it is ready, stop it."""

from __future__ import annotations

import re

from lab.cratedb.process import LabDidNotStartError, LabProcess


class MaterializeProcess(LabProcess):
    """`python -m lab.materialize` with these arguments, as a handle.

    `connection_string` is the URL for a client; killed with -9 it takes its PostgreSQL with it.
    """

    module = "lab.materialize"
    port_option = "--port"
    ready = re.compile(r"lab Materialize ready: (\S+) control (\S+)")


__all__ = ["LabDidNotStartError", "MaterializeProcess"]
