"""`python -m benchmarks NAME [--json FILE] [--quick] [--rows N]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

NAMES = (
    "binlog_decode",
    "binlog_sync",
    "rolling_restart",
    "strategies",
    "supervision",
    "translog_reset",
)


def main() -> int:
    """Run one benchmark, print its figures, and write them where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="smaller, for a first look")
    parser.add_argument("--rows", type=int, help="of binlog_sync: is it flat over so many rows?")
    arguments = parser.parse_args()
    options = {} if arguments.rows is None else {"rows": arguments.rows}
    if options and arguments.name != "binlog_sync":
        parser.error("--rows is for binlog_sync")
    benchmark = importlib.import_module(f"benchmarks.{arguments.name}")
    figures = {"workloads": benchmark.run(quick=arguments.quick, **options)}
    for workload, numbers in figures["workloads"].items():
        print(workload)
        for key, number in numbers.items():
            print(f"  {key:32} {number:>12.3f}" if number is not None else f"  {key:32} -")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
