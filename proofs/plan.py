"""Which trials are made: every statement and every write of a run, and seeded moments besides."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from proofs.orders import Blow, Where
from proofs.scenes import TWO_AT_ONCE, Scene, single
from proofs.trial import By, Through, Trial

_SOCKET = (Where.ARRIVES, Where.APPLIED)
_STORE = (Where.BEFORE_COMMIT, Where.AFTER_COMMIT)

#: Where the store refuses a write before the first ALTER can be sent.
_BEFORE_THE_ALTER = (
    ("caretaker_tickets", "INSERT"),
    ("caretaker_tickets", "UPDATE"),
    ("caretaker_statements", "INSERT"),
)


@dataclass(frozen=True)
class Measure:
    """An undisturbed run, or a recovery that nobody hits.

    Attributes:
        statements: What it sent, in order.
        commits: How many writes it made to the store.
        milliseconds: How long it took.
    """

    statements: tuple[str, ...]
    commits: int
    milliseconds: int

    def numbers_of(self, beginning: str) -> list[int]:
        """Return the positions, from 1, of statements that begin so."""
        return [
            number
            for number, statement in enumerate(self.statements, start=1)
            if statement.startswith(beginning)
        ]


@dataclass(frozen=True)
class Planned:
    """One trial: where it is played, and how."""

    kind: str
    scene: Scene
    play: Callable[[Trial], object]
    about: str


@dataclass
class Plan:
    """Makes trials; who starts the runs and who recovers them takes turns."""

    short: bool
    kills: int
    seed: int
    _made: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Seed."""
        self._random = random.Random(self.seed)  # noqa: S311 - a seeded choice, no secret

    # --- a run is killed --------------------------------------------------------------------

    def resets_killed(
        self, scene: Scene, measure: Measure, *, from_ticket: bool = False
    ) -> Iterator[Planned]:
        """At every statement and every write of a reset, or only from about its first ticket on."""
        zero = measure.numbers_of("ALTER TABLE")[0]
        for kind, blow in self._all(measure):
            if from_ticket and blow.number < (zero - 3 if blow.where in _SOCKET else 2):
                continue
            yield self._killed(f"reset, {kind}", scene, [blow])

    def restores_killed(self, scene: Scene, first: Blow, measure: Measure) -> Iterator[Planned]:
        """At every statement and every write of what picks up a reset killed at `first`."""
        for kind, blow in self._all(measure):
            yield self._killed(f"restore, {kind}", scene, [first, blow])

    def restores_killed_twice(
        self, firsts: list[tuple[Scene, Blow, Measure]], count: int
    ) -> Iterator[Planned]:
        """What picks up is killed, and what picks that up as well; of one in three a third, too."""
        for number in range(count):
            scene, first, measure = self._random.choice(firsts)
            blows = [first, *(self._any(measure) for _ in range(3 if number % 3 == 0 else 2))]
            yield self._killed("restore of a restore", scene, blows)

    def at_random_moments(self, measures: list[tuple[Scene, Measure]]) -> Iterator[Planned]:
        """Any time while a reset runs; two tables at once in a smaller share.

        There each step is a process, and a run takes long and mostly starts processes: they are
        hit at a random statement instead, the run's worker alone or all of it.
        """
        at_once = max(1, self.kills // 20)
        statements = len(measures[0][1].statements)
        for number in range(at_once):
            alone = number % 2 == 0
            blow = Blow(
                self._random.choice(_SOCKET),
                self._random.randint(statements // 2, statements * 2),
                alone=alone,
            )
            kind = f"two at once, {'the worker alone' if alone else 'the whole group'}"
            yield self._killed(kind, TWO_AT_ONCE, [blow])
        for _ in range(self.kills - at_once):
            scene, measure = self._random.choice(measures)
            moment = self._random.randint(0, measure.milliseconds)
            yield self._killed("reset, a random moment", scene, [Blow(Where.AT_MOMENT, moment)])

    def _killed(self, kind: str, scene: Scene, blows: list[Blow]) -> Planned:
        through, by = self._turn()

        def play(trial: Trial) -> None:
            first, *others = blows
            trial.reset(first, through)
            for turn, blow in enumerate(others):
                trial.recover(by[turn % 2], blow)
            trial.settle(by)

        about = f"{through}, {by[0]} first: {', then '.join(map(str, blows))}"
        return Planned(kind, scene, play, about)

    # --- a run is stopped, and goes on when others have done its work -----------------------

    def zombies_at_statements(self, scene: Scene, measure: Measure) -> Iterator[Planned]:
        """Stopped at every statement of a reset."""
        for where in _SOCKET:
            for number in range(len(measure.statements)):
                yield self._stopped(scene, Blow(where, number + 1, stop=True))

    def zombies_at_writes(self, scene: Scene, measure: Measure) -> Iterator[Planned]:
        """Stopped after every write of a reset.

        Not before a commit: whoever is stopped there has the store's only write lock, and nobody
        can take anything over.
        """
        for number in range(measure.commits):
            yield self._stopped(scene, Blow(Where.AFTER_COMMIT, number + 1, stop=True))

    def _stopped(self, scene: Scene, blow: Blow) -> Planned:
        through, by = self._turn()

        def play(trial: Trial) -> None:
            run = trial.reset(blow, through)
            if not run.ended.is_set():
                trial.declare_dead()
                while trial.recover(by[0]) is not None:
                    pass
                before = len(trial.oracle.changes)
                run.go_on()
                run.wait()
                if trial.verdict.owed:
                    trial.oracle.zombie_sent(before)
            trial.settle(by)

        store = "write" if blow.where in _STORE else "statement"
        return Planned(f"zombie, {store}", scene, play, f"{through}, {by[0]}: {blow}")

    def zombies_during_the_recovery(self, scene: Scene, measure: Measure) -> Iterator[Planned]:
        """Awake again while its ticket is another's and still open: the epoch alone is in its way.

        Whoever has taken it over is stopped meanwhile, after one of its first writes.
        """
        for number in range(measure.commits):
            yield self._awake(scene, Blow(Where.AFTER_COMMIT, number + 1, stop=True))

    def _awake(self, scene: Scene, blow: Blow) -> Planned:
        through, by = self._turn()
        # The first lets go of the cluster, the second takes the ticket over.
        meanwhile = Blow(Where.AFTER_COMMIT, self._random.randint(2, 4), stop=True)

        def play(trial: Trial) -> None:
            run = trial.reset(blow, through)
            if not run.ended.is_set():
                trial.declare_dead()
                recovery = trial.recover(by[0], meanwhile)
                taken = any(ticket.epoch > 1 for ticket in trial.oracle.open_tickets())
                before = len(trial.oracle.changes)
                run.go_on()
                run.wait()
                if taken:
                    trial.oracle.zombie_sent(before)
                if recovery is not None and not recovery.ended.is_set():
                    recovery.go_on()
                    recovery.wait()
            trial.settle(by)

        about = f"{through}, {by[0]}: {blow}, and the recovery {meanwhile}"
        return Planned("zombie, during the recovery", scene, play, about)

    # --- the store refuses ------------------------------------------------------------------

    def store_refuses(self, scene: Scene) -> Iterator[Planned]:
        """A write that must come before the first ALTER fails: nothing may be sent."""
        for table, what in _BEFORE_THE_ALTER:
            yield self._refused(scene, table, what)

    def _refused(self, scene: Scene, table: str, what: str) -> Planned:
        through, by = self._turn()

        def play(trial: Trial) -> None:
            trial.break_store(table, what)
            trial.reset(None, through)
            sent = [f"{entry.stmt} without its ticket" for entry in trial.oracle.changes]
            trial.oracle.broken.late_ticket += sent
            trial.mend_store()
            trial.settle(by)

        return Planned("store refuses", scene, play, f"{through}: {what} on {table}")

    # --- choices ----------------------------------------------------------------------------

    def some(self, trials: Iterator[Planned], count: int) -> list[Planned]:
        """Return all of them; in a short proof a seeded choice of so many."""
        every = list(trials)
        if not self.short or len(every) <= count:
            return every
        chosen = sorted(self._random.sample(range(len(every)), count))
        return [every[number] for number in chosen]

    def _all(self, measure: Measure) -> Iterator[tuple[str, Blow]]:
        for where in _SOCKET:
            for number in range(len(measure.statements)):
                yield str(where), Blow(where, number + 1)
        for where in _STORE:
            for number in range(measure.commits):
                yield str(where), Blow(where, number + 1)

    def _any(self, measure: Measure) -> Blow:
        return self._random.choice(list(self._all(measure)))[1]

    def _turn(self) -> tuple[Through, tuple[By, By]]:
        self._made += 1
        through = (Through.JOB, Through.COMMAND)[self._made % 2]
        by = (By.SENSOR, By.RESUME) if self._made // 2 % 2 else (By.RESUME, By.SENSOR)
        return through, by


def first_blows(measure: Measure) -> list[Blow]:
    """Return where a reset of one table is killed to leave each state that a restore can meet."""
    zero, back = measure.numbers_of("ALTER TABLE")
    (nudge,) = measure.numbers_of("OPTIMIZE")
    return [
        Blow(Where.ARRIVES, zero),
        Blow(Where.APPLIED, zero),
        Blow(Where.APPLIED, nudge),
        Blow(Where.ARRIVES, back),
    ]


#: A table for each first blow.
RESTORED = (single("0-1"), single("2"), single("0-all"), single("1-all"))
