"""`python -m lab.mongodb [PORT]`: serve the lab's MongoDB until the process is ended."""

from __future__ import annotations

import argparse
import sys
import threading

from lab.mongodb.server import LabMongoDB, Mode
from lab.mongodb.users import User


def main() -> int:
    """Serve; the line that it prints is its URI."""
    parser = argparse.ArgumentParser(prog="python -m lab.mongodb", description=__doc__)
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.REPLICA_SET)
    parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD[:ROLE]")
    given = parser.parse_args()
    users = tuple(User(*told.split(":")) for told in given.user)
    server = LabMongoDB(mode=given.mode, users=users)
    server.port = given.port
    with server:
        print(server.url, flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
