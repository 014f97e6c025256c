"""A sync over time, for those who look rather than read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from caretaker.binlog.alerts import LAG_S
from ops.pictures import date_axis, headline, legend_below, plot_area, png_of, words_instead

_LAG, _RATE, _LIMIT = "#D55E00", "#0072B2", "#222222"


@dataclass(frozen=True, slots=True)
class Look:
    """One look: seconds behind, None while unknown, and documents a second."""

    at: datetime
    lag_s: float | None
    rows_per_s: float


def sync_picture(looks: Iterable[Look]) -> bytes:
    """Draw the lag against its limit, and the rate behind it on an axis of its own."""
    shown = list(looks)
    if len(shown) < 2:  # noqa: PLR2004 - a line has two ends
        return words_instead(
            "The sync has just begun", "The next observations draw its lag and its rate."
        )
    figure, axes = plot_area(3.6, left=0.08)
    times = [look.at for look in shown]
    rates = axes.twinx()
    for side in ("top", "right", "left", "bottom"):
        rates.spines[side].set_visible(False)
    rates.fill_between(
        times,  # type: ignore[arg-type]  # dates are fine
        [look.rows_per_s for look in shown],
        color=_RATE, alpha=0.25, lw=0,
    )  # fmt: skip
    rates.plot(times, [look.rows_per_s for look in shown], color=_RATE, lw=1.2)  # type: ignore[arg-type]
    rates.set_ylim(bottom=0)
    rates.tick_params(length=0, labelsize=9, labelcolor=_RATE)
    known = [(look.at, look.lag_s) for look in shown if look.lag_s is not None]
    axes.plot(
        [at for at, _ in known],  # type: ignore[arg-type]  # dates are fine
        [lag for _, lag in known],
        color=_LAG, lw=1.8, label="seconds behind (left)",
    )  # fmt: skip
    axes.plot([], [], color=_RATE, lw=5, alpha=0.4, label="documents a second (right)")
    axes.axhline(LAG_S, color=_LIMIT, lw=1.2, ls=(0, (4, 2)), label=f"alert above {LAG_S:g} s")
    axes.set_ylim(0, max(LAG_S * 1.4, *(lag for _, lag in known), 0) * 1.05)
    axes.set_zorder(rates.get_zorder() + 1)
    axes.patch.set_visible(False)
    date_axis(axes, times[0], max(times[-1], times[0] + timedelta(minutes=1)))
    legend_below(figure, axes)
    newest = shown[-1]
    lag = "unknown" if newest.lag_s is None else f"{newest.lag_s:.1f} s"
    headline(
        figure,
        "How far the audit trail is behind its source",
        f"Now {lag} behind, {newest.rows_per_s:,.0f} documents a second. Times are UTC.",
    )
    return png_of(figure)
