"""The one place where our errors become Dagster's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from caretaker.errors import CaretakerError, TransientError


@contextmanager
def step_errors() -> Iterator[None]:
    """Let Dagster retry what may pass, and fail at once what will not.

    Only for steps before the first ticket and for `conclude`: in between a raised failure would
    make Dagster skip the restore.
    """
    try:
        yield
    except TransientError:
        raise
    except CaretakerError as error:
        raise dg.Failure(
            str(error),
            metadata={"target": str(error.target or ""), "hint": error.hint},
            allow_retries=False,
        ) from error
