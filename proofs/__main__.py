"""`python -m proofs NAME [options]`: exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import importlib
import sys

NAMES = ("binlog_fuzz", "binlog_kills", "restart_kills", "translog_kills", "translog_mutants")


def main() -> int:
    """Run one proof, which takes its own options (`--help` behind its name tells them)."""
    parser = argparse.ArgumentParser(prog="python -m proofs")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own: NAME --help")
    given = parser.parse_args()
    code: int = importlib.import_module(f"proofs.{given.name}").main(given.options)
    return code


if __name__ == "__main__":
    sys.exit(main())
