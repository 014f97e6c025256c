"""A proxy between reader and server, that breaks what passes when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards TCP.

    Attributes:
        flip: Bytes of the server of which the first one is changed when they pass.
        mute: What the server says is kept back; connections stay open.
    """

    def __init__(self, url: str) -> None:
        self._target = (urlsplit(url).hostname, urlsplit(url).port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.flip = b""
        self.mute = threading.Event()
        host = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.url = url.replace(f"{self._target[0]}:{self._target[1]}", host) + "?ssl=false"
        threading.Thread(target=self._accept, daemon=True).start()

    def aim(self, url: str) -> None:
        """Lead the connections to come to another server."""
        self._target = (urlsplit(url).hostname, urlsplit(url).port)

    def cut(self) -> None:
        """Break all connections that are open."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        self._listening.close()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, breaks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if breaks and self.mute.is_set():
                    continue
                if breaks and self.flip and self.flip in data:
                    at = data.index(self.flip)
                    data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
