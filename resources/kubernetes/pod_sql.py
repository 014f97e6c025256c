"""CrateDB through exec in its own pod: the same client, without an address or a password.

The local superuser is trusted there, which is what ALTER CLUSTER DECOMMISSION needs. The statement
travels in the command's arguments and is posted inside the pod by curl, or where an image has
none by python3; CrateDB's image has both. curl ends with 0 whatever the HTTP status is, and a
draining node's answer is plain text (seen live), so the whole answer comes back and is judged as
the direct one is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from caretaker.errors import CaretakerError, RefusedError, TransientError, UnknownResultError
from resources.cratedb import cluster as cluster_rows
from resources.cratedb.answers import check_change, result_of_read
from resources.cratedb.client import Connected, CrateDBClient
from resources.cratedb.reads import Reader
from resources.cratedb.settings import CrateDBSettings
from resources.cratedb.wire import Answer
from resources.kubernetes import pod_exec
from resources.kubernetes.transport import Wire
from resources.sql import cratedb as sql
from resources.sql.cratedb import Statement

#: What the program in the pod has less than we, so that its own words about it arrive.
_MARGIN_S = 5.0

#: $1 URL, $2 seconds, $3 the body. The same exit codes from both programs.
_SCRIPT = r"""
if command -v curl >/dev/null 2>&1; then
  exec curl -sS -k -i --noproxy '*' --connect-timeout 5 --max-time "$2" \
    -H 'Content-Type: application/json' -H 'Accept: application/json' -H 'Expect:' \
    --data-raw "$3" "$1"
fi
exec python3 -I -S -c '
import http.client, ssl, sys
url, seconds, body = sys.argv[1:4]
scheme, _, rest = url.partition("://")
place, _, path = rest.partition("/")
if scheme == "https":
    one = http.client.HTTPSConnection(place, timeout=5, context=ssl._create_unverified_context())
else:
    one = http.client.HTTPConnection(place, timeout=5)
try:
    one.connect()
except OSError as error:
    sys.exit((sys.stderr.write(str(error)), 7)[1])
one.sock.settimeout(float(seconds))
kind = "application/json"
try:
    one.request("POST", "/" + path, body.encode(), {"Content-Type": kind, "Accept": kind})
    answer = one.getresponse()
    data = answer.read()
except TimeoutError:
    sys.exit(28)
except Exception as error:
    sys.exit((sys.stderr.write(str(error)), 52)[1])
out = sys.stdout.buffer
out.write(("HTTP/1.1 %d %s\r\n" % (answer.status, answer.reason)).encode())
for name, value in answer.getheaders():
    out.write(("%s: %s\r\n" % (name, value)).encode())
