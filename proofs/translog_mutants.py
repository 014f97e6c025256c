"""What the translog wing's tests are worth: each of these breaks must turn them red.

Each break is made in a copy of the tree, as an exact replacement of text that is there today; a
break whose text is gone fails the proof, instead of proving nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: The world with rules, stopped at the first thing that is wrong; nothing is shrunk.
RULES = ("tests/translog/test_world_with_rules.py", "--hypothesis-profile=first")
WRITTEN_OUT = (
    "tests/translog/test_arrives.py",
    "tests/translog/test_killed.py",
    "tests/translog/test_leases.py",
    "tests/translog/test_not_restored.py",
    "tests/translog/test_unanswered_alter.py",
)

#: A suite that has not ended by then has found nothing.
ENDS_WITHIN_S = 1800

#: Neither of the copy's business.
_LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".caretaker", ".hypothesis", "__pycache__", ".*_cache", "dist"
)


@dataclass(frozen=True)
class Edit:
    """A text of a file, and what takes its place."""

    file: str
    before: str
    after: str

    def apply(self, tree: Path) -> None:
        """Break the copy; LookupError where the text is not there exactly once."""
        path = tree / self.file
        source = path.read_text(encoding="utf-8")
        if (found := source.count(self.before)) != 1:
            raise LookupError(f"{self.file} has this {found} times, not once:\n{self.before}")
        path.write_text(source.replace(self.before, self.after), encoding="utf-8")


@dataclass(frozen=True)
class Mutant:
    """A break, and what it breaks in words."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]


#: The four that any test of this wing must notice.
FOUR = (
    Mutant(
        "restore_skipped",
        "the original is never sent again, and the reset goes on as if it had been",
        (
            Edit(
                "ops/reset.py",
                """            seen_at_zero = restore_until_read_back(
                self._hands, self._log.ticket, self._policy.restore_timeout_s
            )
""",
                "            seen_at_zero = True\n",
            ),
        ),
    ),
    Mutant(
        "ticket_written_late",
        "what was there is written down after the SET to 0 instead of before it",
        (
            Edit(
                "ops/reset.py",
                "            self._log.open(finding)\n",
                """            self._hands.crate.change(set_replicas(self._target, "0"))
            self._log.open(finding)
""",
            ),
        ),
    ),
    Mutant(
        "epoch_not_checked",
        "whoever was relieved of a ticket goes on writing and sending",
        (
            Edit(
                "resources/state_store/audit.py",
                ".where(tickets.c.epoch == ticket.epoch, tickets.c.closed_at.is_(None))",
                ".where(tickets.c.closed_at.is_(None))",
            ),
            Edit(
                "resources/state_store/tickets.py",
                "and_(tickets.c.id == ticket.id, tickets.c.epoch == ticket.epoch, _IS_OPEN)",
                "and_(tickets.c.id == ticket.id, _IS_OPEN)",
            ),
        ),
    ),
    Mutant(
        "leases_as_in_the_seed",
        "leases count as clear when the largest number of them equals the number of primaries",
        (
            Edit(
                "caretaker/translog/leases.py",
                "    if not all(_holds_only_its_own(primary) for primary in primaries):\n",
                "    if max(len(copy.leases or ()) for copy in primaries) != len(primaries):\n",
            ),
        ),
    ),
)

