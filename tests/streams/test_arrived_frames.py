"""Which frames have arrived: exact in any order, and no larger for a hole that stays."""

from typing import Any

import msgspec
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from streams.state.encoding import load_state, snapshot, take_patch
from streams.state.partition import ArrivedFrames, PartitionState

SOURCE = "0123456789abcdef"
_numbers = st.lists(st.integers(0, 24), max_size=60)


class SetOfNumbers:
    """The same by a set of all numbers."""

    def __init__(self, floor: int = -1, beyond: frozenset[int] = frozenset()) -> None:
        self.arrived = set(range(floor + 1)) | beyond

    def take(self, number: int) -> bool:
        if number in self.arrived:
            return False
        self.arrived.add(number)
        return True


def numbers_of(frames: ArrivedFrames) -> set[int]:
    return set(range(frames.floor + 1)) | {n for first, last in frames.beyond for n in range(first, last + 1)}


def decoded(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode(zstandard.decompress(body))
    return found


def encoded(patch: dict[str, Any]) -> bytes:
    return zstandard.compress(msgspec.msgpack.encode(patch))


@given(numbers=_numbers, saved_at=st.integers(0, 60))
def test_each_frame_counts_once_in_any_order_with_repetitions_and_holes(numbers: list[int], saved_at: int) -> None:
    state, reference, items = PartitionState(0), SetOfNumbers(), 0
    bodies = [snapshot(state)]
    for at, number in enumerate(numbers):
        if at == saved_at:
            bodies.append(take_patch(state))
            state = load_state(0, bodies)
        frames = state.source(SOURCE)
        taken = frames.take(number, 10 + number, 100 * number)
        assert taken == reference.take(number)
        items += 10 + number if taken else 0
        assert numbers_of(frames) == reference.arrived
        assert (frames.items_received, frames.items_total) == (items, 100 * max(reference.arrived))
        edges = [frames.floor, *(edge for run in frames.beyond for edge in run)]
        assert all(low + 1 < high for low, high in zip(edges[::2], edges[1::2], strict=False)), "a hole before each run"
        assert all(first <= last for first, last in frames.beyond)
    assert load_state(0, [*bodies, take_patch(state)]).sources == state.sources
    assert load_state(0, [snapshot(state)]).sources == state.sources


@given(numbers=_numbers)
def test_a_state_with_single_numbers_is_read(numbers: list[int]) -> None:
    """As the version before wrote it."""
    state = PartitionState(0)
    for number in numbers:
        state.source(SOURCE).take(number, 1, number + 1)
    body = decoded(snapshot(state))
    del body["sources_beyond"]
    assert load_state(0, [encoded(body)]).sources == state.sources


@given(numbers=st.lists(st.integers(0, 60), max_size=60), kept=st.integers(0, 20))
def test_the_version_before_takes_no_missing_frame_for_one_that_arrived(numbers: list[int], kept: int) -> None:
    """It reads numbers: all of them while they are few, else the newest, which are those that may come again."""
    frames = ArrivedFrames()
    for number in numbers:
        frames.take(number, 1, number + 1)
    arrived = numbers_of(frames)
    above = sorted(number for number in arrived if number > frames.floor)
    found = frames.newest_beyond(kept)
    assert found == above[max(0, len(above) - kept) :]
    assert SetOfNumbers(frames.floor, frozenset(found)).arrived <= arrived


def test_a_hole_that_stays_costs_no_more_for_what_comes_after_it() -> None:
    """Nor in memory, nor in what each flush writes."""
    sizes = []
    for count in (1_000, 100_000):
        state = PartitionState(0)
        frames = state.source(SOURCE)
        for number in (n for n in range(count) if n != 5):
            assert frames.take(number, 1, number + 1)
        assert frames.beyond == [(6, count - 1)]
        body = take_patch(state)
        assert len(decoded(body)["sources"][SOURCE][1]) == 512
        sizes.append(len(zstandard.decompress(body)))
    assert sizes[1] - sizes[0] < 2_000  # of numbers of five octets in place of three
