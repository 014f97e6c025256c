"""The one place where our errors become Dagster's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from caretaker.errors import CaretakerError, TransientError, UnsafeError

#: What a signal raises inside a step; its own words are no more than its name.
_INTERRUPTIONS = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})

#: Of a failure's metadata: whether we declined, rather than failed.
DECLINED = "declined"


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
        raise _failure(error) from error
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as stop:
        # To a RetryPolicy an interruption is one more reason to start the step again
        # (dagster.md, trap 1): whoever presses Ctrl-C or Terminate means it.
        raise dg.Failure("the run was stopped", allow_retries=False) from stop


@contextmanager
def final_errors() -> Iterator[None]:
    """Fail at once, whatever it is; an interruption stays one, so that the run is "canceled".

    For a step that has no RetryPolicy and retries by itself what may pass.
    """
    try:
        yield
    except CaretakerError as error:
        raise _failure(error) from error


def _failure(error: CaretakerError) -> dg.Failure:
    return dg.Failure(
        str(error),
        metadata={
            "target": str(error.target or ""),
            "hint": error.hint,
            DECLINED: isinstance(error, UnsafeError),
        },
        allow_retries=False,
    )


def failure_text(event: dg.DagsterEvent) -> str:
    """Return why a step failed, in the words of the error at the bottom of it all."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return str(event.message)
    if error.cls_name in _INTERRUPTIONS:
        return "the run was stopped"
    # Dagster puts the class before the message, with its module.
    return error.message.strip().removeprefix(f"{CaretakerError.__module__}.{error.cls_name}: ")