out.write(b"\r\n" + data)
' "$@"
"""

#: curl's: could not resolve, could not connect, TLS did not come about.
_NOT_SENT = {5, 6, 7, 35, 60}
_NO_PROGRAM = {126, 127}
_TIMED_OUT = 28

_CONTINUE = 100
_LOOK_FIRST = "look at what is there before anything is sent again"


@dataclass(frozen=True, slots=True)
class _Place:
    """CrateDB's HTTP port in a container, and the way there."""

    wire: Wire
    namespace: str
    pod: str
    container: str
    port: int

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.pod}"

    def post(
        self,
        scheme: str,
        statement: Statement,
        timeout_s: float,
        just_before: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Post a statement inside the pod, once; what the exec or the program met is raised."""
        body = orjson.dumps({"stmt": statement.sql, "args": list(statement.args)}).decode()
        inside_s = max(1.0, timeout_s - _MARGIN_S)
        url = f"{scheme}://127.0.0.1:{self.port}/_sql"
        command = ["sh", "-c", _SCRIPT, "caretaker", url, f"{inside_s:.0f}", body]
        done = pod_exec.run(
            self.wire,
            self.namespace,
            self.pod,
            self.container,
            command,
            timeout_s,
            just_before=just_before,
        )
        said = " ".join(done.stderr.decode(errors="replace").split())
        if done.exit_code in _NOT_SENT:
            raise TransientError(f"{self}: CrateDB does not answer there: {said}", target=self.pod)
        if done.exit_code in _NO_PROGRAM:
            raise RefusedError(
                f"{self}: container {self.container} has neither curl nor python3: {said}",
                target=self.pod,
                hint="give caretaker an address: CRATE_CONNECTION_STRING and --sql address",
            )
        answer = _parsed(done.stdout)
        if done.exit_code or answer is None:
            why = "no complete answer in time" if done.exit_code == _TIMED_OUT else said
            raise UnknownResultError(
                f"{self}: {why or 'no answer'} (exit code {done.exit_code}); the statement was "
                "sent and may have been applied, or may yet be",
                target=self.pod,
                hint=_LOOK_FIRST,
            )
        return answer


class PodCrateDBClient(CrateDBClient):
    """The CrateDB that runs in one pod; every call of `CrateDBClient`, with the same errors."""

    def __init__(
        self,
        wire: Wire,
        namespace: str,
        pod: str,
        container: str,
        *,
        scheme: str = "",
        port: int = 4200,
        statement_timeout_s: float = 60.0,
    ) -> None:
        """Take the way there; nothing is sent. Without `scheme` it is found out by a read."""
        self.place = _Place(wire, namespace, pod, container, port)
        super().__init__(
            CrateDBSettings((str(self.place),), statement_timeout_s=statement_timeout_s)
        )
        self._pod_reader = _PodReader(self.place, scheme, statement_timeout_s)
        self._reader = self._pod_reader

    @property
    def scheme(self) -> str:
        """How CrateDB is spoken to in there; '' until a read has found out."""
        return self._pod_reader.scheme

    def change(
        self,
        statement: Statement,
        *,
        timeout_s: float | None = None,
        just_before: Callable[[], None] = lambda: None,
    ) -> None:
        """Send a statement that changes something, once; see `resources.cratedb.changes`."""
        timeout_s = self.settings.statement_timeout_s if timeout_s is None else timeout_s
        scheme = self._pod_reader.scheme_found()
        try:
            answer = self.place.post(scheme, statement, timeout_s, just_before)
            check_change(str(self.place), answer, statement)
        except CaretakerError as error:
            error.target = statement.target or error.target
            raise

    def connect(self, *, for_restore: bool = False) -> Connected:
        """Ask which cluster this is, and each node for its version; a pod has no list of hosts."""
        found = self._identity(str(self.place), self._pod_reader)
        versions = {} if for_restore else dict(self.read(Statement(sql.NODE_VERSIONS)))
        for node, version in versions.items():
            if cluster_rows.is_too_old(version):
                raise RefusedError(
                    f"node {node} runs CrateDB {version}: caretaker needs 5.10 or newer",
                    target=node,
                )
        return Connected(found[0], found[1], versions, {})


class _PodReader(Reader):
    """Statements that only read: a channel that was cut is no reason to look first."""

    def __init__(self, place: _Place, scheme: str, statement_timeout_s: float) -> None:
        # Not calling Reader's: all it makes is the HTTP connection that this class does without.
        self._place = place
        self.scheme = scheme
        self._timeout_s = statement_timeout_s

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Return the rows of `statement`."""
        return self._read(self.scheme_found(), statement)

    def scheme_found(self) -> str:
        """Return how CrateDB is spoken to in there, asked once."""
        if self.scheme:
            return self.scheme
        probe = Statement("SELECT 1")
        try:
            self._read("http", probe)
        except TransientError as error:
            if "exit code" not in str(error):
                raise
            # What speaks only TLS closes the connection without a word.
            self._read("https", probe)
            self.scheme = "https"
        else:
            self.scheme = "http"
        return self.scheme

    def _read(self, scheme: str, statement: Statement) -> list[tuple[Any, ...]]:
        try:
            answer = self._place.post(scheme, statement, self._timeout_s)
        except UnknownResultError as error:
            raise TransientError(str(error), target=error.target) from error
        return [tuple(row) for row in result_of_read(str(self._place), answer)["rows"]]

    def close(self) -> None:
        """Nothing is kept."""


def _parsed(output: bytes) -> Answer | None:
    """An answer as `curl -i` prints it; None where that is no whole one."""
    rest = output
    while True:
        head, found, rest = rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if (
            not found
            or not words[0].startswith("HTTP/")
            or not words[1:2]
            or not words[1].isdigit()
        ):
            return None
        if int(words[1]) != _CONTINUE:
            break
    headers = dict(_header(line) for line in lines[1:] if ":" in line)
    length = headers.get("content-length", "")
    if length.isdigit() and len(rest) < int(length):
        return None
    return Answer(int(words[1]), words[2] if len(words) > 2 else "", headers, rest)  # noqa: PLR2004


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
