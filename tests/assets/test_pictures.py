"""Pictures are small, true to their numbers, and never the reason why a run fails."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from caretaker.translog.outcome import ResetOutcome
from ops.pictures import (
    Bar,
    Fate,
    Line,
    ResetPoint,
    backlog_picture,
    embedded,
    growth_picture,
    resets_picture,
)

NOW = datetime(2026, 1, 30, 9, tzinfo=UTC)
SINCE = NOW - timedelta(days=30)
BLUE, ORANGE, GREEN, RED = (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0)


def opened(png):
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGB")


def has(png, colour):
    """Whether a picture has more than a speck that is about this colour."""
    counts = opened(png).getcolors(100_000) or []
    near = sum(
        count
        for count, pixel in counts
        if all(abs(a - b) < 14 for a, b in zip(pixel, colour, strict=True))
    )
    return near > 15


def bars(count, percentage=250.0, fate=Fate.RESET):
    return [Bar(f"doc.table_{n}", percentage + n, 10**9, fate) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 15, 1000])
def test_a_backlog_of_any_length_is_a_picture_that_fits(count):
    png = backlog_picture(bars(count), 200, otherwise="9 tables looked at")
    assert opened(png).width == 900
    assert opened(png).height <= 800
    assert len(png) < 60_000


def test_each_fate_has_its_colour():
    png = backlog_picture([*bars(3), *bars(2, fate=Fate.LEFT)], 200, otherwise="")
    assert has(png, BLUE)
    assert has(png, ORANGE)
    assert not has(backlog_picture(bars(3), 200, otherwise=""), ORANGE)


@pytest.mark.parametrize("name", ["doc.a$b_{$", "doc.日本", "doc.\n`x`", "x" * 3000, "doc.$$", ""])
def test_any_name_can_be_drawn(name):
    """Also one that would be a formula; a warning about a glyph is an error here."""
    png = backlog_picture([Bar(name, 120, 1, Fate.BELOW)], 200, otherwise=name)
    assert png
    assert backlog_picture([], 200, otherwise=name)


def test_the_one_reset_that_failed_keeps_its_colour_among_many():
    """64 shades chosen by how many pixels have them would leave it none."""
    points = [
        ResetPoint(NOW - timedelta(hours=9 * n), 0.5 + n % 7, ResetOutcome.COMPLETED)
        for n in range(80)
    ]
    points += [
        ResetPoint(NOW - timedelta(days=9), 722.0, ResetOutcome.LEASES_TIMED_OUT),
        ResetPoint(NOW - timedelta(days=3), 722.0, ResetOutcome.LEASES_TIMED_OUT),
        ResetPoint(NOW - timedelta(days=5), 31.0, ResetOutcome.PRIMARY_LOST),
        ResetPoint(NOW - timedelta(days=14), 44.0, ResetOutcome.FAILED_RESTORED),
        ResetPoint(NOW, 7200.0, None),
    ]
    drawn = resets_picture(points, SINCE, NOW)
    assert [has(drawn, colour) for colour in (BLUE, ORANGE, GREEN, RED)] == [True] * 4
    assert not has(resets_picture(points[:80], SINCE, NOW), GREEN)


def test_a_table_that_still_is_at_zero_is_seen():
    assert has(resets_picture([ResetPoint(NOW, 7200.0, None)], SINCE, NOW), RED)


@pytest.mark.parametrize("outcome", [*ResetOutcome, None])
@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.2, 1e6])
def test_every_outcome_and_any_length_can_be_drawn(outcome, seconds):
    png = resets_picture([ResetPoint(NOW, seconds, outcome)], SINCE, NOW)
    assert opened(png).width == 900
    assert len(png) < 60_000


def test_a_picture_comes_along_inside_its_metadata():
    text = embedded(lambda: b"png", "what it shows").value
    assert text == f"![what it shows](data:image/png;base64,{base64.b64encode(b'png').decode()})"


def test_a_picture_that_cannot_be_drawn_costs_nothing_but_itself():
    def broken():
        raise OSError("no font cache")

    assert embedded(broken, "").value == "(not drawn: OSError('no font cache'))"


def growing(count, hours_left=5.0):
    looks = [(NOW - timedelta(hours=30 - n), 10.0 + 3 * n) for n in range(31)]
    return [Line(f"doc.a$b_{n}", looks, hours_left) for n in range(count)]


@pytest.mark.parametrize("hours_left", [None, 0.01, 5.0, 160.0])
@pytest.mark.parametrize("count", [1, 6, 400])
def test_growth_can_be_drawn_however_much_and_however_far_ahead(count, hours_left):
    png = growth_picture(growing(count, hours_left), NOW)
    assert opened(png).width == 900
    assert len(png) < 60_000


def test_a_table_that_was_not_looked_at_lately_does_not_spoil_the_picture():
    old = Line("doc.old", [(NOW - timedelta(days=6), 120.0)], None)
    assert growth_picture([old, *growing(1)], NOW)
    assert growth_picture([Line("doc.new", [(NOW, 130.0)], None)], NOW)
