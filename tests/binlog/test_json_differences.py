"""JSON differences that servers do not send today, or must not, made by hand."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from caretaker.binlog.bson_writer import DOCUMENT
from caretaker.binlog.json_diff import apply_differences, parse_path
from caretaker.errors import CorruptEventError

REPLACE, INSERT, REMOVE = 0, 1, 2
#: Binary JSON of the number 7.
SEVEN = b"\x05\x07\x00"


def after(before: dict[str, Any], *differences: bytes) -> dict[str, Any]:
    code, document = apply_differences((DOCUMENT, bson.encode(before)), b"".join(differences))
    assert code == DOCUMENT
    return bson.decode(document)


def difference(operation: int, path: str, value: bytes = SEVEN) -> bytes:
    raw = path.encode()
    length = bytes((len(raw),)) if len(raw) < 251 else b"\xfc" + len(raw).to_bytes(2, "little")
    head = bytes((operation,)) + length + raw
    return head if operation == REMOVE else head + bytes((len(value),)) + value


@pytest.mark.parametrize(("place", "cells"), [(0, [7, 1, 2]), (1, [1, 7, 2]), (9, [1, 2, 7])])
def test_a_cell_is_inserted_where_the_path_says(place, cells):
    assert after({"a": [1, 2]}, difference(INSERT, f"$.a[{place}]")) == {"a": cells}


def test_several_differences_are_applied_in_their_order():
    done = after(
        {"a": [1, 2], "b": {"c": 3}},
        difference(REMOVE, "$.a[0]"),
        difference(REPLACE, "$.a[0]"),
        difference(INSERT, "$.b.d"),
        difference(REMOVE, "$.b.c"),
    )
    assert done == {"a": [7], "b": {"d": 7}}


def test_a_new_key_stands_where_the_server_keeps_it():
    assert list(after({"b": 1, "aa": 2}, difference(INSERT, "$.a"))) == ["a", "b", "aa"]


@pytest.mark.parametrize(
    "raw",
    [
        difference(REPLACE, "$.missing"),
        difference(REMOVE, "$.missing"),
        difference(REMOVE, "$"),
        difference(INSERT, "$.a"),
        difference(REPLACE, "$.a[2]"),
        difference(REMOVE, "$.a[2]"),
        difference(REPLACE, "$.a.b"),
        difference(REPLACE, "$[0]"),
        difference(REPLACE, "a"),
        difference(REPLACE, '$."a'),
        difference(3, "$.a"),
        difference(REPLACE, "$.a")[:-1],
        difference(REPLACE, "$" + "[0]" * 101),
    ],
)
def test_a_difference_that_does_not_fit_is_corrupt(raw):
    """What the trail would say otherwise is a guess."""
    with pytest.raises(CorruptEventError):
        after({"a": [1, 2]}, raw)


@pytest.mark.parametrize(
    ("path", "legs"),
    [
        ("$", []),
        ("$.a[10].b", [b"a", 10, b"b"]),
        ('$."a.b"[0]', [b"a.b", 0]),
        (r'$."q\"t"."\\"', [b'q"t', b"\\"]),
        ('$.""', [b""]),
        ("$.é", ["é".encode()]),
    ],
)
def test_paths_are_read_as_the_server_writes_them(path, legs):
    assert parse_path(path.encode()) == legs
