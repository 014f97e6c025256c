"""A world with rules: whatever happens in whatever order, no table is left without its replicas.

Hypothesis draws a cluster, the runs that look after it, and everything that may befall both; what
must always be true is checked by the witness as it happens, and here after every act. In the end
all faults are healed, and what is promised must be kept.

`pytest --hypothesis-profile=long tests/translog/test_world_with_rules.py` looks much longer.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from caretaker.translog.policy import ResetPolicy
from lab.cratedb.model import Relation
from lab.faults import Action, Fault
from tests.translog.rough_lab import GRANTS, USER, RoughLab, template_store
from tests.translog.runs import MANY, Run, Runs
from tests.translog.walkers import Walker
from tests.translog.witness import Witness
from tests.world import NUDGE, SET_REPLICAS

TEXTS = ("0-1", "1", "2", "0-all", "1-all", "1-2")

#: Long enough for every death to be seen: HEARTBEAT_STALE_AFTER_S and a little.
LONG_SILENCE_S = 31.0

anyone = st.integers(0, 11)
texts = st.sampled_from(TEXTS)

tables = st.fixed_dictionaries(
    {
        "replicas": texts,
        "shards": st.integers(1, 4),
        "partitions": st.lists(texts | st.none(), max_size=3),
        "leases_stuck": st.sampled_from([False, False, True]),
        "logical_lease": st.booleans(),
        "cause": st.sampled_from(["safe_commit_lag", "seq_no_gap", "primary_too"]),
    }
)
policies = st.fixed_dictionaries(
    {
        "nudge": st.booleans(),
        "remedy": st.sampled_from(["replicas", "replicas", "flush_first"]),
        "concurrent": st.sampled_from([1, 1, 2, 3]),
        "max_wait_s": st.sampled_from([0, 40, 120]),
        "retry_after_s": st.sampled_from([0, 0, 600]),
    }
)

#: Where a walker is to stop: at a kind of touch.
PLACES = {
    "the next touch": lambda _: True,
    "a write": lambda walker: walker.at.startswith("store"),
    "a write that is done": lambda walker: walker.at.startswith("stored"),
    "a statement in the audit": lambda walker: walker.at == "stored: begin_statement",
    "a change about to leave": lambda walker: walker.at == "change",
    "a change that is answered": lambda walker: walker.at == "changed",
    "a word": lambda walker: walker.at == "emit",
    "a wait": lambda walker: walker.at == "sleep",
    "a ticket taken over": lambda walker: walker.at == "stored: take_over",
    "a step": lambda walker: walker.at == "step",
    "its end": lambda _: False,
}

places = st.sampled_from(sorted(PLACES))
goings = st.lists(places, max_size=4)

#: How far an heir goes before the one whom it relieved wakes up.
AFTER_A_TAKEOVER = ((), ("a wait",), ("a change about to leave",), ("a change that is answered",))

#: Faults, by what they are to a client: of any statement, and of those that change something.
ANY_FAULT = (
    {"action": Action.RESET_BEFORE},
    {"action": Action.RESET_AFTER},
    {"action": Action.HALF_BODY},
    {"action": Action.HTML},
    {"action": Action.DISCONNECTED},
    {"action": Action.ERROR},
    {"action": Action.ERROR, "status": 429, "code": 4290, "message": "too many requests"},
    {"action": Action.ERROR, "status": 401, "code": 4011, "message": "Missing privilege"},
    {"action": Action.ERROR, "status": 400, "code": 4000, "message": "cannot be, says the test"},
    {"action": Action.ERROR, "status": 500, "code": 5000, "message": "NodeNotConnected"},
)
CHANGE_FAULT = (
    {"action": Action.HANG},
    {"action": Action.LATE, "seconds": 1.5},
    {"action": Action.LATE, "seconds": 20.0},
    {"action": Action.LATE, "seconds": 50.0},
)
READS = ("SELECT", "sys.shards", "information_schema", "sys.cluster")

CLUSTER_TROUBLES = (
    "a node crashes",
    "a node refuses connections",
    "the master is lost",
    "a primary is lost",
    "questions are answered with nothing",
    "a privilege is revoked",
    "a table falls sick",
)
STORE_TROUBLES = (
    "locked",
    "answers lost",
    *((table, what) for table in ("tickets", "statements", "outcomes")
      for what in ("INSERT", "UPDATE")),
)  # fmt: skip

WAITS = {"wait_ladder_s": (10, 15, 30), "settle_s": 60, "restore_timeout_s": 60,
         "verify_timeout_s": 30}  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return template_store(tmp_path_factory.mktemp("template"))


class WorldWithRules(RuleBasedStateMachine):
    """What may happen, act by act."""

    template: Path
    #: What all examples together have come to.
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.lab = RoughLab(Path(self.folder.name), self.template)
        self.witness = Witness(self.lab)
        self.lab.start(self.witness)
        self.runs = Runs(self.lab, self.witness)
        self.cratedb = self.lab.cratedb

    # --- the beginning --------------------------------------------------------------------------

    @initialize(
        drawn=st.lists(tables, min_size=1, max_size=4),
        policy=policies,
        here=st.booleans(),
        then=goings,
    )
    def a_cluster_and_a_run(self, drawn, policy, here, then):
        """Up to four tables, all of them sick, and a run that looks after them."""
        with self.lab.operator():
            for number, one in enumerate(drawn):
                self._make(f"doc.t{number}", **one)
        self.lab.adopt()
        run = self.runs.begin(ResetPolicy.checked(**WAITS, **policy), restore=False, here=here)
        for place in then:
            self._move(run, run.walkers[0], place)

    def _make(self, name: str, *, partitions: list[str | None], **properties: Any) -> None:
        if not partitions:
            self.cratedb.table(name, sick_mb=1200, **properties)
            return
        table = self.cratedb.table(
            name,
            partitioned_by=[("p", "integer")],
            partitions=[{"p": number} for number in range(len(partitions))],
            sick_mb=1200,
            **properties,
        )
        for number, text in enumerate(partitions):
            if text is not None:
                table.partition({"p": number}).set_replicas(text)
                table.partition({"p": number}).make_sick(1200, cause=properties["cause"])
        self._let_copies_come()

    def _let_copies_come(self) -> None:
        for _ in range(3):
            self.cratedb.advance(2.0)
        for relation in self.lab.relations:
            for _, copy in relation.copies():
                if not copy.primary and copy.node is not None:
                    copy.uncommitted = max(copy.uncommitted, 1200 * 1024 * 1024)

    # --- runs -----------------------------------------------------------------------------------

    @precondition(lambda self: sum(not run.over for run in self.runs.all) < 3)
    @rule(policy=policies, restores=st.booleans(), here=st.booleans(), then=goings)
    def a_run_begins(self, policy, restores, here, then):
        policy = ResetPolicy.checked(**WAITS, **({"concurrent": 1} if restores else policy))
        run = self.runs.begin(policy, restore=restores, here=here)
        for place in then:
            self._move(run, run.walkers[0], place)

    @precondition(lambda self: self.runs.walking())
    @rule(who=anyone, then=goings)
    def one_goes_on(self, who, then):
        self._go_on(who, then)

    @precondition(lambda self: self.runs.walking())
    @rule(who=st.lists(anyone, min_size=2, max_size=6), place=places)
    def they_go_on_by_turns(self, who, place):
        for each in who:
            self._go_on(each, [place])

    @precondition(lambda self: self.runs.walking())
    @rule(who=anyone, how=st.sampled_from(["killed", "killed alone", "stopped", "orphaned"]),
          known=st.booleans(), heir=st.booleans(), then=goings)  # fmt: skip
    def one_comes_to_an_end(self, who, how, known, heir, then):
        """Killed with its run; killed where each step has a process; told to stop; its run gone."""
        run, walker = self._walker(who)
        several = run.policy.concurrent > 1
        if how == "stopped":
            for each in run.walkers:
                if not each.over:
                    each.stop()
        elif how == "orphaned" and several:
            run.alive = False
            for each in run.walkers:
                if each.guard is not None:
                    each.guard.parent_pid = 0
        elif how == "killed alone" and several:
            walker.kill()
            run.after_a_death()
        else:
            for each in run.walkers:
                each.kill()
            run.alive, run.finished = False, known
        if heir:
            self._somebody_restores(then)

    @precondition(lambda self: self.runs.walking())
    @rule(who=anyone, given_up=st.booleans(), with_its_machine=st.booleans(), then=goings)
    def one_is_suspended(self, who, given_up, with_its_machine, then):
        """Silent for so long that it looks dead; given up by Dagster, it is taken for dead."""
        run, _ = self._walker(who)
        run.suspend(with_its_machine=with_its_machine)
        run.finished = given_up
        if given_up:
            self.runs.pass_time(LONG_SILENCE_S)
            self._somebody_restores(["a ticket taken over", *then])

    @precondition(lambda self: self.runs.walking())
    @rule(who=anyone, at=places, heir_at=st.sampled_from(AFTER_A_TAKEOVER), then=goings)
    def one_is_relieved_and_wakes_up(self, who, at, heir_at, then):
        """Suspended wherever it is, relieved, and awake while its heir is still at work."""
        run, walker = self._walker(who)
        self._move(run, walker, at)
        run.suspend(with_its_machine=False)
        run.finished = True
        self.runs.pass_time(LONG_SILENCE_S)
        self._somebody_restores(["a ticket taken over", *heir_at])
        run.wake_up()
        if not walker.over:
            for place in (*then, "its end"):
                self._move(run, walker, place)

    @precondition(lambda self: any(run.frozen for run in self.runs.all))
    @rule(who=anyone, then=goings)
    def the_suspended_wake_up(self, who, then):
        for run in self.runs.all:
            run.wake_up()
        self._go_on(who, then)

    def _somebody_restores(self, then: list[str]) -> None:
        heir = self.runs.begin(ResetPolicy.checked(**WAITS), restore=True, here=True)
        for place in then:
            self._move(heir, heir.walkers[0], place)

    def _go_on(self, who: int, then: list[str]) -> None:
        for place in then:
            if self.runs.walking():
                self._move(*self._walker(who), place)

    def _walker(self, who: int) -> tuple[Run, Walker]:
        walking = self.runs.walking()
        return walking[who % len(walking)]

    def _move(self, run: Run, walker: Walker, place: str) -> None:
        self.runs.move(run, walker, PLACES[place], MANY)

    # --- the cluster ----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 5.0, 31.0, 65.0, 700.0]))
    def time_passes(self, seconds):
        self.runs.pass_time(seconds)

    @rule(
        fault=st.sampled_from(ANY_FAULT),
        match=st.sampled_from([SET_REPLICAS, SET_REPLICAS, SET_REPLICAS, NUDGE, *READS]),
        times=st.integers(1, 3),
        who=anyone,
        then=goings,
    )
    def the_cluster_misbehaves(self, fault, match, times, who, then):
        self.cratedb.faults.clear()
        self.cratedb.faults.add(Fault(match, times=times, **fault))
        self._go_on(who, then)

    @rule(
        fault=st.sampled_from(CHANGE_FAULT),
        match=st.sampled_from([SET_REPLICAS, SET_REPLICAS, NUDGE]),
        who=anyone,
        then=goings,
    )
    def a_change_is_not_answered(self, fault, match, who, then):
        self.cratedb.faults.clear()
        self.cratedb.faults.add(Fault(match, times=1, **fault))
        self._go_on(who, then)

    @precondition(lambda self: self.lab.relations)
    @rule(what=st.sampled_from(CLUSTER_TROUBLES), which=anyone, who=anyone, then=goings)
    def the_cluster_is_in_trouble(self, what, which, who, then):
        node = which % 3
        if what == "a node crashes" and self.cratedb.world.nodes[node].alive:
            self.cratedb.crash(node)
        elif what == "a node refuses connections":
            self.cratedb.faults.add(Fault("", Action.REFUSE, node=node))
        elif what == "the master is lost":
            self.cratedb.drop_master()
        elif what == "a primary is lost":
            self._handle(self._relation(which)).lose_primary(0)
        elif what == "questions are answered with nothing":
            match = READS[which % len(READS)]
            self.cratedb.faults.add(Fault(match, Action.WRONG_ROWS, times=2))
        elif what == "a privilege is revoked":
            self._rights("REVOKE", GRANTS[which % len(GRANTS)])
        elif what == "a table falls sick":
            handle = self._handle(self._relation(which))
            handle.make_sick(1200)
            handle.leases_stuck = not handle.leases_stuck
        self._go_on(who, then)

    @rule(nodes=st.booleans(), who=anyone, then=goings)
    def the_cluster_recovers(self, nodes, who, then):
        self.cratedb.faults.clear()
        self.cratedb.elect_master()
        for grant in GRANTS:
            self._rights("GRANT", grant)
        if nodes:
            self._nodes_come_back()
        self._go_on(who, then)

    def _nodes_come_back(self) -> None:
        for node in self.cratedb.world.nodes:
            if not node.alive:
                self.cratedb.restart(node.number)
        self.runs.pass_time(2.0)
        for relation in self.lab.relations:
            for shard in relation.shards:
                if shard.primary is None:
                    self._handle(relation).find_primary(shard.number)
        self.runs.pass_time(3.0)

    def _rights(self, verb: str, grant: str) -> None:
        right, _, schema = grant.partition(" ON SCHEMA ")
        with self.cratedb.world.lock:
            self.cratedb.world.rights.change(verb, USER, [right], "SCHEMA", schema)

    def _relation(self, which: int) -> Relation:
        relations = self.lab.relations
        return relations[which % len(relations)]

    def _handle(self, relation: Relation) -> Any:
        handle = self.cratedb.table((relation.schema, relation.table))
        return handle.partition(relation.values) if relation.ident else handle

    # --- operators ------------------------------------------------------------------------------

    @precondition(lambda self: self.lab.relations)
    @rule(
        which=anyone,
        text=st.sampled_from([*TEXTS, "3", "0"]),
        whole=st.booleans(),
        who=anyone,
        then=goings,
    )
    def an_operator_changes_replicas(self, which, text, whole, who, then):
        relation = self._relation(which)
        clause = f"PARTITION (p = {relation.values['p']})" if relation.ident and not whole else ""
        with self.lab.operator() as lab:
            lab.sql(
                f'ALTER TABLE "{relation.schema}"."{relation.table}" {clause}'
                f" SET (number_of_replicas = '{text}')"
            )
        self._go_on(who, then)

    @precondition(lambda self: len(self.lab.relations) > 1)
    @rule(which=anyone, who=anyone, then=goings)
    def an_operator_drops_something(self, which, who, then):
        relation = self._relation(which)
        with self.lab.operator():
            self._handle(relation).drop()
        self.lab.adopt()
        self._go_on(who, then)

    @precondition(lambda self: any(table.partitioned_by for table in self.lab.tables))
    @rule(which=anyone, value=st.integers(0, 4))
    def an_operator_adds_a_partition(self, which, value):
        partitioned = [table for table in self.lab.tables if table.partitioned_by]
        table = partitioned[which % len(partitioned)]
        if not any(relation.values["p"] == value for relation in table.relations.values()):
            with self.lab.operator() as lab:
                lab.table((table.schema, table.name)).add_partition({"p": value}).make_sick(1200)
            self.lab.adopt()

    # --- the store ------------------------------------------------------------------------------

    @rule(what=st.sampled_from(STORE_TROUBLES), times=st.integers(1, 3), who=anyone, then=goings)
    def the_store_is_in_trouble(self, what, times, who, then):
        self.lab.mend_store()
        if what == "locked":
            self.lab.lock_store()
        elif what == "answers lost":
            self.lab.answers_lost = times
        else:
            self.lab.break_store(*what)
        self._go_on(who, then)

    @rule(who=anyone, then=goings)
    def the_store_takes_writes_again(self, who, then):
        self.lab.mend_store()
        self._go_on(who, then)

    # --- what is always true --------------------------------------------------------------------

    @invariant()
    def no_rule_was_broken(self):
        self.seen["acts"] += 1
        assert not self.lab.violations, self.lab.violations[0]
        for run in self.runs.all:
            for walker in run.walkers:
                if walker.error is not None:
                    raise walker.error

    @invariant()
    def whatever_is_at_zero_is_promised_back(self):
        for relation in self.lab.relations:
            if relation.replicas == "0" and relation.key not in self.lab.operators_zero:
                ticket = self.lab.open_ticket(relation.key)
                assert ticket is not None, f"{relation.name} is at 0 and nobody knows"
                assert ticket["zero_sent"], f"{relation.name} is at 0 and its ticket says otherwise"

    # --- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        """All is healed, and what was promised is kept."""
        try:
            if not self.lab.violations:
                self._heal()
                self._all_go_home()
                self._all_is_as_it_was()
        finally:
            self._count()
            for run in self.runs.all:
                for walker in run.walkers:
                    walker.kill()
            self.lab.close()
            self.folder.cleanup()

    def _count(self) -> None:
        seen = self.seen
        seen["examples"] += 1
        seen["runs"] += len(self.runs.all)
        seen["changes sent"] += sum(e.stmt.startswith(("ALTER", "OPT")) for e in self.witness)
        seen["statements"] += len(self.witness)
        seen["tickets"] += len(self.lab.file_rows("SELECT 1 FROM caretaker_tickets"))
        for row in self.lab.file_rows("SELECT outcome FROM caretaker_outcomes"):
            seen[row[0]] += 1

    def _heal(self) -> None:
        self.cratedb.faults.clear()
        self.cratedb.elect_master()
        for grant in GRANTS:
            self._rights("GRANT", grant)
        self._nodes_come_back()
        self.lab.mend_store()

    def _all_go_home(self) -> None:
        """The living finish; the suspended are given up, taken over, and wake up too late."""
        self._walk_to_the_end()
        for run in self.runs.all:
            run.finished = True
        for last in range(8):
            self.runs.pass_time(LONG_SILENCE_S)
            self.runs.begin(ResetPolicy.checked(**WAITS), restore=True, here=True)
            self._walk_to_the_end()
            if last == 0:
                for run in self.runs.all:
                    run.wake_up()
                self._walk_to_the_end()
            elif not self.lab.file_rows("SELECT 1 FROM caretaker_tickets WHERE closed_at IS NULL"):
                break
        # Whatever was sent and never answered has landed by now.
        self.runs.pass_time(LONG_SILENCE_S * 2)

    def _walk_to_the_end(self) -> None:
        while walking := self.runs.walking():
            for run, walker in walking:
                self.runs.move(run, walker, lambda w: w.at in {"sleep", "step"}, MANY)
            self.no_rule_was_broken()

    def _all_is_as_it_was(self) -> None:
        self.no_rule_was_broken()
        self.whatever_is_at_zero_is_promised_back()
        for relation in self.lab.relations:
            allowed = self.lab.words[relation.key]
            assert relation.replicas in allowed, (
                f"{relation.name} has {relation.replicas!r} and should have one of {allowed}"
            )
        for table in self.lab.tables:
            if table.partitioned_by:
                assert table.replicas == self.lab.templates[table.schema, table.name]
        there = {relation.key for relation in self.lab.relations}
        for ticket in self.lab.file_rows("SELECT * FROM caretaker_tickets"):
            key = (ticket["schema_name"], ticket["table_name"], ticket["partition_ident"])
            rows = self.lab.file_rows(
                "SELECT outcome FROM caretaker_outcomes WHERE ticket_id = ?", ticket["id"]
            )
            if ticket["closed_at"] is not None:
                assert len(rows) == 1, f"ticket {ticket['id']} of {key}: {len(rows)} outcomes"
                continue
            # A table that is gone cannot be told from one that is hidden: a human decides.
            assert key not in there, f"ticket {ticket['id']} of {key} is open: {ticket['reason']}"
            assert ticket["state"] == "FAILED"
            assert not rows


#: What a profile may change, `--hypothesis-profile=long` among them.
_SIZES = {"long": (2000, 60), "first": (60, 45)}


def test_no_table_is_left_without_its_replicas_whatever_happens(template):
    examples, acts = _SIZES.get(settings.get_current_profile_name(), (45, 45))
    WorldWithRules.template = template
    run_state_machine_as_test(
        WorldWithRules,
        settings=settings(
            max_examples=examples,
            stateful_step_count=acts,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(dict(WorldWithRules.seen))
