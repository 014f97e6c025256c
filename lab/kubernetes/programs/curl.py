"""`curl` in a container of the lab: what caretaker asks of it, with curl's exit codes.

A pod of a real cluster has an address of its own; here CrateDB's port is where LAB_HTTP_PORT says.
"""

import os
import socket
import sys

_FLAGS = {"-s", "-S", "-sS", "-k", "-i", "--silent", "--insecure", "--include"}
_CANNOT_CONNECT, _TIMED_OUT, _TLS, _NOTHING, _USAGE = 7, 28, 35, 52, 2


def main(words: list[str]) -> int:
    """Send one request, and print its answer."""
    options: dict[str, list[str]] = {}
    flags, url = set(), ""
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            flags.add(word)
        elif word.startswith("-"):
            options.setdefault(word, []).append(next(rest, ""))
        else:
            url = word
    if not url:
        return _USAGE
    scheme, _, place = url.partition("://")
    place, _, path = place.partition("/")
    port = place.partition(":")[2] or "4200"
    if port == "4200":
        port = os.environ.get("LAB_HTTP_PORT", port)
    connect_s = float(options.get("--connect-timeout", ["10"])[0])
    try:
        sock = socket.create_connection(("127.0.0.1", int(port)), connect_s)
    except OSError as error:
        return _said(f"curl: (7) Failed to connect: {error}", _CANNOT_CONNECT)
    if scheme == "https":
        # Here, because it takes as long as everything else together.
        import ssl  # noqa: PLC0415

        try:
            sock = ssl._create_unverified_context().wrap_socket(sock)  # noqa: S323, SLF001
        except OSError as error:
            return _said(f"curl: (35) {error}", _TLS)
    data = options.get("--data-raw", options.get("-d", [""]))[0].encode()
    method = options.get("-X", ["POST" if data else "GET"])[0]
    lines = [f"{method} /{path} HTTP/1.1", f"Host: {place}", "User-Agent: curl/8"]
    lines += [line for line in options.get("-H", []) if line.partition(":")[2].strip()]
    lines += [f"Content-Length: {len(data)}", "Connection: close"]
    try:
        sock.settimeout(float(options.get("--max-time", ["3600"])[0]))
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    except TimeoutError:
        return _said("curl: (28) Operation timed out", _TIMED_OUT)
    except OSError as error:
        return _said(f"curl: (56) Recv failure: {error}", 56)
    if not answer:
        return _said("curl: (52) Empty reply from server", _NOTHING)
    whole = "-i" in flags or "--include" in flags
    sys.stdout.buffer.write(answer if whole else answer.partition(b"\r\n\r\n")[2])
    return 0


def _said(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
