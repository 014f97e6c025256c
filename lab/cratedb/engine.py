"""One statement in, one answer out: the way every request and `lab.sql` take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.cratedb import commands, grammar, selects
from lab.cratedb.administration import ADMINISTRATION
from lab.cratedb.answers import Answer, CrateError, no_master
from lab.cratedb.catalog import Catalog
from lab.cratedb.changes import CHANGES
from lab.cratedb.decommission import decommission
from lab.cratedb.jobs import Job
from lab.cratedb.model import Node
from lab.cratedb.tokens import tokenize
from lab.cratedb.world import World

_READS = {"select", "with", "values", "("}
#: CrateDB's name of the plan, in its refusal of bulk arguments.
_PLANS = {"AlterTableProperties": "AlterTablePlan", "Optimize": "OptimizeTablePlan"}


class Engine:
    """The world and its catalog, asked in SQL."""

    def __init__(self, world: World, catalog: Catalog) -> None:
        """Take the world and the catalog that shows it."""
        self.world = world
        self.catalog = catalog

    def run(self, node: Node, user: str, stmt: str, args: Sequence[Any] = ()) -> Answer:
        """Answer one statement, or raise the CrateError it deserves."""
        world = self.world
        world.advance()
        with world.lock:
            job = Job(world.ids.uuid(), user, stmt, world.time_ms, node)
            world.jobs[job.id] = job
        try:
            return self._run(user, stmt, args)
        finally:
            with world.lock:
                world.jobs.pop(job.id, None)

    def _run(self, user: str, stmt: str, args: Sequence[Any]) -> Answer:
        tokens = tokenize(stmt)
        if tokens and tokens[0].low in _READS:
            grammar.require_valid(stmt)
            return selects.select(self.world, self.catalog, user, stmt, args)
        command = commands.read(stmt)
        if command.kind == "AlterClusterDecommissionNode":
            return decommission(self.world, user, command.values[0](args))
        change = CHANGES.get(command.kind) or ADMINISTRATION.get(command.kind)
        if command.kind in {"Delete", "Update"}:
            return Answer(rowcount=0)
        if change is None:
            raise CrateError(
                4004, "UnsupportedFeatureException", f"The lab has no {command.kind} statement"
            )
        if command.kind not in {"Set", "Insert", "RefreshTable"}:
            self._wait_for_master()
        with self.world.lock:
            answer = change(self.world, user, command, args)
            self.world.changed.notify_all()
        return answer

    def _wait_for_master(self) -> None:
        """Wait as a real node does for a master to appear, then raise 503/5031."""
        world = self.world
        with world.lock:
            since = world.time
            while world.master is None:
                if world.closed or world.time - since >= world.master_timeout_s:
                    raise no_master()
                world.changed.wait(0.02)
                world.advance()

    def bulk(self, node: Node, user: str, stmt: str, many: Sequence[Sequence[Any]]) -> Answer:
        """Answer a statement with bulk_args: one result a row, -2 and an error where it failed."""
        tokens = tokenize(stmt)
        if tokens and tokens[0].low in _READS:
            raise CrateError(
                4004,
                "UnsupportedFeatureException",
                "Bulk operations for statements that return result sets is not supported",
            )
        command = commands.read(stmt)
        if command.kind not in {"Insert", "Delete", "Update"}:
            plan = _PLANS.get(command.kind, f"{command.kind}Plan")
            raise CrateError(
                4004, "UnsupportedFeatureException", f"Bulk operation not supported for {plan}"
            )
        results: list[dict[str, Any]] = []
        for args in many:
            try:
                results.append({"rowcount": self.run(node, user, stmt, args).rowcount})
            except CrateError as error:
                if error.code in {4041, 4045, 4011}:
                    raise
                results.append({"rowcount": -2, **error.body()})
        return Answer(bulk=results)
