"""`dc_util` in a container of the lab: the preStop hook of CrateDB's own operator, as seen live.

Three transient settings that nobody puts back, the decommission, then a wait for PID 1 that ends
only when it does, and takes this process with it.
"""

import http.client
import json
import os
import sys
import time

_SETTINGS = (
    ('set global transient "cluster.graceful_stop.timeout" = ?', "timeout"),
    ('set global transient "cluster.graceful_stop.force" = ?', "force"),
    ('set global transient "cluster.graceful_stop.min_availability" = ?', "availability"),
)


def main(words: list[str]) -> int:
    """Drain this pod's node."""
    given = {"timeout": "7200s", "min-availability": "FULL", "crate-node-prefix": "data-hot"}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.lstrip("-").partition("=")
        if name in {"dry-run", "reset-routing"}:
            given[name] = "true"
        else:
            given[name] = value if equals else next(rest, "")
    pod, prefix = os.environ["HOSTNAME"], given["crate-node-prefix"]
    _, found, _ = pod.partition(f"{prefix}-")
    ordinal = pod.rpartition("-")[2]
    if not found or not ordinal.isdecimal():
        # A pod of another kind is not drained.
        sys.stderr.write(f"malformed hostname {pod}\n")
        return 1
    values = {
        "timeout": given["timeout"],
        "force": True,
        "availability": given["min-availability"].upper(),
    }
    if given.get("dry-run"):
        return 0
    for statement, key in _SETTINGS:
        _sql(statement, values[key])
    _sql(f"alter cluster decommission '{prefix}-{ordinal}'")
    while True:
        time.sleep(0.5)


def _sql(statement: str, *args: object) -> None:
    one = http.client.HTTPConnection("127.0.0.1", int(os.environ["LAB_HTTP_PORT"]))
    body = json.dumps({"stmt": statement, "args": list(args)})
    one.request("POST", "/_sql", body, {"Content-Type": "application/json"})
    answer = one.getresponse()
    said = answer.read()
    if answer.status != 200:  # noqa: PLR2004 - OK
        sys.stderr.write(f"{statement}: {said!r}\n")
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
