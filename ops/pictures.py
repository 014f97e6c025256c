"""Pictures for those who look rather than read: PNGs of some 30 KB inside Markdown metadata."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

from caretaker.translog.model import MIB
from caretaker.translog.outcome import ResetOutcome
from ops.shown import clipped, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Bars that fit on a screen with names that can still be read, and lines that can be told apart.
MOST_BARS = 15
MOST_LINES = 6

#: Okabe and Ito's again, without the yellow that nobody sees on white.
_LINES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

#: What is drawn of the past, and the longest look ahead.
_DRAWN_BACK = timedelta(hours=48)
_MOST_AHEAD_H = 48.0

_WIDTH_IN = 9.0
_DPI = 100
_LONGEST_LABEL = 44
_INK, _FAINT, _RULE = "#222222", "#6b6b6b", "#e4e4e4"

#: Inches above the axes for the title, and below them for their ticks and the legend.
_ABOVE_IN, _BELOW_IN = 0.82, 0.86


class Fate(Enum):
    """What a reset would do about a table now: words, fill and edge.

    The colours are Okabe and Ito's, told apart by all eyes; dark, bright and hollow also in grey.
    """

    RESET = ("a reset would take it now", "#0072B2", "#0072B2")
    LEFT = ("left alone for now (see reason)", "#E69F00", "#E69F00")
    BELOW = ("below the acting percentage", "#F4F4F4", "#8A8A8A")


@dataclass(frozen=True, slots=True)
class Bar:
    """A table's worst replica."""

    name: str
    percentage: float
    worst_bytes: int
    fate: Fate


@dataclass(frozen=True, slots=True)
class ResetPoint:
    """How long a table was at 0 replicas; `outcome` None while it still is."""

    at: datetime
    seconds_at_zero: float
    outcome: ResetOutcome | None


@dataclass(frozen=True, slots=True)
class Line:
    """A table's looks, in % of its threshold, and the hours until it crosses, where foretold."""

    name: str
    looks: Sequence[tuple[datetime, float]]
    hours_left: float | None


#: Colour and marker of each outcome: either alone tells them apart.
_OUTCOMES: dict[ResetOutcome | None, tuple[str, str, str]] = {
    ResetOutcome.COMPLETED: ("completed", "#0072B2", "o"),
    ResetOutcome.LEASES_TIMED_OUT: ("leases timed out", "#E69F00", "s"),
    ResetOutcome.PRIMARY_LOST: ("primary lost", "#CC79A7", "v"),
    ResetOutcome.FAILED_RESTORED: ("failed, restored", "#009E73", "D"),
    ResetOutcome.CHANGED_UNDERNEATH: ("changed by somebody else", "#56B4E9", "P"),
    ResetOutcome.NOT_RESTORED: ("not restored", "#D55E00", "X"),
    None: ("still at 0 replicas", "#D55E00", "X"),
}

_TIME_TICKS = {
    0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h",
    360000: "100 h",
}  # fmt: skip


def embedded(draw: Callable[[], bytes], words: str) -> dg.MarkdownMetadataValue:
    """Return a picture as Markdown that carries it along; `words` is what it shows.

    One that cannot be drawn is said, and no more: it must not cost the report it illustrates.
    """
    try:
        data = base64.b64encode(draw()).decode()
    except Exception as error:  # noqa: BLE001 - no font cache, no memory: none of it matters here
        return dg.MetadataValue.md(f"(not drawn: {error!r})")
    return dg.MetadataValue.md(f"![{words}](data:image/png;base64,{data})")


def backlog_picture(bars: Sequence[Bar], acting_percentage: int, *, otherwise: str) -> bytes:
    """Draw the worst translogs against their thresholds; with no bar, say `otherwise` instead."""
    if not bars:
        return words_instead("Nothing above its threshold", otherwise)
    shown = sorted(bars, key=lambda bar: -bar.percentage)[:MOST_BARS]
    names = [label(bar.name) for bar in shown]
    left = 0.05 + 0.0075 * max(12, *map(len, names))
    figure, axes = plot_area(1.75 + 0.34 * len(shown), left=left)
    for place, bar in enumerate(shown):
        _, fill, edge = bar.fate.value
        axes.barh(place, bar.percentage, 0.68, color=fill, edgecolor=edge, lw=0.9)
        axes.annotate(
            f"{bar.percentage:,.0f} %   {_size(bar.worst_bytes)}",
            (bar.percentage, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
            fontsize=9,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
        )
    axes.set_yticks(range(len(shown)), names)
    for tick in axes.get_yticklabels():
        # A table may be called a$b$c, which would be set as a formula, or fail to be one.
        tick.set_parse_math(False)
    axes.invert_yaxis()
    axes.set_xlim(0, max(shown[0].percentage, float(acting_percentage), 100.0) * 1.28)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f} %")
    axes.axvline(100, color=_INK, lw=1.4, label="threshold (100 %)")
    axes.axvline(
        acting_percentage,
        color=_INK,
        lw=1.4,
        ls=(0, (4, 2)),
        label=f"a reset acts from here ({acting_percentage} %)",
    )
    for fate in Fate:
        if any(bar.fate is fate for bar in shown):
            words, fill, edge = fate.value
            axes.bar(0, 0, color=fill, edgecolor=edge, lw=0.9, label=words)
    axes.grid(axis="x", color=_RULE, lw=0.8)
    legend_below(figure, axes)
    of_them = f"; the {len(shown)} worst of them" if len(bars) > len(shown) else ""
    headline(
        figure,
        "Uncommitted translog of the worst replica, in % of the table's own threshold",
        f"{len(bars):,} above the threshold{of_them}",
    )
    return png_of(figure)


