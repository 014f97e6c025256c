"""Users of the lab's MongoDB: SCRAM-SHA-256, and who may write."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass, field

from lab.mongodb.replies import RefusedCommandError

_ITERATIONS = 4096
_WRITES = frozenset(
    {
        "insert",
        "update",
        "delete",
        "findAndModify",
        "create",
        "createIndexes",
        "drop",
        "dropDatabase",
        "dropIndexes",
    }
)


@dataclass(frozen=True)
class User:
    """Somebody with a password; `role` is `readWrite` or `read`."""

    name: str
    password: str
    role: str = "readWrite"
    salt: bytes = field(default_factory=lambda: os.urandom(16))

    def may(self, command: str) -> bool:
        """Whether the role allows a command."""
        return self.role != "read" or command not in _WRITES


class Scram:
    """One conversation."""

    def __init__(self, users: dict[str, User]) -> None:
        self._users = users
        self._user: User | None = None
        self._said = ""
        self._nonce = ""
        self._proved = False

    def first(self, payload: bytes) -> bytes:
        """Answer the client's first message."""
        bare = payload.decode().split(",", 2)[2]
        told = dict(part.split("=", 1) for part in bare.split(","))
        name = told["n"].replace("=2C", ",").replace("=3D", "=")
        self._user = self._users.get(name)
        self._nonce = told["r"] + base64.b64encode(os.urandom(18)).decode()
        salt = self._user.salt if self._user else os.urandom(16)
        answer = f"r={self._nonce},s={base64.b64encode(salt).decode()},i={_ITERATIONS}"
        self._said = f"{bare},{answer}"
        return answer.encode()

    def final(self, payload: bytes) -> tuple[bytes, User]:
        """Answer the client's proof.

        Raises:
            RefusedCommandError: It proves nothing.
        """
        told = dict(part.split("=", 1) for part in payload.decode().split(","))
        user = self._user
        if user is None or told["r"] != self._nonce:
            raise failed()
        salted = hashlib.pbkdf2_hmac("sha256", user.password.encode(), user.salt, _ITERATIONS)
        client_key = _hmac(salted, b"Client Key")
        stored = hashlib.sha256(client_key).digest()
        message = f"{self._said},c={told['c']},r={told['r']}".encode()
        signature = _hmac(stored, message)
        proof = base64.b64decode(told["p"])
        key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(key).digest(), stored):
            raise failed()
        server = _hmac(_hmac(salted, b"Server Key"), message)
        return b"v=" + base64.b64encode(server), user


def failed() -> RefusedCommandError:
    """Return what a wrong password is told, and an unknown user too."""
    return RefusedCommandError("AuthenticationFailed", "Authentication failed.")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
