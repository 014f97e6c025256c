"""What is shown in Dagster is not worth a sync that runs."""

from __future__ import annotations

import pytest

from ops.binlog_metrics import Metrics
from ops.binlog_observing import Observer


@pytest.mark.parametrize("missed", [1, 2, 5])
def test_an_observation_that_is_not_stored_ends_nothing(missed, caplog):
    """The storage is locked for a moment; the next look is stored as ever."""
    tried, stored = [], []

    def log_event(event):
        tried.append(event)
        if len(tried) == missed:
            raise RuntimeError("database is locked")
        stored.append(event)

    observer = Observer(log_event, Metrics().vitals, every_s=0.0)
    observer.look_around()
    before = len(stored)
    observer.look_around()

    assert "database is locked" in caplog.text
    assert before == missed - 1
    assert len(stored) > before + 1


@pytest.mark.parametrize("breaker", ["open", "half_open"])
def test_the_trail_is_not_whole_while_mongodb_is_away(breaker):
    """The source has said that it has no more: that is all we know then."""
    metrics = Metrics()
    metrics.caught_up(yes=True)
    assert metrics.vitals().lag_s == 0

    metrics.looked(breaker=breaker)

    assert metrics.vitals().lag_s != 0
