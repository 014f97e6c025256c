"""Which steps are tried again, and how."""

from __future__ import annotations

import dagster as dg

#: Before the first ticket nothing was changed, so a step that met a passing trouble starts anew.
#: From the first ticket on a step returns its failure as data, and its own retries are inside it:
#: a raised failure would make Dagster skip the restore.
BEFORE_THE_FIRST_TICKET = dg.RetryPolicy(
    max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)

#: Steps of the strategies that only read, or write what may be written twice. `apply` has none: an
#: action that was sent is never sent again without a look, which is what the next cycle is for.
READS_AND_REPEATABLE_WRITES = dg.RetryPolicy(
    max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