def growth_picture(lines: Sequence[Line], now: datetime) -> bytes:
    """Draw how translogs came to be as large as they are, and dashed how they would go on."""
    shown = lines[:MOST_LINES]
    figure, axes = plot_area(3.9, left=0.09)
    ahead = max((line.hours_left or 0.0 for line in shown), default=0.0)
    last = now + timedelta(hours=min(max(ahead * 1.1, 3.0), _MOST_AHEAD_H))
    first = now - _DRAWN_BACK
    for line, colour in zip(shown, _LINES, strict=False):
        looks = [look for look in line.looks if look[0] >= first]
        if not looks:
            continue
        axes.plot(
            [at for at, _ in looks],  # type: ignore[arg-type]  # dates are fine
            [percentage for _, percentage in looks],
            color=colour, lw=1.8, marker="o", ms=2.5, label=label(line.name),
        )  # fmt: skip
        if line.hours_left is not None:
            crosses = now + timedelta(hours=line.hours_left)
            axes.plot(
                [looks[-1][0], crosses],  # type: ignore[arg-type]  # dates are fine
                [looks[-1][1], 100.0],
                color=colour, lw=1.6, ls=(0, (2, 1.5)),
            )  # fmt: skip
            if crosses <= last:
                axes.plot([crosses], [100.0], color=colour, marker="D", ms=6)  # type: ignore[arg-type]
    axes.axhline(100, color=_INK, lw=1.4)
    axes.axvline(now, color="#9a9a9a", lw=1.0, ls=(0, (1, 2)))  # type: ignore[arg-type]
    axes.set_ylim(
        0, max(115.0, *(p for line in shown for at, p in line.looks if at >= first)) * 1.04
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f} %")
    date_axis(axes, first, last)
    axes.grid(color=_RULE, lw=0.8)
    legend_below(figure, axes)
    of_them = f"; {len(shown)} of {len(lines):,}" if len(lines) > len(shown) else ""
    headline(
        figure,
        "Translogs on their way above the threshold (100 %)",
        f"Dashed: if it goes on like this{of_them}. Times are UTC.",
    )
    return png_of(figure)


