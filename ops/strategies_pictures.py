"""Replicas of Materialize clusters over time, for those who look rather than read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from ops.pictures import (
    date_axis,
    headline,
    label,
    legend_below,
    panels,
    png_of,
    words_instead,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Clusters that fit below each other, and colours that can be told apart.
MOST_CLUSTERS = 6
_COLOURS = ("#56B4E9", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#D55E00")
_OTHER, _INK, _RULE = "#8a8a8a", "#222222", "#e4e4e4"

#: What is drawn of the past, and never less than that.
DRAWN_BACK = timedelta(hours=24)
_AT_LEAST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Life:
    """A replica from its creation to its end.

    Attributes:
        dropped_at: None while it lives.
        credits_per_hour: None where its size has no price that is known.
    """

    cluster: str
    replica: str
    size: str
    created_at: datetime
    dropped_at: datetime | None
    credits_per_hour: float | None


def credits_used(lives: Iterable[Life], since: datetime, now: datetime) -> float:
    """Return what all of them have cost from `since` to `now`.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
    >>> half = Life("prod", "r1", "50cc", noon - timedelta(hours=9), noon, 0.5)
    >>> credits_used([half], noon - timedelta(hours=4), noon + timedelta(hours=1))
    2.0
    """
    return sum(
        max(0.0, (min(one.dropped_at or now, now) - max(one.created_at, since)).total_seconds())
        / 3600
        * (one.credits_per_hour or 0.0)
        for one in lives
    )


def replicas_picture(lives: Iterable[Life], now: datetime) -> bytes:
    """Draw each replica as a block: as long as it lived, and as high as what it costs an hour."""
    since = now - DRAWN_BACK
    drawn = [one for one in lives if (one.dropped_at or now) > since and one.created_at <= now]
    if not drawn:
        return words_instead("No cluster has had a replica", "None in the last 24 h.")
    first = max(since, min(*(one.created_at for one in drawn), now - _AT_LEAST))
    changes = Counter(one.cluster for one in drawn)
    clusters = sorted(changes, key=lambda name: (-changes[name], name))
    shown = sorted(clusters[:MOST_CLUSTERS])
    of_them = [one for one in drawn if one.cluster in shown]
    colours = _colours(of_them)
    figure, axes = panels(len(shown), 1.05, left=0.08)
    for name, panel in zip(shown, axes, strict=True):
        own = [one for one in of_them if one.cluster == name]
        _blocks(panel, own, colours, max(first, since), now)
        panel.set_title(label(name), loc="left", fontsize=9.5, color=_INK, pad=3, parse_math=False)
        date_axis(panel, first, now)
        panel.grid(axis="y", color=_RULE, lw=0.8)
        panel.tick_params(labelbottom=panel is axes[-1])
    for size, colour in colours.items():
        axes[-1].fill_between([], [], color=colour, lw=0, label=_text(size))
    legend_below(figure, axes[-1])
    more = f"; {len(shown)} of {len(clusters):,} clusters" if len(clusters) > len(shown) else ""
    headline(
        figure,
        "Replicas and credits per hour of each cluster",
        f"A block is a replica: its height what it costs an hour, by size{more}. Times are UTC.",
    )
    return png_of(figure)


def _colours(lives: Sequence[Life]) -> dict[str, str]:
    """Give the sizes their colours, the cheapest first; beyond those one for all others."""
    prices = {one.size: one.credits_per_hour or 0.0 for one in lives}
    sizes = sorted(prices, key=lambda size: (prices[size], size))
    return {
        size: _COLOURS[place] if place < len(_COLOURS) else _OTHER
        for place, size in enumerate(sizes)
    }


def _text(name: str) -> str:
    """Return a name for the legend, which would take one between dollars for a formula."""
    return label(name).replace("$", r"\$")


def _blocks(
    axes: Axes, lives: Sequence[Life], colours: dict[str, str], first: datetime, now: datetime
) -> None:
    """Stack the replicas that were there at the same time, the oldest below."""
    # Not at the top: as in ops.pictures.
    from matplotlib.collections import LineCollection, PolyCollection  # noqa: PLC0415
    from matplotlib.dates import date2num  # noqa: PLC0415

    ends = {end for one in lives for end in (one.created_at, one.dropped_at) if end is not None}
    moments = sorted({first, now} | {end for end in ends if first < end < now})
    blocks: dict[str, list[list[tuple[float, float]]]] = {}
    edges: list[list[tuple[float, float]]] = []
    highest = 0.0
    for start, end in pairwise(moments):
        left, right = float(date2num(start)), float(date2num(end))  # type: ignore[no-untyped-call]
        base = 0.0
        for one in sorted(lives, key=lambda one: (one.created_at, one.replica)):
            if one.created_at <= start and (one.dropped_at or now) >= end:
                top = base + (one.credits_per_hour or 0.0)
                corners = [(left, base), (left, top), (right, top), (right, base)]
                blocks.setdefault(one.size, []).append(corners)
                edges.append([(left, top), (right, top)])
                base = top
        highest = max(highest, base)
    # Neighbours in time are one block: no hairline between them.
    for size, areas in blocks.items():
        axes.add_collection(PolyCollection(areas, color=colours[size], lw=0, antialiased=False))
    axes.add_collection(LineCollection(edges, colors="white", lw=1.2))
    axes.set_ylim(0, highest * 1.15 or 1.0)
