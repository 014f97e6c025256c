"""Give a table back the text it had, for as long as it takes or a human is called."""

from __future__ import annotations

from dataclasses import replace

from caretaker.backoff import exponential
from caretaker.errors import CaretakerError, FencedError, NotRestoredError, RefusedError
from caretaker.translog.model import ResetTicket, TableObservation
from caretaker.translog.plan import SetReplicas, plan_restore
from ops.guard import OrphanedError
from ops.hands import Hands
from resources.sql.cratedb import Statement, set_replicas

#: Pauses between restores that failed: doubled from here to the cap until the time-out.
FIRST_PAUSE_S = 0.5
PAUSE_CAP_S = 15.0

#: Codes that say "it is not there, or not yours": trying again within the run cannot help.
GONE = frozenset({4041, 4045, 4046})
GONE_OR_FORBIDDEN = GONE | {4010, 4011}


def remedy_for(ticket: ResetTicket) -> Statement:
    """Return the statement that honours the ticket, for us to send or a person to paste."""
    return set_replicas(ticket.target, ticket.original_replicas)


def not_restored(ticket: ResetTicket, why: object) -> NotRestoredError:
    """Return the error that calls for a human, with the statement to paste."""
    return NotRestoredError(
        f"Failed to rollback {ticket.target}: {why}",
        target=ticket.target,
        remedy=remedy_for(ticket).rendered,
    )


def restore_until_read_back(hands: Hands, ticket: ResetTicket, timeout_s: float) -> bool:
    """Send the original until a read-back shows that nothing is owed any more.

    Tries across reconnects and refusals with back-off for `timeout_s`; what CrateDB says is gone
    or forbidden ends it at once. Returns whether the table was seen at 0 on the way. Raises
    NotRestoredError; FencedError passes.
    """
    deadline = hands.clock.monotonic() + timeout_s
    pauses = exponential(1_000_000, FIRST_PAUSE_S, PAUSE_CAP_S, jitter=lambda: 1.0)
    attempt = _Attempt(hands, ticket)
    while error := attempt.once():
        rest = deadline - hands.clock.monotonic()
        final = isinstance(error, RefusedError) and error.code in GONE_OR_FORBIDDEN
        if final or rest <= 0:
            raise not_restored(ticket, error) from error
        _patiently(hands, min(next(pauses), rest))
    return attempt.seen_at_zero


class _Attempt:
    """What is learnt from one try to the next: that 0 was seen, that a restore was acknowledged."""

    def __init__(self, hands: Hands, ticket: ResetTicket) -> None:
        self._hands = hands
        self._ticket = ticket
        self.seen_at_zero = False

    def once(self) -> CaretakerError | None:
        """Look, send what is owed, look again; return what is in the way, None where nothing is."""
        try:
            statement = _owed(self._look(), self._ticket)
            if statement is None:
                return None
            self._hands.send(self._ticket, statement, owed=True)
            # An acknowledged restore is what an unanswered SET to 0 was waiting for.
            self._ticket = replace(self._ticket, zero_acknowledged=True)
            if _owed(self._look(), self._ticket) is None:
                return None
            if self._hands.reads_back(self._ticket.target, self._ticket.original_replicas):
                return None
        except FencedError:
            raise
        except CaretakerError as error:
            return error
        return CaretakerError("CrateDB acknowledged the restore, and shows another value")

    def _look(self) -> TableObservation | None:
        now = self._hands.catalog(self._ticket.target, self._ticket.cluster_id)
        self.seen_at_zero |= now is not None and now.number_of_replicas == "0"
        return now


def _owed(now: TableObservation | None, ticket: ResetTicket) -> Statement | None:
    if not ticket.zero_sent:
        return None
    if now is None:
        # The catalog does not show the table: dropped, or hidden by a lost privilege. Only the
        # attempt can tell, and where it is truly gone the attempt is refused.
        return remedy_for(ticket)
    for action in plan_restore(now, ticket):
        if isinstance(action, SetReplicas):
            return set_replicas(action.target, action.replicas)
    return None


def _patiently(hands: Hands, seconds: float) -> None:
    """Pause on the way to a restore; an orphan goes on restoring as long as it may."""
    try:
        hands.guard.pause(seconds)
    except OrphanedError:
        hands.clock.sleep(min(seconds, 1.0))
