"""Hostile bytes: recordings that were changed, checksums repaired, give items or errors of ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caretaker.binlog.batcher import Batcher
from caretaker.binlog.model import Checkpoint
from caretaker.errors import CorruptEventError, LostPositionError, RefusedError
from tests.binlog import wire
from tests.binlog.recordings import a_stream, all_recordings, batches_of, recording
from tests.binlog.served import started_before

SMALL = [n for n in all_recordings() if n != "mysql-big" and len(recording(n).packets) > 2]
ACTIONS = ["flip", "flip", "cut", "type", "drop", "twice", "swap", "foreign"]


@settings(max_examples=400)
@given(name=st.sampled_from(SMALL), by_gtid=st.booleans(), data=st.data())
def test_nothing_but_errors_of_ours_comes_out(name, by_gtid, data):
    told = recording(name)
    payloads = list(told.payloads)
    for _ in range(data.draw(st.integers(1, 3))):
        change(payloads, data)
    position = told.dumped_from
    start = Checkpoint(started_before(told) if by_gtid else None, position, 0)
    stream, batcher = a_stream(told, start, spool_bytes=1 << 12), Batcher(start, told.flavor)
    try:
        for payload in payloads:
            list(batches_of(stream.feed(payload), batcher))
    except (CorruptEventError, LostPositionError, RefusedError) as error:
        told_where = str(error)
    else:
        return
    assert ":" in told_where


def change(payloads: list[bytes], data: st.DataObject) -> None:
    if not payloads:
        return
    action = data.draw(st.sampled_from(ACTIONS))
    which = data.draw(st.integers(0, len(payloads) - 1))
    if action == "drop":
        del payloads[which]
    elif action == "twice":
        payloads.insert(which, payloads[which])
    elif action == "swap":
        other = data.draw(st.integers(0, len(payloads) - 1))
        payloads[which], payloads[other] = payloads[other], payloads[which]
    elif action == "foreign":
        other_story = recording(data.draw(st.sampled_from(SMALL)))
        payloads[which] = data.draw(st.sampled_from(other_story.payloads))
    else:
        payloads[which] = broken(payloads[which], action, data)


def broken(payload: bytes, action: str, data: st.DataObject) -> bytes:
    """An event with another body or type, and a checksum that fits."""
    if payload[:1] != b"\0" or len(payload) < 25:
        return payload
    body, kind = bytearray(payload[20:-4]), payload[5]
    if action == "flip" and body:
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    elif action == "cut":
        body = body[: data.draw(st.integers(0, len(body)))]
    elif action == "type":
        kind = data.draw(st.integers(0, 255))
    flags = int.from_bytes(payload[18:20], "little")
    log_pos = int.from_bytes(payload[14:18], "little")
    return wire.event(kind, bytes(body), log_pos=log_pos, flags=flags)


@pytest.mark.parametrize("name", SMALL)
def test_a_stream_cut_anywhere_is_no_error_and_no_hang(name):
    told = recording(name)
    for length in range(0, len(told.payloads), 3):
        stream = a_stream(told)
        for payload in told.payloads[:length]:
            try:
                list(stream.feed(payload))
            except RefusedError:
                assert name.endswith("statement")
