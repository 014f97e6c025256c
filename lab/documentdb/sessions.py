"""What a session did last, kept in the engine: so nothing is applied twice, restart or not.

A transaction writes its number into this table just before it commits, as does a write that may be
sent again, with its reply. So whether it was committed is known for as long as its data are.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.documentdb.engine import Engine, Pg

_TABLE = """
CREATE SCHEMA IF NOT EXISTS front;
CREATE TABLE IF NOT EXISTS front.sessions (
    id bytea PRIMARY KEY,
    number bigint NOT NULL,
    outcome text NOT NULL,
    reply bytea
)
"""

#: No row comes back where the session is as far already, or further.
_NOTE = """
INSERT INTO front.sessions AS known (id, number, outcome, reply) VALUES (%s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE
SET number = excluded.number, outcome = excluded.outcome, reply = excluded.reply
WHERE known.number < excluded.number
RETURNING number
"""

_LAST = "SELECT number, outcome, reply FROM front.sessions WHERE id = %s"

COMMITTED, ABORTED = "committed", "aborted"


@dataclass(frozen=True)
class Last:
    """The last that a session is known to have done."""

    number: int
    outcome: str
    reply: bytes | None


def prepare(engine: Engine) -> None:
    """Make the table, where it is not there yet."""
    with engine.connection() as pg:
        pg.execute(_TABLE)


def note(
    pg: Pg, session: bytes, number: int, outcome: str = COMMITTED, reply: bytes | None = None
) -> bool:
    """Write down what is about to be committed; False where it was done, or overtaken, before."""
    return pg.execute(_NOTE, (session, number, outcome, reply)).fetchone() is not None


def last(pg: Pg, session: bytes) -> Last | None:
    """Return what is known of a session."""
    row = pg.execute(_LAST, (session,)).fetchone()
    return None if row is None else Last(*row)


def settle(pg: Pg, session: bytes, number: int) -> Last:
    """Return how a transaction ended of which we know nothing; from now on it has ended.

    One that a dead front left behind may be about to commit: this waits for it, and one that has
    not got that far never will.
    """
    note(pg, session, number, ABORTED)
    found = last(pg, session)
    if found is None:
        raise RuntimeError("a session's row has vanished")
    return found
