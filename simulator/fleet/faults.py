"""Faults as wrappers over a stream of readings. The wrapped stream is never changed: faults change copies.

Each fault has its probability and its own random generator. Those of the device (clock skew, reboot, meter reset,
meter rollback, placeholder zero, malformed) belong inside, those of the network (drop, delay, duplicate, reorder)
outside: `with_faults` stacks them so. What is dropped here was never sent, so the platform does not account for it.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.fleet.readings import NULL, Burst, MalformedKind, Readings, Stream, no_readings

DELAYED_READINGS_MAX: Final = 500_000  # ~200 B each: 100 MB; above it the earliest due leave before their time

Generator = np.random.Generator
_Mask = NDArray[np.bool_]


def drop(stream: Iterable[Burst], probability: float, rng: Generator) -> Stream:
    """Leave readings out."""
    for at_ms, readings in stream:
        yield Burst(at_ms, readings[~_hits(readings, probability, rng)])


def delay(stream: Iterable[Burst], probability: float, rng: Generator, *, delay_ms_max: int = 30_000) -> Stream:
    """Send readings up to `delay_ms_max` of simulated time later; their ts stays. None is lost at its end."""
    waiting = _Waiting()
    at_ms = 0
    for at_ms, readings in stream:
        late = _hits(readings, probability, rng)
        yield Burst(at_ms, _joined(readings[~late], waiting.due(at_ms)))
        waiting.add(readings[late], at_ms, delay_ms_max, rng)
    yield Burst(at_ms, waiting.due(None))


def duplicate(stream: Iterable[Burst], probability: float, rng: Generator, *, delay_ms_max: int = 30_000) -> Stream:
    """Send readings a second time, unchanged, up to `delay_ms_max` later."""
    waiting = _Waiting()
    at_ms = 0
    for at_ms, readings in stream:
        yield Burst(at_ms, _joined(readings, waiting.due(at_ms)))
        waiting.add(readings[_hits(readings, probability, rng)], at_ms, delay_ms_max, rng)
    yield Burst(at_ms, waiting.due(None))


def reorder(stream: Iterable[Burst], probability: float, rng: Generator, *, span: int = 100) -> Stream:
    """Move readings up to `span` places back in the order of sending, across bursts."""
    if span < 1:
        raise ValueError("span must be at least 1")
    kept, places = no_readings(), np.empty(0)
    first, at_ms = 0, 0
    for at_ms, readings in stream:
        count = len(readings)
        back = rng.integers(1, span + 1, count) * _hits(readings, probability, rng)
        own = first + np.arange(count) + np.where(back, back + 0.5, 0)  # behind the one at that place
        kept, places = _joined(kept, readings), np.concatenate([places, own])
        first += count
        order = np.argsort(places, kind="stable")
        leaving = int(np.searchsorted(places[order], first))  # later readings have places from `first` on
        yield Burst(at_ms, kept[order[:leaving]])
        kept, places = kept[order[leaving:]], places[order[leaving:]]
    yield Burst(at_ms, kept)


def clock_skew(stream: Iterable[Burst], probability: float, rng: Generator, *, skew_ms_sd: float = 90_000) -> Stream:
    """Clocks of that share of the stations go wrong by a constant, normally distributed around 0."""
    skew_ms: dict[bytes, int] = {}
    for at_ms, clean in stream:
        readings = clean.copy()
        stations, which = np.unique(readings["station_id"], return_inverse=True)
        for station in stations.tolist():
            if station not in skew_ms:
                skewed, by = rng.random() < probability, rng.normal(0, skew_ms_sd)
                skew_ms[station] = round(by) if skewed else 0
        readings["ts_ms"] += np.array([skew_ms[station] for station in stations.tolist()], np.int64)[which]
        yield Burst(at_ms, readings)


def reboot(stream: Iterable[Burst], probability: float, rng: Generator, *, sends_boot: bool = True) -> Stream:
    """From a reading on, its connector's seq starts again at 0 and boot is one higher; or boot is never given."""
    restarted_at, boots = _PerSlot(), _PerSlot()
    for at_ms, clean in stream:
        readings, slot, seq = clean.copy(), clean["slot"], clean["seq"]
        readings["seq"] -= restarted_at.of(slot)
        readings["boot"] += boots.of(slot)
        for hit in np.flatnonzero(_hits(clean, probability, rng) & (seq > restarted_at.of(slot))):
            after = (slot == slot[hit]) & (seq >= seq[hit])
            readings["seq"][after] = seq[after] - seq[hit]
            readings["boot"][after] += 1
            restarted_at.put(slot[hit], seq[hit])
            boots.put(slot[hit], boots.get(slot[hit]) + 1)
        if not sends_boot:
            readings["boot"] = NULL
        yield Burst(at_ms, readings)


def meter_reset(stream: Iterable[Burst], probability: float, rng: Generator) -> Stream:
    """From a reading on, its connector's register counts from 0 again (a meter replaced)."""
    zero_at = _PerSlot()
    for at_ms, clean in stream:
        readings, slot, seq = clean.copy(), clean["slot"], clean["seq"]
        given = clean["energy_mwh"] != NULL
        readings["energy_mwh"] -= np.where(given, zero_at.of(slot), 0)
        for hit in np.flatnonzero(_hits(clean, probability, rng) & given):
            after = (slot == slot[hit]) & (seq >= seq[hit]) & given
            readings["energy_mwh"][after] = clean["energy_mwh"][after] - clean["energy_mwh"][hit]
            zero_at.put(slot[hit], clean["energy_mwh"][hit])
        yield Burst(at_ms, readings)


