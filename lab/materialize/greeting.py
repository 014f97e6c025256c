"""How a client's connection begins: who it is, and what it is told of the server."""

from __future__ import annotations

import socket
import struct
import uuid
from typing import TYPE_CHECKING

from lab.materialize import settings, wire
from lab.materialize.errors import MaterializeError
from lab.materialize.wire import Message, Reader, Stream

if TYPE_CHECKING:
    from lab.materialize.server import Server

_DROPPED_STATUS = {"in_hot_standby", "default_transaction_read_only", "scram_iterations",
                   "session_authorization", "search_path"}  # fmt: skip


class Greeting:
    """One client's connection, until it may ask something."""

    def __init__(self, server: Server, client: socket.socket, peer: str) -> None:
        """Take an accepted connection; nothing has been read yet."""
        self.server = server
        self.client = Stream(client)
        self.backend: Stream
        self.id = uuid.uuid4()
        self.peer = peer
        #: What a cancel request must carry: the backend's process id and secret.
        self.key = b""
        self.user = ""
        self.application = ""
        self.parameters: dict[str, str] = {}
        self._initial: dict[str, str] = {}

    def _first_words(self) -> bytes | None:
        while True:
            body = self.client.startup()
            code = struct.unpack_from("!i", body)[0]
            if code in {wire.SSL_REQUEST, wire.GSS_REQUEST}:
                self.client.put_raw(b"N")
                self.client.flush()
            elif code == wire.CANCEL_REQUEST:
                self.server.cancel(body)
                return None
            elif code >> 16 == wire.PROTOCOL_3 >> 16:
                return body
            else:
                return None

    def _connect(self, startup: bytes) -> bool:
        version = startup[:4]
        reader, given = Reader(startup[4:]), {}
        while reader.at < len(reader.body) - 1:
            name = reader.string()
            given[name] = reader.string()
        self.user = given.get("user", "")
        self.application = given.get("application_name", "")
        if not self._authenticated():
            return False
        self.parameters = dict(settings.DEFAULT_PARAMETERS)
        options = settings.startup_options(given)
        for name, value in options.items():
            if name.startswith(settings.PREFIX):
                self.parameters[name.removeprefix(settings.PREFIX)] = value
        self._initial = dict(self.parameters)
        self.backend = Stream(self.server.connect_backend())
        said = {"user": self.user, "database": self.server.database, **options}
        packed = b"".join(wire.c_string(k) + wire.c_string(v) for k, v in said.items()) + b"\0"
        self.backend.put_raw(struct.pack("!i", len(packed) + 8) + version + packed)
        self.backend.flush()
        return self._greeted()

    def _authenticated(self) -> bool:
        password = self.server.passwords.get(self.user)
        refusal = None
        if self.user not in self.server.users:
            refusal = MaterializeError("28000", f'role "{self.user}" does not exist', fatal=True)
        elif password is not None:
            self.client.put(Message(b"R", struct.pack("!i", 3)))
            self.client.flush()
            if self.client.message().body[:-1].decode("utf-8", "replace") != password:
                refusal = MaterializeError("28P01", "invalid password", fatal=True)
        if refusal is not None:
            self.client.put(wire.error(refusal))
            self.client.flush()
        return refusal is None

    def _greeted(self) -> bool:
        """Pass the backend's greeting on, as Materialize would have said it."""
        while True:
            message = self.backend.message()
            if message.kind == b"S":
                self._pass_status(message)
            elif message.kind == b"K":
                self.key = message.body
                self.client.put(
                    wire.parameter_status("mz_version", self.server.version),
                    wire.parameter_status("cluster", self.parameters["cluster"]),
                    message,
                )
            elif message.kind == b"E":
                self.client.put(wire.without_context(message))
                self.client.flush()
                return False
            elif message.kind == b"Z":
                self.client.put(message)
                self.client.flush()
                return True
            else:
                self.client.put(message)

    def _pass_status(self, message: Message) -> None:
        reader = Reader(message.body)
        name, value = reader.string(), reader.string()
        if name == "application_name":
            self.application = value
        if name == "server_version":
            value = settings.FIXED["server_version"]
        if name == "is_superuser":
            value = "on" if self.server.is_superuser(self.user) else "off"
        if name not in _DROPPED_STATUS:
            self.client.put(wire.parameter_status(name, value))
