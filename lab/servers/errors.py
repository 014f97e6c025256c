"""Why there is no server: this machine cannot have it, or it should have started and did not."""

from __future__ import annotations


class ServerUnavailableError(Exception):
    """This machine cannot have that server; the message is the reason, for an account of it."""


class ServerDidNotStartError(Exception):
    """It is there and did not start; the message says what was waited for and what its log says."""
