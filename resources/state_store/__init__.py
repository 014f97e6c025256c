"""Tickets, cluster locks, audit, outcomes and samples, in SQL: what must survive a crash.

Opened by every Dagster step and every command that changes something; sqlite under `$DAGSTER_HOME`
for one machine, PostgreSQL for several.
"""

from resources.state_store.address import state_url
from resources.state_store.restart_rows import (
    DecommissionRow,
    EffectRow,
    LookRow,
    RestartRow,
)
from resources.state_store.rows import (
    Attempts,
    Lock,
    OutcomeRow,
    SampleRow,
    StatementRow,
    TicketChanges,
    TicketRow,
)
from resources.state_store.store import StateStore

__all__ = [
    "Attempts",
    "DecommissionRow",
    "EffectRow",
    "Lock",
    "LookRow",
    "OutcomeRow",
    "RestartRow",
    "SampleRow",
    "StateStore",
    "StatementRow",
    "TicketChanges",
    "TicketRow",
    "state_url",
]
