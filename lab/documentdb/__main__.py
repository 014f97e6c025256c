"""`python -m lab.documentdb PORT DSN`: serve until the process is ended."""

from __future__ import annotations

import argparse
import sys
import threading

from lab.documentdb.engine import Engine
from lab.documentdb.front import Front
from lab.mongodb.listener import Listener


def main() -> int:
    """Serve; the line that it prints says that it does."""
    parser = argparse.ArgumentParser(prog="python -m lab.documentdb", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("dsn", help="of a PostgreSQL with the DocumentDB extension")
    parser.add_argument("--replica-set", default="rs0")
    parser.add_argument("--transaction-lifetime-s", type=float, default=60.0)
    given = parser.parse_args()
    front = Front(Engine(given.dsn), given.replica_set, given.transaction_lifetime_s)
    threading.Thread(target=front.reap, args=[threading.Event()], daemon=True).start()
    with Listener(front, given.port) as listener:
        sys.stdout.write(f"MongoDB on port {listener.port}\n")
        sys.stdout.flush()
        listener.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
