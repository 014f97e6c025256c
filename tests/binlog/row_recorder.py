"""Record the stories of `row_stories` from real servers.

python tests/binlog/row_recorder.py mysql://root:pw@127.0.0.1:3306 mysql://root:pw@127.0.0.1:3307
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
# Some installed distribution has a package of this name.
_tests = types.ModuleType("tests")
_tests.__path__ = [str(ROOT / "tests")]
sys.modules["tests"] = _tests

captures = importlib.import_module("tests.binlog.captures")
row_stories = importlib.import_module("tests.binlog.row_stories")

from caretaker.binlog.model import Flavor  # noqa: E402
from lab.servers.sql import Sql  # noqa: E402

DATABASE = "recorded"

for url in sys.argv[1:]:
    server = Sql(url)
    ((version,),) = server.ask("SELECT VERSION()")
    flavor = Flavor.MARIADB if "MariaDB" in version else Flavor.MYSQL
    for name, statements in row_stories.stories(flavor).items():
        server.run(f"DROP DATABASE IF EXISTS {DATABASE}")
        captured = captures.capture(server, flavor, DATABASE, statements)
        captures.record(f"{flavor}-{name}", captured, version=version)
        print(flavor, name, len(captured.events))
    server.run(f"DROP DATABASE {DATABASE}")
