"""An HTTP exchange that did not come to an end: how far it got, and why, in words.

The classes say the one thing that decides what a caller may do next: whether the request can have
reached the server.
"""

from __future__ import annotations

import http.client
import ssl

#: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_NAME_MISMATCH = frozenset({62, 64})

NOT_TLS = (
    "it does not speak TLS there: write http:// in CRATE_CONNECTION_STRING, or the port that does"
)
NOT_PLAIN = "it speaks TLS there: write https:// in CRATE_CONNECTION_STRING"


class WireError(Exception):
    """No complete answer; the message says what happened, in words and without the host."""


class NotSentError(WireError):
    """The connection could not be made: the server has seen nothing.

    Attributes:
        certain: Trying again cannot help: the scheme or the certificate is wrong.
    """

    def __init__(self, message: str, *, certain: bool = False) -> None:
        super().__init__(message)
        self.certain = certain


class BrokenAnswerError(WireError):
    """The request may have arrived, and no complete answer did.

    Attributes:
        timed_out: It was the deadline that ended it.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class AnswerTooLargeError(BrokenAnswerError):
    """The answer was cut off at the limit."""


def tls_refusal(error: ssl.SSLError) -> NotSentError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_MISMATCH:
            return NotSentError(
                f"its certificate is for another name ({error.verify_message}): write a name that "
                "the certificate has in CRATE_CONNECTION_STRING",
                certain=True,
            )
        return NotSentError(
            f"its certificate is not trusted ({error.verify_message}): set CRATE_CA_CERT to the "
            "authority that signed it, or CRATE_SSL_VERIFY=false to do without",
            certain=True,
        )
    if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return NotSentError(NOT_TLS, certain=True)
    return NotSentError(f"the TLS handshake failed ({error.reason or error})")


def unreached(error: Exception) -> str:
    """The operating system's own words, without urllib3's object addresses around them."""
    below = error.__cause__
    cause = below if isinstance(below, OSError) else error
    if isinstance(cause, TimeoutError):
        return "no connection in time"
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)


def broken(error: Exception, seconds: float) -> BrokenAnswerError:
    chain: list[BaseException] = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    if any(isinstance(link, TimeoutError) for link in chain):
        return BrokenAnswerError(f"no complete answer within {seconds:g} s", timed_out=True)
    if any(_is_tls_record(link) for link in chain):
        return BrokenAnswerError(NOT_PLAIN)
    if any(isinstance(link, http.client.RemoteDisconnected) for link in chain):
        return BrokenAnswerError("the connection was closed before an answer came")
    if any(isinstance(link, ConnectionResetError | BrokenPipeError) for link in chain):
        return BrokenAnswerError("the connection was reset")
    if any(isinstance(link, http.client.IncompleteRead) for link in chain):
        return BrokenAnswerError("the answer stopped half-way")
    return BrokenAnswerError(f"no HTTP answer ({type(error).__name__}: {error})")


def _is_tls_record(error: BaseException) -> bool:
    """Whether this is http.client puzzled by a TLS alert (record type 21, version 3.x)."""
    return (
        isinstance(error, http.client.BadStatusLine)
        and bool(error.args)
        and str(error.args[0]).startswith("\x15\x03")
    )
