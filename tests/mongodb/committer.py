"""`python committer.py URL DATABASE PROTOCOL ROWS`: write a trail until it is killed."""

from __future__ import annotations

import os
import random
import sys

from resources.mongodb.offsets import Holder
from resources.mongodb.settings import MongoDBSettings, Protocol
from resources.mongodb.sink import Sink
from resources.mongodb.trail import Trail


def main() -> int:
    # Beside this program; the suite knows it by another name.
    from batches import batch  # type: ignore[import-not-found]  # noqa: PLC0415

    url, database, protocol, rows = sys.argv[1:5]
    settings = MongoDBSettings(url, database)
    with Trail.open(settings, Protocol(protocol)) as trail:
        held = trail.acquire("orders", Holder("child", "here", os.getpid()))
        recovered = trail.recover(held)
        print(f"from {held.seq}, {recovered.pending} pending", flush=True)
        with Sink(trail, held) as sink:
            seq = held.seq
            while seq < int(rows):
                last = min(int(rows), seq + random.randint(1, 40))  # noqa: S311 - where it is cut
                sink.write(batch(seq + 1, last))
                seq = last
            sink.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