def meter_rollback(stream: Iterable[Burst], probability: float, rng: Generator, *, back_wh_max: int = 500) -> Stream:
    """Single readings whose register stands up to `back_wh_max` too low, never below 1 mWh."""
    for at_ms, clean in stream:
        readings = clean.copy()
        hits = _hits(clean, probability, rng) & (clean["energy_mwh"] > 1)
        back_mwh = rng.integers(1, back_wh_max * 1_000 + 1, len(clean))
        readings["energy_mwh"][hits] = np.maximum(clean["energy_mwh"] - back_mwh, 1)[hits]
        yield Burst(at_ms, readings)


def placeholder_zero(stream: Iterable[Burst], probability: float, rng: Generator) -> Stream:
    """Single readings whose register is 0 because the device had no value."""
    for at_ms, clean in stream:
        readings = clean.copy()
        readings["energy_mwh"][_hits(clean, probability, rng) & (clean["energy_mwh"] != NULL)] = 0
        yield Burst(at_ms, readings)


def malformed(stream: Iterable[Burst], probability: float, rng: Generator) -> Stream:
    """Items that no gateway may take, one of the kinds of MalformedKind each."""
    for at_ms, clean in stream:
        readings = clean.copy()
        kinds = rng.integers(MalformedKind.WRONG_TYPE, max(MalformedKind) + 1, len(clean))
        readings["malformed"] = np.where(_hits(clean, probability, rng), kinds, MalformedKind.NO)
        yield Burst(at_ms, readings)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The probability of each fault; 0 leaves its wrapper out. Order: from the device outward."""

    clock_skew: float = field(default=0.0, metadata={"wrap": clock_skew})
    reboot: float = field(default=0.0, metadata={"wrap": reboot})
    meter_reset: float = field(default=0.0, metadata={"wrap": meter_reset})
    meter_rollback: float = field(default=0.0, metadata={"wrap": meter_rollback})
    placeholder_zero: float = field(default=0.0, metadata={"wrap": placeholder_zero})
    malformed: float = field(default=0.0, metadata={"wrap": malformed})
    drop: float = field(default=0.0, metadata={"wrap": drop})
    duplicate: float = field(default=0.0, metadata={"wrap": duplicate})
    delay: float = field(default=0.0, metadata={"wrap": delay})
    reorder: float = field(default=0.0, metadata={"wrap": reorder})

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not 0 <= getattr(self, entry.name) <= 1:
                raise ValueError(f"{entry.name} is a probability: 0 to 1")

    @classmethod
    def parse(cls, text: str) -> "FaultPlan":
        """Read `drop=0.01,duplicate=0.05`. Raises ValueError that names the remedy."""
        known = [entry.name for entry in fields(cls)]
        values = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = part.partition("=")
            if name not in known:
                raise ValueError(f"unknown fault {name!r}; known are {', '.join(known)}")
            try:
                values[name] = float(number)
            except ValueError:
                raise ValueError(f"{part!r}: write a fault as {name}=0.01") from None
        return cls(**values)


def with_faults(stream: Iterable[Burst], plan: FaultPlan, seed: int) -> Stream:
    """The stream behind all faults of the plan. Each has its own generator, so one more changes none of the others."""
    seeds = np.random.SeedSequence(seed).spawn(len(fields(plan)))
    wrapped: Iterable[Burst] = stream
    for entry, child in zip(fields(plan), seeds, strict=True):
        probability = getattr(plan, entry.name)
        if probability:
            wrap: Callable[[Iterable[Burst], float, Generator], Stream] = entry.metadata["wrap"]
            wrapped = wrap(wrapped, probability, np.random.default_rng(child))
    return iter(wrapped)


def _hits(readings: Readings, probability: float, rng: Generator) -> _Mask:
    return rng.random(len(readings)) < probability


def _joined(first: Readings, second: Readings) -> Readings:
    if not len(second):
        return first
    return np.concatenate([first, second]) if len(first) else second


class _Waiting:
    """Readings that wait until simulated time reaches theirs."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, np.void]] = []  # due, a counter that keeps the order of equals, the reading
        self._count = 0

    def add(self, readings: Readings, at_ms: int, delay_ms_max: int, rng: Generator) -> None:
        for reading, wait_ms in zip(readings, rng.integers(1, delay_ms_max + 1, len(readings)).tolist(), strict=True):
            heapq.heappush(self._heap, (at_ms + wait_ms, self._count, reading))
            self._count += 1

    def due(self, at_ms: int | None) -> Readings:
        """Those due at that time (None: all), earliest first, and any above the bound."""
        leaving = []
        while self._heap and (at_ms is None or self._heap[0][0] <= at_ms or len(self._heap) > DELAYED_READINGS_MAX):
            leaving.append(heapq.heappop(self._heap)[2])
        return np.array(leaving, no_readings().dtype)


class _PerSlot:
    """An integer a connector, 0 until it is put; grows with the fleet."""

    def __init__(self) -> None:
        self._values = np.zeros(0, np.int64)

    def _fit(self, slot_max: int) -> None:
        if slot_max >= len(self._values):
            self._values = np.concatenate([self._values, np.zeros(slot_max + 1 - len(self._values), np.int64)])

    def of(self, slots: NDArray[np.int32]) -> NDArray[np.int64]:
        if len(slots):
            self._fit(int(slots.max()))
        return self._values[slots]

    def get(self, slot: int) -> int:
        return int(self._values[slot])

    def put(self, slot: int, value: int) -> None:
        self._values[slot] = value
