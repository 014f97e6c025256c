"""Servers that stop as soon as they are told to, and cost nothing while nobody asks."""

from __future__ import annotations

import contextlib
import socket
import socketserver


class PromptShutdown(socketserver.TCPServer):
    """Mixin: `shutdown` wakes the thread that accepts, which otherwise looks twice a second.

    A shorter `poll_interval` would do as well, but a hundred idle nodes that look up fifty times a
    second leave a small machine no time for those who are asked.
    """

    def shutdown(self) -> None:
        """Accept no more; returns when the thread that did has ended."""
        # Where a system refuses this for a socket that listens, it takes the half second.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        super().shutdown()