MORE = (
    Mutant(
        "rollback_by_state",
        "a restore is decided from the ticket's state instead of from what the catalog shows",
        (
            Edit(
                "caretaker/translog/plan.py",
                "    if now.number_of_replicas != ticket.original_replicas or unsettled(ticket):\n",
                "    if ticket.state is ResetState.MONITORING_LEASES:\n",
            ),
        ),
    ),
    Mutant(
        "unanswered_is_failed",
        "a SET to 0 that nobody answered counts as refused: nothing is put back",
        (
            Edit(
                "ops/reset.py",
                "        except (RefusedError, TransientError) as error:\n",
                "        except (RefusedError, TransientError, UnknownResultError) as error:\n",
            ),
        ),
    ),
    Mutant(
        "no_settle_watch",
        "a ticket is closed while its SET to 0 may still land",
        (
            Edit(
                "ops/reset.py",
                "        settle_s = self._policy.settle_s\n",
                "        settle_s = 0.0\n",
            ),
        ),
    ),
    Mutant(
        "changed_means_settled",
        "an operator's word ends the watch for a SET to 0 that may still land on it",
        (
            Edit(
                "ops/reset.py",
                "        if not unsettled(self._log.ticket):\n            return now\n",
                "        if not unsettled(self._log.ticket) or changed_underneath(\n"
                "            now, self._log.ticket\n        ):\n            return now\n",
            ),
        ),
    ),
    Mutant(
        "takeover_keeps_the_epoch",
        "a ticket changes hands, and the old owner's statements still pass",
        (
            Edit(
                "resources/state_store/tickets.py",
                "epoch=ticket.epoch + 1,\n",
                "epoch=ticket.epoch,\n",
            ),
        ),
    ),
    Mutant(
        "stopped_without_putting_back",
        "a run that is told to stop forgets its table",
        (
            Edit(
                "ops/reset.py",
                """            self._give_up("the run was stopped", None, watch=False)
            raise
""",
                "            raise\n",
            ),
        ),
    ),
    Mutant(
        "operators_word_is_overwritten",
        "the original is sent whatever an operator has said in the meantime",
        (
            Edit(
                "caretaker/translog/plan.py",
                "    if not ticket.zero_sent or changed_underneath(now, ticket):\n",
                "    if not ticket.zero_sent:\n",
            ),
        ),
    ),
    Mutant(
        "siblings_together",
        "two partitions of one table stand at 0 at the same time",
        (
            Edit(
                "ops/reset.py",
                "                ticket.target.table == self._target.table\n",
                "                ticket.target == self._target\n",
            ),
        ),
    ),
    Mutant(
        "unknown_is_sent_again",
        "a SET to 0 without an answer is sent a second time",
        (
            Edit(
                "ops/reset.py",
                "            self._hands.send_retrying(self._log.ticket, statement)\n",
                """            try:
                self._hands.send_retrying(self._log.ticket, statement)
            except UnknownResultError:
                self._hands.send_retrying(self._log.ticket, statement)
""",
            ),
        ),
    ),
)


def main(options: list[str]) -> int:
    """Break a copy in each way, and say which suite noticed; 1 where none did."""
    parser = argparse.ArgumentParser(prog="python -m proofs translog_mutants")
    parser.add_argument("--short", action="store_true", help="the four, against the world alone")
    parser.add_argument("--only", default="", metavar="NAME", help="one mutant")
    parser.add_argument("--seed", type=int, default=1, help="of the world with rules")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 2, help="mutants at a time")
    given = parser.parse_args(options)
    mutants = [m for m in (FOUR if given.short else FOUR + MORE) if given.only in ("", m.name)]
    if not mutants:
        parser.error(f"no mutant is called {given.only}")
    survived = 0
    with concurrent.futures.ThreadPoolExecutor(given.lanes) as lanes:
        tried = [lanes.submit(_try, m, short=given.short, seed=given.seed) for m in mutants]
        for mutant, trial in zip(mutants, tried, strict=True):
            red, seconds = trial.result()
            by_rules = red["rules"] or (mutant not in FOUR and any(red.values()))
            survived += not by_rules
            told = ", ".join(
                f"{suite} {'RED' if found else 'green'}" for suite, found in red.items()
            )
            print(f"{mutant.name}: {told} ({seconds:.0f} s): {mutant.breaks}", flush=True)
    print(f"{len(mutants) - survived} of {len(mutants)} noticed")
    return 1 if survived else 0


def _try(mutant: Mutant, *, short: bool, seed: int) -> tuple[dict[str, bool], float]:
    """Return which suites were red on a copy with this break, and how long they took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="translog-mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_LEFT_BEHIND)
        for edit in mutant.edits:
            edit.apply(tree)
        red = {"rules": _is_red(tree, *RULES, f"--hypothesis-seed={seed}")}
        if not short:
            red["written out"] = _is_red(tree, *WRITTEN_OUT)
    return red, time.monotonic() - began


def _is_red(tree: Path, *arguments: str) -> bool:
    """Whether a test failed; RuntimeError where none could run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"no suite, but this:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    return done.returncode == 1
