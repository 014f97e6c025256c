"""`caretaker binlog` as a script calls it, with a bench's ends in its environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob

from console.main import main
from ops.logs import FORMAT_VARIABLE

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Shell:
    """`caretaker binlog` with the bench's ends in its environment."""

    def __init__(self, bench, home, capsys):
        self.bench = bench
        self.home = home
        self._capsys = capsys
        shutil.copy(CHECKOUT / "dagster.yaml", home)
        self.environ = {
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "MYSQL_URL": bench.uri,
            "MONGODB_URI": bench.settings.uri,
            "MONGODB_DATABASE": bench.settings.database,
        }
        self.config = home / "sync.yaml"
        self.config.write_text(
            json.dumps({"include": [rf"{bench.name}\..*"], "flush_after_s": 0.05})
        )

    def __call__(self, *arguments, **environ):
        """Run it in this process: the same main(), without the seconds of a start."""
        self._capsys.readouterr()
        code: Any = 0
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            for name in [each for each in sys.modules if each.split(".")[0] == "definitions"]:
                # Which variables are set is looked at when they are loaded.
                del sys.modules[name]
            ReconstructableJob.get_definition.cache_clear()
            ReconstructableJob.get_repository_definition.cache_clear()
            for name, value in (self.environ | environ).items():
                patch.setenv(name, value)
            # `--log-format` is handed down to a run by its variable, and stays set.
            patch.setenv(FORMAT_VARIABLE, "console")
            patch.delenv(FORMAT_VARIABLE)
            patch.chdir(self.home)
            warnings.simplefilter("ignore")
            try:
                main(["binlog", *arguments])
            except SystemExit as end:
                code = end.code
        out, err = self._capsys.readouterr()
        return Ended(int(code or 0), out, err)

    def run(self, *arguments):
        return self("run", "--source", self.bench.name, "--config", str(self.config), *arguments)

    def start(self, *arguments):
        """Start it as a process of its own."""
        path = os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])
        return subprocess.Popen(
            [sys.executable, "-m", "console.main", "binlog", *arguments],
            env={**os.environ, **self.environ, "PYTHONPATH": path},
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
