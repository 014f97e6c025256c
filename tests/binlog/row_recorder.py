"""Record the stories of `row_stories` from real servers.

python tests/binlog/row_recorder.py mysql://root:pw@127.0.0.1:3306 mysql://root:pw@127.0.0.1:3307
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

DATABASE = "recorded"


def main(urls: list[str]) -> None:
    """Record all stories of each server."""
    root = Path(__file__).parents[2]
    sys.path.insert(0, str(root))
    # Some installed distribution has a package of this name.
    sys.modules["tests"] = types.ModuleType("tests")
    sys.modules["tests"].__path__ = [str(root / "tests")]
    captures = importlib.import_module("tests.binlog.captures")
    row_stories = importlib.import_module("tests.binlog.row_stories")
    sql = importlib.import_module("lab.servers.sql")
    for url in urls:
        server = sql.Sql(url)
        ((version,),) = server.ask("SELECT VERSION()")
        flavor = captures.Flavor.MARIADB if "MariaDB" in version else captures.Flavor.MYSQL
        for name, statements in row_stories.stories(flavor).items():
            server.run(f"DROP DATABASE IF EXISTS {DATABASE}")
            captured = captures.capture(server, flavor, DATABASE, statements)
            captures.record(f"{flavor}-{name}", captured, version=version)
            print(flavor, name, len(captured.events))
        server.run(f"DROP DATABASE {DATABASE}")


if __name__ == "__main__":
    main(sys.argv[1:])
