"""Pictures of a restart: what each pod did while the cluster stayed GREEN, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from ops.pictures import (
    MOST_BARS,
    date_axis,
    headline,
    legend_below,
    plot_area,
    png_of,
    words_instead,
)
from ops.shown import clipped, duration
from resources.state_store import DecommissionRow, LookRow

_RULE = "#e4e4e4"
_LONGEST_LABEL = 34

#: Okabe and Ito's, told apart by all eyes; the order is that of a pod's life.
_STATES = {
    "PREPARING": ("preparing", "#CC79A7"),
    "DRAINING": ("draining", "#E69F00"),
    "DELETING": ("deleting", "#D55E00"),
    "AWAITING_POD": ("waiting for the pod", "#56B4E9"),
    "AWAITING_GREEN": ("waiting for GREEN", "#0072B2"),
}
_HEALTH = {"GREEN": "#009E73", "YELLOW": "#F0C808", "RED": "#B00020"}
_UNKNOWN = "#c9c9c9"
_ALL, _RESTRICTED = "#009E73", "#E69F00"

_STRATEGIES = {
    "manual": ("manual", "#0072B2", "o"),
    "kubernetes_managed": ("Kubernetes-managed", "#009E73", "s"),
}
_FAILED = ("failed", "#D55E00", "X")


def timeline_picture(name: str, looks: Sequence[LookRow], now: datetime) -> bytes:
    """Draw each pod's turn above the cluster's health and allocation, over the seconds."""
    if not looks:
        return words_instead(f"Nothing was seen of {name}", "No restart was begun.")
    pods = list(dict.fromkeys(look.pod for look in looks if look.pod))[-MOST_BARS:]
    rows = [*pods, "allocation", "health"]
    labels = [clipped(row, _LONGEST_LABEL) for row in rows]
    figure, axes = plot_area(2.0 + 0.34 * len(rows), left=0.05 + 0.0075 * max(map(len, labels)))
    begin, used = looks[0].at, set()
    for look, until in _stretches(looks, now):
        left, width = (look.at - begin).total_seconds(), (until - look.at).total_seconds()
        if look.pod in pods and look.state in _STATES:
            words, colour = _STATES[look.state]
            label = "" if words in used else words
            used.add(words)
            axes.barh(rows.index(look.pod), width, 0.62, left=left, color=colour, label=label)
        allocation = _UNKNOWN
        if look.allocation is not None:
            allocation = _ALL if look.allocation == "all" else _RESTRICTED
        axes.barh(len(rows) - 2, width, 0.62, left=left, color=allocation)
        health = _HEALTH.get(look.health or "", _UNKNOWN)
        axes.barh(len(rows) - 1, width, 0.62, left=left, color=health)
    axes.set_yticks(range(len(rows)), labels)
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)
    axes.invert_yaxis()
    took = (now - begin).total_seconds()
    axes.set_xlim(0, max(took, 1.0))
    axes.xaxis.set_major_formatter(lambda value, _: duration(value))
    axes.grid(axis="x", color=_RULE, lw=0.8)
    legend_below(figure, axes)
    worst = [word for word in ("RED", "YELLOW") if any(look.health == word for look in looks)]
    health = f"worst health {worst[0]}" if worst else "GREEN throughout"
    restricted = any(look.allocation not in {None, "all"} for look in looks)
    headline(
        figure,
        f"Restart of {clipped(name, _LONGEST_LABEL)}, one pod at a time",
        f"{len(pods)} pods in {duration(took)}; {health}; allocation "
        f"{'restricted meanwhile (orange)' if restricted else 'never restricted'}; "
        f"{looks[-1].allocation or 'unknown'} at the end",
    )
    return png_of(figure)


def durations_picture(rows: Sequence[DecommissionRow], now: datetime) -> bytes:
    """Draw how long each decommission took, over time."""
    if not rows:
        return words_instead("No decommission was begun", "Only refusals: nothing was touched.")
    figure, axes = plot_area(3.6, left=0.09)
    for strategy, (words, colour, marker) in _STRATEGIES.items():
        _points(
            axes, [r for r in rows if r.success and r.strategy == strategy], words, colour, marker
        )
    _points(axes, [row for row in rows if not row.success], *_FAILED)
    first = min(row.ended_at for row in rows) - timedelta(minutes=5)
    date_axis(axes, first, now + (now - first) / 50)
    axes.set_ylim(0, max(row.duration_s for row in rows) * 1.15 + 1)
    axes.yaxis.set_major_formatter(lambda value, _: duration(value))
    axes.grid(color=_RULE, lw=0.8)
    legend_below(figure, axes)
    done = sum(row.success for row in rows)
    headline(
        figure,
        "How long each decommission took",
        f"{done} of {len(rows)} succeeded. Times are UTC.",
    )
    return png_of(figure)


def _points(
    axes: Any, rows: Sequence[DecommissionRow], words: str, colour: str, marker: str
) -> None:
    if rows:
        axes.scatter(
            [row.ended_at for row in rows],
            [row.duration_s for row in rows],
            s=34,
            color=colour,
            marker=marker,
            zorder=3,
            label=f"{words} ({len(rows)})",
        )


def _stretches(looks: Sequence[LookRow], now: datetime) -> list[tuple[LookRow, datetime]]:
    """Return each look with the moment until which it was so."""
    pairs = [(one, other.at) for one, other in pairwise(looks)]
    return [*pairs, (looks[-1], max(now, looks[-1].at))]
