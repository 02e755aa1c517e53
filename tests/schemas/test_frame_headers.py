"""A frame's header is read, or it is no frame: whatever bytes they are, and what is read can be counted and stored."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import FRAME_ITEMS_MAX, MAGIC, FrameError, FrameHeader, decode_header

HEADER = FrameHeader(1, 3, "0123456789abcdef", 7, 16, 99, 1_790_000_000_000, "00-4bf92f-01", "an-id")
INT64_MAX = 2**63 - 1
TEXTS = (st.text(), st.text(max_size=20).map("\0".join), st.just("x" * 10_000), st.binary(), st.none())
ANYTHING = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.booleans(), *TEXTS)


def framed(head: bytes) -> bytes:
    return MAGIC + len(head).to_bytes(4, "little") + head


def is_sound(frame: bytes) -> bool:
    """Whether it is read; what is read must fit wherever it goes."""
    try:
        header = decode_header(frame)
    except FrameError:
        return False
    numbers = (header.kind, header.partition, header.number, header.items, header.items_total, header.received_ms)
    assert all(0 <= number < INT64_MAX - FRAME_ITEMS_MAX for number in numbers)
    assert header.items <= FRAME_ITEMS_MAX
    for text in (header.source, header.traceparent, header.correlation_id):
        assert "\0" not in text
        assert len(text.encode()) <= 1_024
    return True


@given(st.integers(0, 8), ANYTHING)
def test_a_header_with_any_value_in_any_place_is_sound_or_refused(place: int, value: Any) -> None:
    values = [*msgspec.structs.astuple(HEADER)]
    values[place] = value
    is_sound(framed(msgspec.msgpack.encode(values)))


@given(st.data())
def test_a_header_with_any_bytes_changed_is_sound_or_refused(data: st.DataObject) -> None:
    frame = bytearray(framed(msgspec.msgpack.encode(HEADER)))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    is_sound(bytes(frame)[: data.draw(st.integers(0, len(frame)))])


@given(st.binary())
def test_any_bytes_are_sound_or_refused(head: bytes) -> None:
    is_sound(framed(head))
    is_sound(head)


def test_a_header_as_gateways_write_it_is_read() -> None:
    assert decode_header(framed(msgspec.msgpack.encode(HEADER))) == HEADER


@pytest.mark.parametrize("head", [b"\x91" * 100_000, b"\x99\x01\x00\xa1\xff"])
def test_what_nests_too_deeply_or_is_no_text_is_refused(head: bytes) -> None:
    assert not is_sound(framed(head))