def resets_picture(points: Iterable[ResetPoint], since: datetime, now: datetime) -> bytes:
    """Draw how long each reset left a table without replicas, over time."""
    points = list(points)
    at_zero = [point for point in points if point.seconds_at_zero > 0]
    days = round((now - since) / timedelta(days=1))
    if not at_zero:
        never = len(points)
        return words_instead(
            f"No table was at 0 replicas in the last {days} days",
            f"{never} attempts ended before a table got there." if never else "No reset ran.",
        )
    figure, axes = plot_area(3.9, left=0.09)
    axes.set_yscale("log")
    for outcome, (words, colour, marker) in _OUTCOMES.items():
        found = [point for point in at_zero if point.outcome is outcome]
        if not found:
            continue
        axes.scatter(
            [point.at for point in found],  # type: ignore[arg-type]  # dates are fine
            [point.seconds_at_zero for point in found],
            s=90 if outcome is None else 34,
            color=colour,
            marker=marker,
            edgecolor="white",
            linewidth=0.5,
            zorder=3,
            label=f"{words} ({len(found)})",
        )
    # A first hour of resets would be one column of dots at the edge of a month.
    first = max(since, min(now - timedelta(hours=1), *(point.at for point in at_zero)))
    _time_scales(axes, [point.seconds_at_zero for point in at_zero], first, now)
    axes.grid(color=_RULE, lw=0.8)
    legend_below(figure, axes)
    seconds = sorted(point.seconds_at_zero for point in at_zero)
    middle, longest = duration(seconds[(len(seconds) - 1) // 2]), duration(seconds[-1])
    headline(
        figure,
        "How long each reset left a table without replicas",
        f"{len(seconds):,} in the last {days} days; the middle one took {middle}, the longest "
        f"{longest}. Times are UTC.",
    )
    return png_of(figure)


def _time_scales(axes: Axes, seconds: Sequence[float], first: datetime, now: datetime) -> None:
    low, high = min(*seconds, 0.07), max(*seconds, 14.0) * 1.6
    axes.set_ylim(low, high)
    axes.set_yticks([t for t in _TIME_TICKS if low <= t <= high], minor=False)
    axes.set_yticklabels([text for t, text in _TIME_TICKS.items() if low <= t <= high])
    axes.minorticks_off()
    margin = (now - first) / 50
    date_axis(axes, first - margin, now + margin)


def date_axis(axes: Axes, first: datetime, last: datetime) -> None:
    """Show this span of time, with as many dates as fit."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415 - as in _figure

    axes.set_xlim(first, last)  # type: ignore[arg-type]  # dates are fine
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.xaxis.get_offset_text().set_fontsize(9)


def words_instead(title: str, words: str) -> bytes:
    """Draw that there is nothing to draw."""
    figure = _figure(1.3)
    figure.text(0.5, 0.62, title, ha="center", va="center", fontsize=15, color=_INK)
    figure.text(
        0.5, 0.3, _drawable(words), ha="center", va="center", fontsize=10.5, color=_FAINT,
        parse_math=False,
    )  # fmt: skip
    return png_of(figure)


def _figure(height_in: float) -> Figure:
    # Not at the top: 0.9 s for every start of the CLI and of the code server, few of which draw.
    # Not pyplot, which keeps every figure and is not safe in threads; a bare Figure draws with Agg.
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, facecolor="white")


def plot_area(height_in: float, *, left: float) -> tuple[Figure, Axes]:
    """Return a figure and axes without a frame; `left` is the share of its width for labels."""
    figure = _figure(height_in)
    bottom = _BELOW_IN / height_in
    axes = figure.add_axes((left, bottom, 0.97 - left, 1 - bottom - _ABOVE_IN / height_in))
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#b0b0b0")
    axes.tick_params(length=0, labelsize=9, labelcolor=_INK)
    axes.set_axisbelow(True)


def panels(count: int, height_in: float, *, left: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes of that height below each other, the last one at the bottom."""
    between_in = 0.34
    inches = _ABOVE_IN + _BELOW_IN + count * height_in + count * between_in
    figure = _figure(inches)
    made = []
    for place in range(count):
        bottom_in = _BELOW_IN + (count - 1 - place) * (height_in + between_in)
        axes = figure.add_axes((left, bottom_in / inches, 0.97 - left, height_in / inches))
        _plain(axes)
        made.append(axes)
    return figure, made


def headline(figure: Figure, title: str, below: str) -> None:
    """Say above the axes what is shown, and under that what there is to know."""
    inch = 1 / figure.get_figheight()
    figure.text(0.02, 1 - 0.3 * inch, title, fontsize=12.5, color=_INK, va="center", weight="bold")
    figure.text(0.02, 1 - 0.57 * inch, below, fontsize=9.5, color=_FAINT, va="center")


def legend_below(figure: Figure, axes: Axes) -> None:
    """Say under the axes what the colours mean."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", ncols=3, frameon=False, fontsize=9, labelcolor=_INK,
        bbox_to_anchor=(0.01, (_BELOW_IN - 0.3) / figure.get_figheight()),
        handlelength=1.6, columnspacing=1.6, borderaxespad=0.0,
    )  # fmt: skip


def png_of(figure: Figure) -> bytes:
    """Return a figure as a small PNG."""
    from PIL import Image  # noqa: PLC0415 - as in _figure; it comes with matplotlib

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    # Flat colours and grey letters: 64 shades are a third of the bytes, and every event has them.
    # Not the default method, a median cut: a colour that only one point has is lost in it.
    packed = io.BytesIO()
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE)
        few.save(packed, format="png", optimize=True)
    return packed.getvalue()


def label(name: str) -> str:
    """Return a name as it fits beside a line or a bar."""
    return clipped(_drawable(name), _LONGEST_LABEL)


def _drawable(text: str) -> str:
    """Replace what the font cannot draw: it would be a warning each, and an empty box anyway."""
    known = _glyphs()
    return "".join(
        letter if ord(letter) in known else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font  # noqa: PLC0415 - as in _figure

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _size(size: int) -> str:
    mib = size / MIB
    return f"{mib / 1024:,.1f} GiB" if mib >= 1024 else f"{mib:,.0f} MiB"  # noqa: PLR2004
