"""Which transactions a server has, or a trail has: MySQL's GTID sets, MariaDB's positions.

A MySQL set holds, for each pair of server uuid and tag, the numbers of its transactions as sorted,
disjoint intervals that do not touch. The text is the server's own: `uuid:1-5:7:tag:1-3,uuid:1`,
sorted by uuid, then tag, no tag first.
"""

from __future__ import annotations

import re
import uuid
from bisect import bisect_right
from collections.abc import Iterator

from caretaker.binlog.cursor import Cursor
from caretaker.binlog.model import MariadbGtid, MysqlGtid
from caretaker.errors import CaseError, CorruptEventError

#: One more than the largest transaction number (sql/rpl_gtid.h: GNO_END).
GNO_END = 2**63 - 1

_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.IGNORECASE | re.ASCII)
_INTERVAL = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
_MARIADB = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})", re.ASCII)
_U32 = 2**32
_U64 = 2**64

Key = tuple[bytes, str]
Interval = tuple[int, int]


class GtidSet:
    """A set of MySQL transactions.

    >>> mine = GtidSet.parse("3E11FA47-71CA-11E1-9E33-C80AA9429562:1-3:5:reports:1")
    >>> mine.add(MysqlGtid(uuid.UUID("3e11fa47-71ca-11e1-9e33-c80aa9429562").bytes, "", 4))
    >>> str(mine)
    '3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:reports:1'
    """

    __slots__ = ("_sets",)

    def __init__(self) -> None:
        # half-open intervals; lists of mutable pairs would be quicker to extend and easier to alias
        self._sets: dict[Key, list[Interval]] = {}

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Read the text form, in any order and with white space, as the server does."""
        result = cls()
        for part in text.split(","):
            if not part.strip():
                continue
            server, *tokens = (token.strip() for token in part.split(":"))
            if _UUID.fullmatch(server) is None:
                raise CaseError(f"GTID set: {server!r} is no server uuid", target=text)
            if not tokens:
                raise CaseError(f"GTID set: {server} has no intervals", target=text)
            sid, tag, open_tag = uuid.UUID(server).bytes, "", False
            for token in tokens:
                interval = _INTERVAL.fullmatch(token)
                if interval is not None:
                    start, end = int(interval[1]), int(interval[2] or interval[1])
                    if not 0 < start <= end < GNO_END:
                        raise CaseError(f"GTID set: no interval: {token!r}", target=text)
                    result.insert((sid, tag), start, end + 1)
                    open_tag = False
                elif _TAG.fullmatch(token) is not None and not open_tag:
                    tag, open_tag = token.lower(), True
                else:
                    raise CaseError(f"GTID set: {token!r} is no interval or tag", target=text)
            if open_tag:
                raise CaseError(f"GTID set: the tag {tag!r} has no intervals", target=text)
        return result

    @classmethod
    def decode(cls, data: bytes) -> GtidSet:
        """Read the wire form: the body of PREVIOUS_GTIDS, the set of COM_BINLOG_DUMP_GTID."""
        cursor = Cursor(data)
        header = cursor.take(8)
        # Version 1 says so at both ends, around a count of six bytes: an old server would take
        # it for an impossible number of uuids and refuse.
        tagged = header[7] == 1
        count = int.from_bytes(header[1:7] if tagged else header, "little")
        result = cls()
        for _ in range(count):
            sid = cursor.take(16)
            tag = cursor.text(cursor.varlen(), "tag") if tagged else ""
            intervals = cursor.uint(8)
            for _ in range(intervals):
                start, end = cursor.uint(8), cursor.uint(8)
                if not 0 < start < end <= GNO_END:
                    raise CorruptEventError(f"GTID set: no interval: {start}, {end}")
                result.insert((sid, tag), start, end)
        if cursor.left:
            raise CorruptEventError(f"GTID set: {cursor.left} bytes too many")
        return result

    def encode(self, *, tagged: bool | None = None) -> bytes:
        """The wire form, byte for byte that of PREVIOUS_GTIDS.

        Of its two formats a set without tags takes the one that servers older than 8.3 understand,
        unless `tagged` says otherwise: a server that has seen a tag writes no other any more.
        """
        has_tags = any(tag for _, tag in self._sets)
        if tagged is None:
            tagged = has_tags
        elif has_tags and not tagged:
            raise ValueError("a set with tags in the format that has none")
        count = len(self._sets)
        head = b"\x01" + count.to_bytes(6, "little") + b"\x01" if tagged else _u64(count)
        parts = [head]
        for (sid, tag), intervals in sorted(self._sets.items()):
            parts.append(sid)
            if tagged:
                # at most 32 characters: the varlen integer is one byte, shifted by its marker bit
                parts.append(bytes((len(tag) << 1,)) + tag.encode())
            parts.append(_u64(len(intervals)))
            parts.extend(_u64(start) + _u64(end) for start, end in intervals)
        return b"".join(parts)

    def add(self, gtid: MysqlGtid) -> None:
        """Add one transaction; the usual one, next to the last, costs no search."""
        key = (gtid.uuid, gtid.tag)
        intervals = self._sets.get(key)
        if intervals and intervals[-1][1] == gtid.gno:
            intervals[-1] = (intervals[-1][0], gtid.gno + 1)
        else:
            self.insert(key, gtid.gno, gtid.gno + 1)

    def insert(self, key: Key, start: int, end: int) -> None:
        """Add the transactions of a server and tag from `start` up to, not including, `end`."""
        intervals = self._sets.setdefault(key, [])
        at = bisect_right(intervals, start, key=_start)
        if at and intervals[at - 1][1] >= start:
            at -= 1
            start = intervals[at][0]
        stop = at
        while stop < len(intervals) and intervals[stop][0] <= end:
            end = max(end, intervals[stop][1])
            stop += 1
        intervals[at:stop] = [(start, end)]

    def __contains__(self, gtid: MysqlGtid) -> bool:
        intervals = self._sets.get((gtid.uuid, gtid.tag), [])
        at = bisect_right(intervals, gtid.gno, key=_start)
        return at > 0 and gtid.gno < intervals[at - 1][1]

    def union(self, other: GtidSet) -> GtidSet:
        """What is in either."""
        result = self.copy()
        for key, intervals in other._sets.items():
            for start, end in intervals:
                result.insert(key, start, end)
        return result

    def subtract(self, other: GtidSet) -> GtidSet:
        """What is here and not in `other`."""
        result = GtidSet()
        for key, intervals in self._sets.items():
            left = list(_without(intervals, other._sets.get(key, [])))
            if left:
                result._sets[key] = left
        return result

    def issubset(self, other: GtidSet) -> bool:
        """Whether `other` has all of it."""
        return not self.subtract(other)

    def copy(self) -> GtidSet:
        """An independent set."""
        result = GtidSet()
        result._sets = {key: list(intervals) for key, intervals in self._sets.items()}
        return result

    def count(self) -> int:
        """How many transactions it holds."""
        return sum(end - start for each in self._sets.values() for start, end in each)

    def __iter__(self) -> Iterator[MysqlGtid]:
        """Every transaction in it, of each server and tag in order."""
        for (sid, tag), intervals in sorted(self._sets.items()):
            for start, end in intervals:
                for number in range(start, end):
                    yield MysqlGtid(sid, tag, number)

    def __bool__(self) -> bool:
        return bool(self._sets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self._sets == other._sets

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __str__(self) -> str:
        texts: dict[bytes, list[str]] = {}
        for (sid, tag), intervals in sorted(self._sets.items()):
            parts = texts.setdefault(sid, [str(uuid.UUID(bytes=sid))])
            parts.extend([tag] if tag else [])
            parts.extend(
                str(start) if end == start + 1 else f"{start}-{end - 1}" for start, end in intervals
            )
        return ",".join(":".join(parts) for parts in texts.values())

    def __repr__(self) -> str:
        return f"GtidSet.parse({str(self)!r})"


def _start(interval: Interval) -> int:
    return interval[0]


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _without(minuend: list[Interval], subtrahend: list[Interval]) -> Iterator[Interval]:
    at = 0
    for interval in minuend:
        start, end = interval
        while at < len(subtrahend) and subtrahend[at][1] <= start:
            at += 1
        look = at
        while look < len(subtrahend) and subtrahend[look][0] < end:
            if start < subtrahend[look][0]:
                yield start, subtrahend[look][0]
            start = subtrahend[look][1]
            look += 1
        if start < end:
            yield start, end


class MariadbPosition:
    """Where a reader of MariaDB stands: the last transaction of each domain.

    >>> here = MariadbPosition.parse("5-7-1, 0-7-80")
    >>> here.add(MariadbGtid(0, 7, 81))
    >>> str(here)
    '0-7-81,5-7-1'
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[int, MariadbGtid] = {}

    @classmethod
    def parse(cls, text: str) -> MariadbPosition:
        """Read the text of `gtid_slave_pos`; a domain may stand there once."""
        result = cls()
        for part in text.split(","):
            if not part.strip():
                continue
            found = _MARIADB.fullmatch(part.strip())
            if found is None:
                raise CaseError(f"GTID position: {part!r} is no domain-server-number", target=text)
            gtid = MariadbGtid(int(found[1]), int(found[2]), int(found[3]))
            if gtid.domain >= _U32 or gtid.server >= _U32 or gtid.seq >= _U64:
                raise CaseError(f"GTID position: {part!r} is out of range", target=text)
            if gtid.domain in result._last:
                raise CaseError(f"GTID position: domain {gtid.domain} twice", target=text)
            result.add(gtid)
        return result

    def add(self, gtid: MariadbGtid) -> None:
        """Move on, within the domain of `gtid`."""
        self._last[gtid.domain] = gtid

    def last(self, domain: int) -> MariadbGtid | None:
        """The last transaction of a domain."""
        return self._last.get(domain)

    def domains(self) -> list[int]:
        """The domains with a transaction."""
        return sorted(self._last)

    def copy(self) -> MariadbPosition:
        """An independent position."""
        result = MariadbPosition()
        result._last = dict(self._last)
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MariadbPosition) and self._last == other._last

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __str__(self) -> str:
        return ",".join(mariadb_text(gtid) for _, gtid in sorted(self._last.items()))

    def __repr__(self) -> str:
        return f"MariadbPosition.parse({str(self)!r})"


def mariadb_text(gtid: MariadbGtid) -> str:
    """The text of one transaction: `domain-server-number`."""
    return f"{gtid.domain}-{gtid.server}-{gtid.seq}"


def mysql_text(gtid: MysqlGtid) -> str:
    """The text of one transaction: `uuid:number` or `uuid:tag:number`."""
    tag = f"{gtid.tag}:" if gtid.tag else ""
    return f"{uuid.UUID(bytes=gtid.uuid)}:{tag}{gtid.gno}"
