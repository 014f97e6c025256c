"""`mz-clusterctl`: what keeps Materialize's clusters as their strategies want, as a program."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from console.main import run
from console.strategies import clusterctl


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its code: 0 done, 1 error or an action failed, 2 usage."""
    run(clusterctl, "mz-clusterctl", sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
