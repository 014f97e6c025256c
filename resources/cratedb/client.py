"""The CrateDB client: observe, change once, and know which cluster it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from caretaker.errors import CaretakerError, InvalidSettingError, RefusedError, TransientError
from caretaker.translog.model import (
    ClusterObservation,
    PartitionRef,
    TableObservation,
    TableRef,
    Target,
    target_key,
)
from resources.cratedb import cluster as cluster_rows
from resources.cratedb import tables as table_rows
from resources.cratedb.changes import send_once
from resources.cratedb.hosts import Rota
from resources.cratedb.reads import Reader
from resources.cratedb.settings import CONNECTION_STRING, CrateDBSettings
from resources.cratedb.tables import Key, Row
from resources.cratedb.wire import wrong_scheme
from resources.sql import cratedb as sql
from resources.sql.cratedb import Statement

#: How long a host may take to say which cluster it belongs to: it is one row in memory.
IDENTITY_TIMEOUT_S = 10.0

_NO_PRIVILEGE = 4011
_NO_RELATION = 4041
_NO_COLUMN = 4043
_NO_SCHEMA = 4045


@dataclass(frozen=True, slots=True)
class Connected:
    """Which cluster answered.

    Attributes:
        versions: Of each node, by name; none where it is for a restore.
        unreachable: Why a host did not answer, by host; the others did.
    """

    cluster_id: str
    cluster_name: str
    versions: Mapping[str, str]
    unreachable: Mapping[str, str]


class CrateDBClient:
    """One CrateDB cluster, by its HTTP hosts. Nothing is sent before the first call.

    Reads try each host once; changes are sent once. TransientError: nothing was applied, try
    again. RefusedError: no, with `status` and `code`. UnknownResultError: look first.
    """

    def __init__(self, settings: CrateDBSettings) -> None:
        self.settings = settings
        self._tls = settings.tls_context()
        self._rota = Rota(settings.hosts)
        self._reader = Reader(settings, self._rota, self._tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that reads have kept."""
        self._reader.close()

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that changes nothing."""
        return self._read(self._reader, statement)

    def change(
        self,
        statement: Statement,
        *,
        timeout_s: float | None = None,
        just_before: Callable[[], None] = lambda: None,
    ) -> None:
        """Send a statement that changes something, once; see `resources.cratedb.changes`.

        `timeout_s` for a statement that is known to take long: DECOMMISSION answers when the node
        is drained. `just_before` may still stop it, by raising.
        """
        settings = self.settings
        if timeout_s is not None:
            settings = replace(settings, statement_timeout_s=timeout_s)
        try:
            send_once(settings, self._rota, self._tls, statement, just_before=just_before)
        except CaretakerError as error:
            error.target = statement.target or error.target
            raise

    def connect(self, *, for_restore: bool = False) -> Connected:
        """Ask every host which cluster it belongs to, and each node for its version.

        Hosts of two clusters in one list, a host that is no CrateDB, wrong credentials, and servers
        older than 5.10 are refused; a host that cannot be reached is listed as long as another can.
        `for_restore` lists whatever host is of no use, and asks for no version: what was promised
        is honoured by the hosts that are left.
        """
        # One silent host after the other must not add up to minutes.
        patience = replace(
            self.settings,
            statement_timeout_s=min(IDENTITY_TIMEOUT_S, self.settings.statement_timeout_s),
        )
        identities: dict[str, Row] = {}
        unreachable: dict[str, str] = {}
        refused: list[RefusedError] = []
        for host in self.settings.hosts:
            reader = Reader(patience, Rota((host,)), self._tls)
            try:
                identities[host] = self._identity(host, reader)
            except TransientError as error:
                advice = wrong_scheme(host, self._tls)
                if advice and not for_restore:
                    raise RefusedError(f"{host}: {advice}", target=host) from error
                unreachable[host] = advice or str(error)
                self._rota.demote(host)
            except RefusedError as error:
                if not for_restore:
                    raise
                refused.append(error)
                unreachable[host] = str(error)
                self._rota.demote(host)
            finally:
                reader.close()
        if len(refused) == len(self.settings.hosts):
            raise refused[0]
        if not identities:
            raise TransientError("; ".join(unreachable.values()), target=CONNECTION_STRING)
        cluster_id, name = self._the_only_cluster(identities)
        # Each node is asked for its version, and one that hangs must not keep a table at 0.
        versions = {} if for_restore else dict(self.read(Statement(sql.NODE_VERSIONS)))
        for node, version in versions.items():
            if cluster_rows.is_too_old(version):
                raise RefusedError(
                    f"node {node} runs CrateDB {version}: caretaker needs 5.10 or newer",
                    target=node,
                )
        return Connected(cluster_id, name, versions, unreachable)

    def observe_tables(self, *, copies: bool = True) -> list[TableObservation]:
        """Return every user table and partition, without leases, in three queries.

        Without `copies` only what the catalog says, in two.
        """
        return table_rows.observations(
            self.read(Statement(sql.TABLES)),
            self.read(Statement(sql.PARTITIONS)),
            self.read(Statement(sql.SHARDS)) if copies else [],
        )

    def observe(
        self, target: Target, *, copies: bool = True, cluster_id: str = ""
    ) -> TableObservation | None:
        """Return one table or partition with its leases, in two queries.

        Without `copies` only what the catalog says, in one: any node answers it from its own
        cluster state, while `sys.shards` waits for every node.

        None when the catalog does not show it: it was dropped, or a privilege was removed, which
        look alike. A table that is partitioned is refused: it is looked after by partition.
        """
        schema, name, ident = key = target_key(target)
        row, answered_by = self._catalog_row(target)
        if row is None:
            return None
        if cluster_id and answered_by not in {None, cluster_id}:
            raise TransientError(
                f"cluster {answered_by} answered for {target}, and not {cluster_id}: "
                f"{CONNECTION_STRING} leads to two clusters",
                target=target,
            )
        shards = (
            self.read(Statement(sql.SHARDS_WITH_LEASES, (schema, name, ident))) if copies else []
        )
        found = table_rows.copies_with_leases(shards)
        if isinstance(target, PartitionRef):
            lost = found.get(table_rows.missing_ident(target), ())
            return table_rows.partition_observation(target, row, found.get(key, ()), lost)
        _refuse_partitioned(target, row)
        return table_rows.table_observation(row, found.get(key, ()))

    def _catalog_row(self, target: Target) -> tuple[Row | None, str | None]:
        """Return a target's row of TABLES or PARTITIONS, and which cluster gave it, where told."""
        schema, name, ident = target_key(target)
        signed, plain, values = (
            (sql.PARTITION, sql.PARTITION_WITHOUT_SYS, (schema, name, ident))
            if isinstance(target, PartitionRef)
            else (sql.TABLE, sql.TABLE_WITHOUT_SYS, (schema, name))
        )
        try:
            rows = self.read(Statement(signed, values))
        except RefusedError as error:
            # A privilege on sys that was removed must not keep a table from its restore.
            if error.code not in {_NO_PRIVILEGE, _NO_SCHEMA}:
                raise
            rows = self.read(Statement(plain, values))
            return (rows[0] if rows else None), None
        return (rows[0][:-1], rows[0][-1]) if rows else (None, None)

    def observe_cluster(self, own: frozenset[Key] = frozenset()) -> ClusterObservation:
        """Return the cluster as it is now, in ten queries whatever its size.

        `own` are the tables that this run has under way; only to tell whose an unassigned copy is.
        """
        cluster_id, name, master, enable, watermark, budget, user = self._one(sql.CLUSTER)
        nodes = cluster_rows.nodes(self._nodes())
        sick = cluster_rows.unhealthy(self.read(Statement(sql.UNHEALTHY)))
        moving = cluster_rows.moving(self.read(Statement(sql.MOVING)), sick, own)
        open_shards, primaries = self._one(sql.SHARD_COUNTS)
        relations = self.read(Statement(sql.VISIBLE_RELATIONS))
        snapshots = self._one(sql.RUNNING_SNAPSHOTS)[0]
        decommissions, writing_snapshot = self._one(sql.RUNNING_JOBS)
        superuser = self._superuser(user)
        health, missing, underreplicated = self._health() or (
            cluster_rows.health_of_visible(master, sick, sees_everything=superuser is True),
            None,
            None,
        )
        return ClusterObservation(
            id=cluster_id,
            name=name,
            master_node=master,
            health=health,
            missing_shards=missing,
            underreplicated_shards=underreplicated,
            nodes=nodes,
            allocation_enable=enable,
            unhealthy=sick,
            moving=moving,
            open_shards=open_shards,
            max_shards_per_node=budget,
            low_watermark=watermark,
            # A snapshot that somebody waits for is in both places, one that nobody waits for only
            # in sys.snapshots.
            running_snapshots=max(snapshots, writing_snapshot),
            decommissions=decommissions,
            user=user,
            superuser=superuser,
            visible_tables=sum(row[0] for row in relations),
            visible_primaries=primaries,
            expected_primaries=sum(row[1] or 0 for row in relations),
        )

    def _one(self, text: str) -> Row:
        """Return the row of a question that has exactly one; without it nothing was answered."""
        rows = self.read(Statement(text))
        if not rows:
            raise TransientError(f"CrateDB answered without a row: {' '.join(text.split()):.80}")
        return rows[0]

    def _read(self, reader: Reader, statement: Statement) -> list[tuple[Any, ...]]:
        try:
            return reader.read(statement)
        except RefusedError as error:
            # Who has no privilege there is told that the schema does not exist (seen live).
            blind = error.code == _NO_SCHEMA and "'sys'" in str(error)
            if not blind and error.code != _NO_PRIVILEGE:
                raise
            user = self.settings.username or "crate"
            grant = sql.grant_dql_on_sys(user).rendered
            raise RefusedError(
                f"{user} may not read the system tables, privilege DQL on schema sys is missing; "
                f"as a superuser: {grant}",
                target=error.target,
                hint=grant,
                status=error.status,
                code=error.code,
            ) from error

    def _identity(self, host: str, reader: Reader) -> tuple[Any, ...]:
        rows = self._read(reader, Statement(sql.CLUSTER_IDENTITY))
        if len(rows) != 1 or len(rows[0]) != 2 or not rows[0][0]:  # noqa: PLR2004 - id, name
            raise RefusedError(
                f"{host} answered, but not like CrateDB: {rows!r:.80} for its id and name",
                target=host,
            )
        return rows[0]

    def _the_only_cluster(self, identities: Mapping[str, Row]) -> Row:
        if len({row[0] for row in identities.values()}) > 1:
            found = ", ".join(f"{host} in {row[1]} ({row[0]})" for host, row in identities.items())
            raise InvalidSettingError(CONNECTION_STRING, found, "hosts of one and the same cluster")
        return next(iter(identities.values()))

    def _nodes(self) -> list[tuple[Any, ...]]:
        try:
            return self.read(Statement(sql.NODES))
        except RefusedError as error:
            if error.code != _NO_COLUMN:
                raise
            return self.read(Statement(sql.NODES_WITHOUT_ROLES))

    def _health(self) -> tuple[str | None, int | None, int | None] | None:
        """The row of sys.cluster_health, or None where there is no such table (before 6.0)."""
        try:
            health, missing, underreplicated = self._one(sql.CLUSTER_HEALTH)
        except RefusedError as error:
            if error.code != _NO_RELATION:
                raise
            return None
        return health, missing, underreplicated

    def _superuser(self, user: str) -> bool | None:
        try:
            rows = self.read(Statement(sql.SUPERUSER, (user,)))
        except RefusedError:
            return None
        return bool(rows[0][0]) if rows else None


def _refuse_partitioned(table: TableRef, row: Row) -> None:
    if row[5]:
        raise RefusedError(
            f"{table} is partitioned by {', '.join(row[5])}: look after its partitions, "
            "a change to the table would change them all",
            target=table,
        )
