"""Materialize's own types are what they are, though psycopg knows none of them."""

from __future__ import annotations

import psycopg
import pytest


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7::uint2", 7),
        ("4294967295::bigint::uint4", 4294967295),
        ("9223372036854775807::bigint::uint8", 9223372036854775807),
        ("1700000000000::bigint::mz_timestamp", 1700000000000),
        ("ARRAY['a', 'b,c', NULL, 'd\"e']::text[]::list", ["a", "b,c", None, 'd"e']),
        ("'{}'::list", []),
        ("ARRAY[1::bigint::uint8, 2::bigint::uint8]", [1, 2]),
        ("NULL::uint8", None),
        ("'2026-01-15T12:00:00Z'::timestamptz > '-infinity'", True),
        ("'infinity'::timestamptz", None),
    ],
)
def test_a_value_is_what_it_is(lab, connect, expression, value):
    """Where a plain client gets text: '7', '{a,b}'."""
    source = connect(lab.url)
    ((found,),) = source.session.rows(f"SELECT {expression}")

    assert (found, type(found)) == (value, type(value))


def test_a_plain_client_would_get_text(lab):
    """The lab sends the very OIDs of Materialize, or the test above would prove nothing."""
    with psycopg.connect(lab.url) as plain:
        assert plain.execute("SELECT 7::uint2").fetchone() == ("7",)


def test_columns_of_the_catalog_are_read_as_they_are(lab, connect):
    lab.managed_cluster("m", "25cc", 2)
    rows = connect(lab.url).session.rows(
        "SELECT replication_factor, availability_zones FROM mz_catalog.mz_clusters WHERE name = 'm'"
    )

    assert rows == [(2, [])]
