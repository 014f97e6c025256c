"""How much a property looks at: little by default, more with `--hypothesis-profile=long`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def looks(usual: int, long: int) -> settings:
    """Settings of a property: so many examples, so many where one searches."""
    searching = settings.get_current_profile_name() == "long"
    return settings(
        max_examples=long if searching else usual,
        # Fixtures are the servers, which no example changes for the next.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
