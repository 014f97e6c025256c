"""No name and no value from a catalog becomes anything but a name or a value."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.errors import RefusedError
from caretaker.identifiers import quote_column_path, quote_identifier, quote_literal
from caretaker.translog.model import PartitionRef, TableRef
from resources.sql.cratedb import set_replicas

printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
tricky = st.text(st.sampled_from(list("\"'?;-[]a ")), min_size=1, max_size=12)
names = printable | tricky


def unquoted(text: str, quote: str) -> str:
    """What an SQL scanner reads, or an error where the text ends inside or after the quotes."""
    assert len(text) > 1
    assert text[0] == text[-1] == quote
    inside = text[1:-1]
    assert quote not in inside.replace(quote * 2, "")
    return inside.replace(quote * 2, quote)


@given(names)
def test_a_name_reads_back_as_the_very_name(name):
    assert unquoted(quote_identifier(name), '"') == name


@given(names, st.sampled_from([chr(n) for n in range(160) if unicodedata.category(chr(n)) == "Cc"]))
def test_a_control_character_is_refused_wherever_it_stands(name, control):
    for broken in (control + name, name + control, name + control + name):
        with pytest.raises(RefusedError, match="control character"):
            quote_identifier(broken)


def test_the_empty_name_is_refused():
    with pytest.raises(RefusedError, match="empty name"):
        quote_identifier("")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | tricky)
def test_a_text_reads_back_as_the_very_text(value):
    assert unquoted(quote_literal(value), "'") == value


@pytest.mark.parametrize(
    ("value", "literal"),
    [(None, "NULL"), (True, "TRUE"), (False, "FALSE"), (0, "0"), (-7, "-7"), (1.5, "1.5")],
)
def test_what_is_no_text_is_not_quoted(value, literal):
    assert quote_literal(value) == literal


def test_a_text_with_nul_cannot_be_pasted():
    with pytest.raises(RefusedError, match="NUL"):
        quote_literal("a\0b")


@given(tricky.filter(lambda base: "[" not in base))
def test_only_the_base_of_a_partition_column_is_a_name(base):
    quoted = quote_column_path(f"{base}['a']['b']")
    assert quoted.endswith("['a']['b']")
    assert unquoted(quoted.removesuffix("['a']['b']"), '"') == base


@given(schema=names, name=names, value=names)
def test_a_statement_to_paste_has_each_value_in_its_place(schema, name, value):
    """Question marks inside names and texts are characters, not placeholders."""
    target = PartitionRef(TableRef(schema, name), "p", (("c?", value),))
    statement = set_replicas(target, "0-1")
    assert statement.args == (value, "0-1")
    assert statement.rendered == (
        f"ALTER TABLE {quote_identifier(schema)}.{quote_identifier(name)}"
        f' PARTITION ("c?" = {quote_literal(value)}) SET ("number_of_replicas" = \'0-1\')'
    )
