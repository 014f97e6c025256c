"""What a server means by an error packet: try again, never again, or history is lost."""

from __future__ import annotations

from caretaker.errors import (
    CaretakerError,
    CorruptEventError,
    LostPositionError,
    RefusedError,
    TransientError,
)

#: ER_SOURCE_FATAL_ERROR_READING_BINLOG: a dozen different things, told apart by their text only.
FATAL_READING_BINLOG = 1236

#: Codes after which the same request may succeed: too many connections, shutdown, lost
#: connections and network errors, a killed dump, a server that is offline for a while.
TRANSIENT_CODES = frozenset(
    (1040, 1053, 1077, 1079, 1152, 1154, 1158, 1159, 1160, 1161, 1184, 1205, 1213, 1317, 1927)
) | frozenset((2002, 2003, 2006, 2013, 2055, 3032, 3168, 3169))

_GAP = "the next run names what is lost, as caretaker binlog accept-gap takes it"
_PURGED = "the source purged binlogs that the trail had not read yet"
_AHEAD = (
    "the trail has transactions that the source has not: another server, a restored backup,"
    " RESET BINARY LOGS AND GTIDS, or a binlog that lost its end"
)

#: The servers' sentences, both spellings, lower case; the first that occurs decides.
_LOST = (
    ("purged required binary logs", _PURGED),
    ("could not find first log file name in binary log index", _PURGED),
    ("could not find gtid state requested by slave in any binlog", _PURGED),
    ("could not find next log", "a binlog in the middle is missing"),
    ("has more gtids than the", _AHEAD),
    ("which is not in the master's binlog", _AHEAD),
    ("which is not in the source's binlog", _AHEAD),
    ("position > file size", _AHEAD),
    ("impossible position", _AHEAD),
    ("an alternate history", _AHEAD),
)
_CORRUPT = (
    "truncated in the middle of event",
    "did not pass crc check",
    "checksum mismatch",
    "bogus data in log event",
    "event read from binlog",
    "corrupted",
)
_HINTS = (
    ("same server_uuid", "give this reader a server_id and uuid of its own"),
    ("same server_id", "give this reader a server_id and uuid of its own"),
    ("max_allowed_packet", "raise max_allowed_packet on the source to 1073741824"),
    ("binary log is not open", "switch log_bin on"),
    ("checksum", "ask for CRC32 events before the dump: SET @source_binlog_checksum"),
)


def gap_hint(lost: object) -> str:
    """Say how to go on behind what is lost; a target of LostPositionError is what `lost` is."""
    return f"caretaker binlog accept-gap --lost '{lost}' --reason TEXT records the loss and goes on"


def server_error(code: int, message: str) -> CaretakerError:
    """Return the error that an error packet stands for; 1236 is never one to retry."""
    told = f"the source said {code}: {message}"
    if code == FATAL_READING_BINLOG:
        return _fatal(told, message.lower())
    if code in TRANSIENT_CODES:
        return TransientError(told)
    return RefusedError(told, code=code)


def _fatal(told: str, message: str) -> CaretakerError:
    for sentence, meaning in _LOST:
        if sentence in message:
            return LostPositionError(f"{meaning}; {told}", hint=_GAP)
    for sentence, hint in _HINTS[:-1]:
        if sentence in message:
            return RefusedError(told, hint=hint, code=FATAL_READING_BINLOG)
    if any(sentence in message for sentence in _CORRUPT):
        return CorruptEventError(f"a binlog of the source is damaged; {told}")
    hint = _HINTS[-1][1] if _HINTS[-1][0] in message else ""
    return RefusedError(told, hint=hint, code=FATAL_READING_BINLOG)
