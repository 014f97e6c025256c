"""`crate` in a container of the lab: the life of one node of the lab's cluster.

As long as this process lives, the node does: killed, the node is. When the node ends by itself,
drained, this process ends with the same code.
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Live as long as the node."""
    host, _, port = os.environ["LAB_NODES"].rpartition(":")
    lab = socket.create_connection((host, int(port)), 30)
    lab.settimeout(None)

    def asked_to_end(*_: object) -> None:
        lab.sendall(b'{"signal": "TERM"}\n')

    signal.signal(signal.SIGTERM, asked_to_end)
    said = {"pod": os.environ["POD_NAME"], "pid": os.getpid()}
    lab.sendall(json.dumps(said).encode() + b"\n")
    with lab.makefile("r", encoding="utf-8") as answers:
        for line in answers:
            answer = json.loads(line)
            if "exit" in answer:
                return int(answer["exit"])
    # The lab is gone, and with it every node.
    return 1


if __name__ == "__main__":
    sys.exit(main())
