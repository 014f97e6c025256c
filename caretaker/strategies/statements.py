"""Every statement that changes a cluster, with names and sizes that came from somebody's catalog.

DDL takes no parameters, so names and sizes are quoted here. Held against Materialize's own parser
(materialize.md 6), hostile names and sizes included.
"""

from __future__ import annotations

import math
import re
import unicodedata

from caretaker.identifiers import quote_identifier, quote_literal

#: Materialize's longest identifier.
MAX_NAME_BYTES = 255

#: Only the end of a statement is ours alone: names and sizes stand before it.
_WAITS = re.compile(r" WITH \(WAIT UNTIL READY \(TIMEOUT '(\d+)s', ON TIMEOUT ROLLBACK\)\)\Z")
_FACTOR = re.compile(r" SET \(REPLICATION FACTOR (\d+)\)\Z")

#: So few characters are never too many bytes, at four each.
_SURELY_SHORT = MAX_NAME_BYTES // 4


def create_replica(cluster: str, replica: str, size: str) -> str:
    r"""Return the statement that adds a replica to an unmanaged cluster.

    >>> create_replica("prod", "r_50cc", "50cc")
    'CREATE CLUSTER REPLICA "prod"."r_50cc" (SIZE \'50cc\')'
    """
    name = f"{quote_identifier(cluster)}.{quote_identifier(replica)}"
    return f"CREATE CLUSTER REPLICA {name} (SIZE {quote_literal(size)})"


def drop_replica(cluster: str, replica: str) -> str:
    """Return the statement that takes a replica away; without IF EXISTS, so that a loss is seen."""
    return f"DROP CLUSTER REPLICA {quote_identifier(cluster)}.{quote_identifier(replica)}"


def set_size(cluster: str, size: str, timeout_s: float) -> str:
    """Return the statement that has a managed cluster change size without downtime.

    ON TIMEOUT is COMMIT unless said otherwise: the old replicas would go, ready or not.
    """
    return (
        f"ALTER CLUSTER {quote_identifier(cluster)} SET (SIZE = {quote_literal(size)})"
        f" WITH (WAIT UNTIL READY (TIMEOUT '{math.ceil(timeout_s)}s', ON TIMEOUT ROLLBACK))"
    )


def seconds_to_wait(statement: str) -> float | None:
    """Return how long a statement of `set_size` waits at most; None for every other one.

    >>> seconds_to_wait(set_size("prod", "50cc", 600))
    600.0
    >>> seconds_to_wait(set_replication_factor("TIMEOUT '9s', ON TIMEOUT ROLLBACK))", 0))
    """
    match = _WAITS.search(statement)
    return float(match[1]) if match else None


def set_replication_factor(cluster: str, factor: int) -> str:
    """Return the statement that gives a managed cluster so many replicas; 0 suspends it."""
    return f"ALTER CLUSTER {quote_identifier(cluster)} SET (REPLICATION FACTOR {factor})"


def factor_of(statement: str) -> int | None:
    """Return the factor that a statement of `set_replication_factor` sets; None for another.

    >>> factor_of(set_replication_factor("prod", 2))
    2
    """
    match = _FACTOR.search(statement)
    return int(match[1]) if match else None


def why_unwritable(name: str) -> str:
    r"""Return why `name` can stand in no statement; '' where it can.

    >>> why_unwritable('a "b"; c')
    ''
    >>> why_unwritable("a\0b")
    'contains a control character'
    """
    if name.isprintable() and 0 < len(name) <= _SURELY_SHORT:
        return ""
    if not name:
        return "is empty"
    kinds = {unicodedata.category(character) for character in name}
    if "Cc" in kinds:
        return "contains a control character"
    if "Cs" in kinds:
        return "contains half of a surrogate pair"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return ""


def free_name(base: str, taken: set[str]) -> str | None:
    """Return `base`, or `base_2`, `base_3`... where it is taken; None where that is too long.

    >>> free_name("prod_burst", {"prod_burst", "prod_burst_2"})
    'prod_burst_3'
    """
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return None if why_unwritable(name) else name
