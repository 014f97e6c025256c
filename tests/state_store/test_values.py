"""Whatever CrateDB calls a thing, it comes back as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caretaker.errors import RefusedError
from caretaker.translog.model import PartitionRef, TableRef
from resources.state_store import OutcomeRow

#: Names as PostgreSQL's text can hold them: everything but NUL and lone surrogates.
names = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=20
)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
tables = st.builds(TableRef, names, names)
targets = st.one_of(
    tables,
    st.builds(
        PartitionRef, tables, names, st.lists(st.tuples(names, values), max_size=4).map(tuple)
    ),
)
times = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)

# A store is opened once for all examples: each makes rows of its own.
many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def spelled(value):
    """The value with its type and sign, which == forgets: True == 1 == 1.0, 0.0 == -0.0."""
    sign = math.copysign(1, value) if isinstance(value, float) else None
    return type(value), sign, value


@many
@given(target=targets, at=times, replicas=names, size=st.integers(-(2**63), 2**63 - 1))
def test_a_ticket_of_any_table_comes_back_exactly(
    store, new_ticket, clock, target, at, replicas, size
):
    made = replace(new_ticket(target), created_at=at, original_replicas=replicas, worst_bytes=size)
    stored = store.open_ticket(made)
    read = store.ticket(stored.id)
    store.close_ticket(
        read,
        OutcomeRow.of_ticket(read, outcome="SKIPPED", ended_at=clock(), final_replicas=None),
    )

    assert replace(read, id=0, heartbeat_at=None) == made
    assert read.created_at.tzinfo is UTC
    if isinstance(target, PartitionRef):
        assert isinstance(read.target, PartitionRef)
        assert [(name, spelled(value)) for name, value in read.target.values] == [
            (name, spelled(value)) for name, value in target.values
        ]


@many
@given(text=st.text(st.characters(categories=["L", "Cc", "Cs"]), max_size=20))
def test_any_text_can_be_audited(store, new_ticket, clock, text):
    """An odd byte in an error message must not lose the message, nor stop the restore."""
    ticket = store.open_ticket(new_ticket())
    sent = store.begin_statement(ticket, text)
    store.end_statement(sent, "refused", text)
    failed = store.record_failure(ticket, text, None)
    store.close_ticket(
        failed,
        OutcomeRow.of_ticket(
            failed, outcome="SKIPPED", ended_at=clock(), final_replicas=None, statements=(text,)
        ),
    )
    [row] = store.statements(ticket.id)
    shown = text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    assert (row.sql_text, row.error, failed.reason) == (shown, shown, shown)
    assert store.outcomes(limit=1)[0].statements in ((text,), ())


@pytest.mark.parametrize("name", ["a\x00b", "a\ud800b"])
def test_a_name_that_cannot_be_kept_exactly_is_refused(store, new_ticket, name):
    with pytest.raises(RefusedError, match="cannot be stored"):
        store.open_ticket(new_ticket(name))
    assert store.open_tickets() == []


def test_a_time_without_a_zone_is_refused(store, new_ticket):
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(RefusedError, match="no time zone"):
        store.open_ticket(replace(new_ticket(), created_at=naive))


def test_a_number_too_large_for_a_column_is_refused(store, new_ticket):
    with pytest.raises(RefusedError):
        store.open_ticket(replace(new_ticket(), worst_bytes=2**64))
