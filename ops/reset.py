"""One table's reset, step by step: observe, ask the core, act, write down.

No Dagster here: `ops/translog.py` calls one method a step, a test may call them in a loop. From the
first ticket on nothing is raised but an interruption; failure is data until the run concludes,
because a raised failure would make Dagster skip the restore.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from caretaker.backoff import wait_ladder
from caretaker.errors import (
    CaretakerError,
    FencedError,
    NotRestoredError,
    RefusedError,
    TransientError,
    UnknownResultError,
    UnsafeError,
)
from caretaker.translog.detect import examine, selected, why_not_now
from caretaker.translog.model import Remedy, ResetState, TableObservation
from caretaker.translog.outcome import ResetOutcome, outcome_of
from caretaker.translog.plan import (
    AwaitReplicas,
    Flush,
    SetReplicas,
    changed_underneath,
    owes_a_restore,
    plan_drain,
    plan_verify,
    replicas_are_back,
    unsettled,
    worst_replica_bytes,
)
from ops.elsewhere import is_dropped, named, strays
from ops.guard import deaf_to_the_echo
from ops.hands import QUICK_LOOKS_S, Hands
from ops.lease_watch import watch_leases
from ops.logbook import Journey, Logbook
from ops.owners import lost_the_lock
from ops.preflight import why_not_to_begin
from ops.restoring import restore_until_read_back
from resources.sql.cratedb import flush, set_replicas

#: Seconds that a flush is given to show in the statistics.
FLUSH_SHOWS_S = 5.0

#: Seconds between looks while an unanswered ALTER may still land.
SETTLE_LOOK_S = 2.0

#: It can land once. A 0 that comes again and again is somebody's, and the watch must end.
MOST_LANDINGS = 3


class Reset:
    """Carries one journey a step further, and puts back what it changed if it is stopped."""

    def __init__(self, hands: Hands, journey: Journey) -> None:
        self._hands = hands
        self._log = Logbook(hands, journey)
        self._target = journey.target
        self._policy = journey.policy
        ticket = journey.ticket
        if ticket is not None and not self._log.over and ticket.owner.run_id != hands.owner.run_id:
            self._log.leave_to_another_run()

    # The steps, in their order. Each returns the journey, a step further or over.

    def remember(self) -> Journey:
        """Check the cluster again, look at the table again, and write the ticket."""
        with self._stopping_cleanly():
            if self._policy.concurrent > 1:
                self._wait_for_siblings()
            reasons = self._why_not_now()
            if reasons:
                self._log.leave(f"not attempted: {reasons}", left_undone=True)
            else:
                self._remember_as_it_is_now()
                self._let_older_siblings_pass()
        return self._log.journey

    def drain(self) -> Journey:
        """Take the replicas away, see that they are gone, and ask for the leases to be synced."""
        if not self._log.over:
            with self._stopping_cleanly():
                if self._policy.remedy is Remedy.FLUSH_FIRST and self._flush_cures():
                    self._log.close(ResetOutcome.COMPLETED, "a flush was enough")
                else:
                    self._drain()
                    self._go_on_at_once()
        return self._log.journey

    def await_leases(self) -> Journey:
        """Wait until the primaries forgot the copies, or until waiting is pointless or too long."""
        waiting = not self._log.over and self._log.ticket.zero_confirmed
        if waiting and not self._log.ticket.leases_verdict:
            with self._stopping_cleanly():
                watched = watch_leases(self._hands, self._log.ticket, self._policy)
                self._log.advance(
                    leases_verdict=watched.verdict,
                    reason=watched.reason,
                    lease_wait_s=watched.waited_s,
                )
        return self._log.journey

    def restore(self) -> Journey:
        """Give the table back the exact text it had."""
        if not self._log.over and self._log.touched:
            with self._stopping_cleanly():
                if not self._is_back():
                    self._put_back()
        return self._log.journey

    def verify(self) -> Journey:
        """See the replicas come back, and close the ticket."""
        if not self._log.over:
            with self._stopping_cleanly():
                now = self._settled()
                if now is not None:
                    self._conclude(now)
        return self._log.journey

    # Remembering.

    def _why_not_now(self) -> str:
        """Return every reason not to begin with this table now, told already; '' for none."""
        cluster_id = self._log.journey.cluster_id
        hands = self._hands
        reasons = lost_the_lock(hands.store, hands.owner, cluster_id) or why_not_to_begin(
            hands, cluster_id, self._policy
        )
        reason = "; ".join(reasons)
        if reason:
            self._log.tell("preflight_refused", level=logging.WARNING, reason=reason)
        return reason

    def _wait_for_siblings(self, older_than: float = math.inf) -> bool:
        """Wait while another partition of the same table is under way in this run; whether any was.

        The wait cannot block for good: its sibling's later steps have a higher priority, so they
        run before any further table begins.
        """
        policy = self._policy
        limit = policy.max_wait_s + policy.restore_timeout_s + policy.verify_timeout_s
        waited = False
        for pause in wait_ladder((0.5, 1.0, 2.0), limit):
            if not any(
                ticket.target.table == self._target.table
                and ticket.id < older_than
                and ticket.owner.run_id == self._hands.owner.run_id
                and ticket.state is not ResetState.FAILED
                for ticket in self._hands.store.open_tickets(self._log.journey.cluster_id)
            ):
                return waited
            waited = True
            self._hands.guard.pause(pause)
        raise UnsafeError("another partition of it is still under way", target=self._target)

    def _let_older_siblings_pass(self) -> None:
        """Wait again for partitions whose ticket was written at the same moment, and before ours.

        Steps in processes of their own may all find the table free and all write their ticket;
        of those the oldest goes first, and nobody waits for a younger one.
        """
        ticket = self._log.journey.ticket
        if ticket is not None and self._wait_for_siblings(ticket.id):
            reasons = self._why_not_now()
            if reasons:
                self._log.leave_restored(f"not attempted: {reasons}")

    def _remember_as_it_is_now(self) -> None:
        now = self._hands.observe(self._target)
        finding = examine(now) if now is not None else None
        if now is None or finding is None or not selected(finding, self._policy):
            self._log.leave("it is no longer above the threshold")
        elif reason := why_not_now(finding):
            self._log.leave(reason)
        else:
            self._log.open(finding)

    # Draining.

    def _drain(self) -> None:
        now = self._hands.look(self._target)
        for action in plan_drain(now, self._log.ticket, nudge=self._policy.nudge):
            if isinstance(action, SetReplicas) and not self._take_away(action):
                return
            if isinstance(action, Flush):
                self._flush(action)

    def _take_away(self, action: SetReplicas) -> bool:
        """Send the SET to 0 and read it back; whether the table is seen at 0."""
        self._log.move_to(
            ResetState.SETTING_REPLICAS_ZERO, zero_sent=True, zeroed_at=self._hands.clock.now()
        )
        acknowledged = False
        reason = "CrateDB acknowledged 0 replicas, and shows others"
        try:
            statement = set_replicas(action.target, action.replicas)
            self._hands.send_retrying(self._log.ticket, statement)
            acknowledged = True
        except (RefusedError, TransientError) as error:
            # CrateDB said no, or never heard of it: nothing landed and nothing will.
            self._log.advance(zero_sent=False, zeroed_at=None, reason=str(error))
            refused = isinstance(error, RefusedError)
            outcome = ResetOutcome.REFUSED if refused else ResetOutcome.FAILED_RESTORED
            self._log.close(outcome, str(error))
            return False
        except UnknownResultError as error:
            reason = str(error)
        if not self._hands.reads_back(self._target, "0"):
            self._log.advance(zero_acknowledged=acknowledged, reason=reason)
            return False
        self._log.move_to(
            ResetState.MONITORING_LEASES, zero_acknowledged=acknowledged, zero_confirmed=True
        )
        return True

    def _go_on_at_once(self) -> None:
        """Restore right here where there is nothing to wait for and the next step is far away.

        Above one table at a time each step is a process, and takes seconds to start on a busy
        machine: seconds that the table would spend at 0 replicas. The later steps observe, and find
        nothing left to do.
        """
        ticket = self._log.ticket
        if self._policy.concurrent == 1 or self._log.over or not ticket.zero_confirmed:
            return
        watched = watch_leases(self._hands, ticket, replace(self._policy, max_wait_s=0))
        if watched.verdict != "timed_out":
            self._log.advance(leases_verdict=watched.verdict, reason=watched.reason)
            self._put_back()

    def _flush(self, action: Flush) -> bool:
        """Flush and sync leases; where that is refused or too old a server, note it and go on."""
        try:
            self._hands.send(self._log.ticket, flush(action.target))
        except FencedError:
            raise
        except CaretakerError as error:
            self._log.tell("note", level=logging.WARNING, reason=f"no flush: {error}")
            return False
        return True

    def _flush_cures(self) -> bool:
        """Flush every copy and see whether that was enough; no replica is given up for it."""
        if not self._flush(Flush(self._target)):
            return False
        for pause in (*wait_ladder(QUICK_LOOKS_S, FLUSH_SHOWS_S), 0.0):
            finding = examine(self._hands.look(self._target))
            if finding is None or not selected(finding, self._policy):
                return True
            self._hands.guard.pause(pause)
        return False

    # Restoring and verifying.

    def _put_back(self) -> None:
        """Restore until a read-back shows the original, or call for a human."""
        if not self._log.touched:
            return
        self._note_the_way_back()
        try:
            seen_at_zero = restore_until_read_back(
                self._hands, self._log.ticket, self._policy.restore_timeout_s
            )
        except NotRestoredError as error:
            if is_dropped(self._hands, self._log.ticket, error):
                self._log.close(ResetOutcome.CHANGED_UNDERNEATH, "dropped meanwhile")
            else:
                self._log.call_for_help(error)
            return
        was_at_zero = seen_at_zero or self._log.ticket.zero_confirmed
        if was_at_zero and not seen_at_zero and self._log.ticket.restored_at is None:
            self._tell_where_it_may_be()
        self._log.move_to(
            ResetState.VERIFYING,
            zeroed_at=self._log.ticket.zeroed_at if was_at_zero else None,
            restored_at=self._hands.clock.now() if was_at_zero else None,
        )

    def _tell_where_it_may_be(self) -> None:
        """Say loudly which table may be ours: this one came back without us, so it may be another.

        SWAP TABLE gives its name to another table, and it stands at 0 under the other's.
        """
        ticket, finding = self._log.ticket, self._log.journey.finding
        try:
            found = strays(self._hands, ticket, finding.table.number_of_shards if finding else None)
        except CaretakerError as error:
            self._log.tell("note", level=logging.WARNING, reason=f"not looked elsewhere: {error}")
            return
        if not found:
            return
        reason = (
            f"{self._target} has its replicas back without us, and {named(found)} has none: "
            "if the two were swapped or renamed, its shards are there, at 0 replicas"
        )
        remedy = set_replicas(found[0].target, ticket.original_replicas).rendered
        self._log.tell("critical", level=logging.CRITICAL, reason=reason, sql=remedy)
        self._log.advance(reason="; ".join(filter(None, (ticket.reason, reason))))

    def _is_back(self) -> bool:
        """Whether an earlier step has restored already, and the table still shows it."""
        ticket = self._log.ticket
        return ticket.state is ResetState.VERIFYING and not owes_a_restore(
            self._hands.observe(self._target), ticket
        )

    def _note_the_way_back(self) -> None:
        """Write that we are restoring; a store that is away for a moment must not delay it."""
        try:
            self._log.move_to(ResetState.RESTORING_REPLICAS)
        except FencedError:
            raise
        except CaretakerError as error:
            self._log.tell("note", level=logging.WARNING, reason=f"restoring all the same: {error}")

    def _settled(self) -> TableObservation | None:
        """Return the table as it is, after watching it where a SET to 0 may still land.

        None where a late landing could not be undone, and a human was called.
        """
        now = self._hands.look(self._target)
        if not unsettled(self._log.ticket):
            return now
        settle_s = self._policy.settle_s
        reason = f"watching for {settle_s:g} s: an ALTER without an answer may still land"
        self._log.tell("note", reason=reason)
        deadline = self._hands.clock.monotonic() + settle_s
        landings = 0
        while (rest := deadline - self._hands.clock.monotonic()) > 0:
            self._hands.guard.pause(min(SETTLE_LOOK_S, rest))
            now = self._hands.look(self._target)
            if now.number_of_replicas == "0":
                landings += 1
                if landings > MOST_LANDINGS:
                    return now
                self._log.tell("note", level=logging.WARNING, reason="the ALTER landed late")
                self._put_back()
                if self._log.over:
                    return None
                deadline = self._hands.clock.monotonic() + settle_s
        return now

    def _conclude(self, now: TableObservation, *, failure: str = "") -> None:
        degraded = False
        if not failure:
            now, degraded = self._coming_back(now)
        if self._log.touched and now.number_of_replicas == "0":
            # Not ours: the original was read back since. Closed like this the table would count
            # as done, and nobody would look after it any more; so once more, and then it is theirs.
            self._log.tell("note", level=logging.WARNING, reason="at 0 again after the restore")
            self._put_back()
            if self._log.over:
                return
            now = self._hands.look(self._target)
            degraded = not replicas_are_back(now)
        ticket = self._log.ticket
        if changed_underneath(now, ticket) or (ticket.zero_sent and now.number_of_replicas == "0"):
            reason = f"somebody set number_of_replicas to {now.number_of_replicas!r}"
            self._log.close(ResetOutcome.CHANGED_UNDERNEATH, reason, seen=now)
        elif failure:
            self._log.leave_restored(failure)
        else:
            outcome = outcome_of(ticket) if ticket.zero_sent else ResetOutcome.SKIPPED
            self._log.close(outcome, ticket.reason, degraded=degraded, seen=now)

    def _coming_back(self, now: TableObservation) -> tuple[TableObservation, bool]:
        """Wait for started and small replicas; the last look, and whether they were late.

        A value that somebody sets meanwhile ends the wait.
        """
        ticket = self._log.ticket
        if not any(isinstance(a, AwaitReplicas) for a in plan_verify(now, ticket)):
            return now, False
        # Without a primary they cannot come back, and where they never went they are as they were.
        hopeless = ticket.leases_verdict == "primary_lost" or not ticket.zero_confirmed
        limit = 0.0 if hopeless else self._policy.verify_timeout_s
        for pause in (*wait_ladder(QUICK_LOOKS_S, limit), None):
            seen = self._hands.reading(lambda: self._hands.crate.observe(self._target))
            if isinstance(seen, TableObservation):
                now = seen
                if now.number_of_replicas != ticket.original_replicas or (
                    replicas_are_back(now) and worst_replica_bytes(now) <= ticket.threshold_bytes
                ):
                    return now, False
            if pause is not None:
                self._hands.guard.pause(pause)
        return now, True

    # Being stopped.

    @contextmanager
    def _stopping_cleanly(self) -> Iterator[None]:
        """Turn what goes wrong inside a step into data, and put the table back if we are stopped.

        BaseException, because Dagster's interruption (a termination in the UI, SIGTERM, Ctrl-C)
        is one; it goes on after the table is back.
        """
        try:
            with self._hands.guard.heeding_stops():
                yield
        except FencedError as error:
            self._yield(error)
        except CaretakerError as error:
            self._give_up(str(error), None)
        except Exception as error:  # noqa: BLE001 - a step reports, it never raises past a ticket
            self._give_up(f"{type(error).__name__}: {error}", error)
        except BaseException:
            with deaf_to_the_echo():
                self._give_up("the run was stopped", None, watch=False)
            raise

    def _give_up(self, reason: str, unexpected: Exception | None, *, watch: bool = True) -> None:
        """Put back what was changed, if anything was, and end with the reason."""
        if self._log.over:
            return
        self._log.tell("note", level=logging.ERROR, reason=reason, exc_info=unexpected)
        if self._log.journey.ticket is None:
            self._log.leave(reason, left_undone=True)
            return
        try:
            if not self._log.touched:
                self._log.leave_restored(reason)
            else:
                self._put_back_after(reason, watch=watch)
        except FencedError as error:
            self._log.yield_to_new_owner(error)

    def _yield(self, error: FencedError) -> None:
        """Leave the table to its new owner, unless what we sent landed after he was done.

        Between the fence and the statement itself a process may be suspended for an hour. Where
        the ticket is closed and the table is at 0, nobody but us owes it anything.
        """
        try:
            if self._log.touched and self._log.reopen():
                self._put_back_after(str(error), watch=False)
        except FencedError as again:
            error = again
        if not self._log.over:
            self._log.yield_to_new_owner(error)

    def _put_back_after(self, reason: str, *, watch: bool) -> None:
        try:
            self._put_back()
            if self._log.over:
                return
            self._log.tell("note", reason=f"Rollback successful for {self._target}")
            if unsettled(self._log.ticket) and not watch:
                # Being stopped leaves no minute to watch it; whoever picks the ticket up does.
                self._log.leave_open(reason)
                return
            now = self._settled()
        except FencedError:
            raise
        except CaretakerError as error:
            # Not from the restore, which calls for help itself: from what comes after it.
            if unsettled(self._log.ticket):
                self._log.leave_open(f"{reason}; {error}")
            else:
                self._log.leave_restored(f"{reason}; {error}")
            return
        if now is not None:
            self._conclude(now, failure=reason)
