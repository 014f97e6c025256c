"""What a reset would send, as a person would paste it."""

from __future__ import annotations

from caretaker.errors import RefusedError
from caretaker.translog.detect import Finding
from caretaker.translog.model import Remedy, ResetTicket
from caretaker.translog.plan import Flush, SetReplicas, plan_reset
from ops.owners import owner_of
from resources.clock import utc_now
from resources.sql.cratedb import flush, set_replicas


def planned_statements(
    finding: Finding, cluster_id: str, *, nudge: bool, remedy: Remedy = Remedy.REPLICAS
) -> tuple[str, ...]:
    """Return the statements of a whole reset, in order: the plan, asked of the planner itself.

    Empty where nothing could be put back: the table shows no `number_of_replicas`, or its name
    cannot be written as SQL.
    """
    if finding.table.number_of_replicas is None:
        return ()
    ticket = ResetTicket(
        cluster_id=cluster_id,
        target=finding.target,
        original_replicas=finding.table.number_of_replicas,
        owner=owner_of("dry-run", a_process_each=False),
        created_at=utc_now(),
        threshold_bytes=finding.threshold_bytes,
    )
    statements = []
    try:
        if remedy is Remedy.FLUSH_FIRST:
            # The rest only where the flush does not cure, which nobody knows beforehand.
            statements.append(flush(finding.target).rendered)
        for action in plan_reset(finding.table, ticket, nudge=nudge):
            if isinstance(action, SetReplicas):
                statements.append(set_replicas(action.target, action.replicas).rendered)
            elif isinstance(action, Flush):
                statements.append(flush(action.target).rendered)
    except RefusedError:
        return ()
    return tuple(statements)
