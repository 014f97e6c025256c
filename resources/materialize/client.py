"""Materialize as we see it: who is there, what its clusters are like, and one change at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from caretaker.errors import RefusedError
from caretaker.strategies.statements import seconds_to_wait
from caretaker.strategies.truth import ClusterNow
from resources.materialize.failures import is_undefined
from resources.materialize.session import Session
from resources.materialize.settings import DATABASE_URL, DatabaseSettings
from resources.materialize.types import aware
from resources.sql import materialize as sql

#: What Materialize does after the time that it was given for a reconfiguration takes a moment.
WAITED_ON_S = 30.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers, and as whom it knows us.

    Attributes:
        environment: Of all sessions of this environment the same, and of no other's.
        now: The server's time.
    """

    version: str
    environment: str
    role: str
    now: datetime
    superuser: bool


class Materialize:
    """Reads are statements of their own, none of them in a transaction; so are changes."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """Take the settings; nothing is connected yet."""
        self.settings = settings
        self.session = Session(settings)

    @property
    def shown(self) -> str:
        """As messages name it."""
        return self.settings.shown

    def identity(self) -> Identity:
        """Return who answers; RefusedError where it is no Materialize."""
        try:
            ((version, environment, role, now),) = self.session.rows(sql.IDENTITY)
        except RefusedError as error:
            if is_undefined(error):
                raise RefusedError(
                    f"{self.shown} is no Materialize: {error}",
                    target=DATABASE_URL,
                    hint=f"{DATABASE_URL} is where Materialize listens; tables in PostgreSQL have"
                    " a URL of their own",
                ) from None
            raise
        at = aware(now)
        if at is None:
            raise RefusedError(f"{self.shown} does not say what time it is", target=DATABASE_URL)
        superuser = self.session.parameter("is_superuser") == "on"
        return Identity(str(version), str(environment), str(role), at.astimezone(UTC), superuser)

    def session_cluster(self) -> str:
        """Return the cluster that runs our queries of tables; catalog queries need none."""
        ((name,),) = self.session.rows(sql.SESSION_CLUSTER)
        return str(name)

    def columns(self) -> dict[str, set[str]]:
        """Return which columns the relations have that we would read, by full name."""
        found: dict[str, set[str]] = {}
        for schema, relation, column in self.session.rows(*sql.columns(sql.RELATIONS)):
            found.setdefault(f"{schema}.{relation}", set()).add(column)
        return found

    def cluster_now(self, cluster_id: str) -> ClusterNow | None:
        """Return a cluster as it is at this moment; None where there is none of this id."""
        rows = self.session.rows(sql.CLUSTER_NOW, (cluster_id,))
        if not rows:
            return None
        name, managed, size, factor, *_ = rows[0]
        replicas = {row[4]: (row[5], row[6]) for row in rows if row[4] is not None}
        return ClusterNow(name, bool(managed), size, factor, replicas)

    def cluster_names(self) -> dict[str, str]:
        """Return the names of all clusters, by id."""
        return {row[0]: str(row[1]) for row in self.session.rows(sql.CLUSTERS.sql)}

    def change(self, statement: str) -> None:
        """Send one of `caretaker.strategies.statements`, once.

        Outside a transaction: inside one it would be acknowledged at once and fail at COMMIT.
        Raises as `Session.change` does.
        """
        waits = seconds_to_wait(statement)
        within_s = None if waits is None else waits + WAITED_ON_S
        self.session.change(statement, within_s=within_s)

    def clusters_of_others(self, role: str) -> list[str]:
        """Return the names of clusters that this role does not own."""
        return [str(name) for (name,) in self.session.rows(sql.CLUSTERS_OF_OTHERS, (role,))]

    def lives(self, since: datetime) -> list[tuple[Any, ...]]:
        """Return every replica that lived since a time: see `resources.sql.materialize.LIVES`."""
        return self.session.rows(sql.LIVES.sql, (since,))

    def close(self) -> None:
        """Close the connection; the next statement would open another one."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
