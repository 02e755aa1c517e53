"""The bodies of load mode: every reading valid, unique and of this moment, at about the speed of copying bytes.

All readings of a fleet are encoded once. After that only the digits that change (ts, seq, register) are written into
copies of those bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.clock import Clock
from schemas.reading import Status
from simulator.encode import Bytes2D, Format, encode, json_rows, zero_padded
from simulator.fleet.readings import NULL, READING_DTYPE, Readings
from simulator.fleet.spec import station_name

_BLOCK_READINGS: Final = 1_024  # made at once, where batches are smaller: below that numpy's fixed costs show
_TS_DIGITS: Final = 13  # until the year 2286
_SEQ_DIGITS: Final = 10
_SEQ_FIRST: Final = 10 ** (_SEQ_DIGITS - 1)  # so that seq never grows a digit
_REGISTER_DIGITS: Final = 11  # of mWh
_REGISTER_FIRST_MWH: Final = 10 ** (_REGISTER_DIGITS - 1)

_Make = Callable[[NDArray[np.int64], NDArray[np.int64], int], Iterator[bytes]]  # slot, turn, now -> bodies


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """Parameters of a load run."""

    url: str  # the platform's base URL, http only
    token: str
    duration_s: float
    stations: int = 5_000
    connectors: int = 2
    batch: int = 100  # readings a request; 1 sends a bare object
    connections: int = 4
    pipeline: int = 2  # requests on their way on each connection
    form: Format = Format.JSON
    rate: float | None = None  # readings a second in all; None: as fast as it goes
    prefix: str = "LOAD"

    def __post_init__(self) -> None:
        if min(self.stations, self.connectors, self.batch, self.connections, self.pipeline) < 1:
            raise ValueError("stations, connectors, batch, connections and pipeline must be at least 1")
        if self.duration_s <= 0 or (self.rate is not None and self.rate <= 0):
            raise ValueError("duration and rate must be above 0")


def bodies(spec: LoadSpec, clock: Clock) -> Iterator[bytes]:
    """Endless bodies of `spec.batch` readings: number m is of connector m % slots and its seq is base + m // slots."""
    template = _template(spec, boot=clock.now_ms() // 1_000)
    # With a rate, a body is made when it is due, so that its ts is the moment it leaves.
    block = spec.batch * (max(1, _BLOCK_READINGS // spec.batch) if spec.rate is None else 1)
    make = _arrow(template, spec) if spec.form is Format.ARROW else _json(template, spec)
    for made in count(0, block):
        number = made + np.arange(block)
        yield from make(number % len(template), number // len(template), clock.now_ms())


def _json(template: Readings, spec: LoadSpec) -> _Make:
    lines = spec.form is Format.NDJSON
    encoded = json_rows(template, b"\n" if lines else b",")
    first = encoded[0].tobytes()
    ts_at, seq_at = first.index(b'"ts":') + 5, first.index(b'"seq":') + 6
    register_at = first.index(b'"energy_wh":') + 12
    point = register_at + _REGISTER_DIGITS - 3

    def make(slot: NDArray[np.int64], turn: NDArray[np.int64], now_ms: int) -> Iterator[bytes]:
        rows: Bytes2D = encoded[slot]
        rows[:, ts_at : ts_at + _TS_DIGITS] = np.frombuffer(str(now_ms).encode(), np.uint8)
        rows[:, seq_at : seq_at + _SEQ_DIGITS] = zero_padded(_SEQ_FIRST + turn, _SEQ_DIGITS)
        register = zero_padded(template["energy_mwh"][slot] + turn, _REGISTER_DIGITS)
        rows[:, register_at:point] = register[:, :-3]
        rows[:, point + 1 : point + 4] = register[:, -3:]
        for at in range(0, len(rows), spec.batch):
            part = rows[at : at + spec.batch].reshape(-1)
            if lines:
                yield part.tobytes()
            elif spec.batch == 1:
                yield part[:-1].tobytes()
            else:
                yield b"".join((b"[", part[:-1].data, b"]"))

    return make


def _arrow(template: Readings, spec: LoadSpec) -> _Make:
    def make(slot: NDArray[np.int64], turn: NDArray[np.int64], now_ms: int) -> Iterator[bytes]:
        rows = template[slot]
        rows["ts_ms"] = now_ms
        rows["seq"] = _SEQ_FIRST + turn
        rows["energy_mwh"] += turn
        for at in range(0, len(rows), spec.batch):
            yield encode(rows[at : at + spec.batch], Format.ARROW)

    return make


def _template(spec: LoadSpec, boot: int) -> Readings:
    """One reading of every connector, all charging, none in a session's first or last moment."""
    slots = spec.stations * spec.connectors
    rows = np.zeros(slots, READING_DTYPE)
    rows["slot"] = slot = np.arange(slots)
    names = np.array([station_name(spec.prefix, number).encode() for number in range(spec.stations)])
    rows["station_id"] = np.repeat(names, spec.connectors)
    rows["connector_id"] = slot % spec.connectors + 1
    rows["session_id"] = [f"{boot}-{number:06d}".encode() for number in range(slots)]
    rows["boot"] = boot
    rows["seq"] = _SEQ_FIRST
    rows["ts_ms"] = boot * 1_000
    rows["energy_mwh"] = _REGISTER_FIRST_MWH + slot * 1_000_000
    rows["power_mw"] = 7_000_000 + slot % 1_000 * 1_000
    rows["voltage_mv"] = 230_000 + slot % 5_000
    rows["current_ma"] = 30_000 + slot % 2_000
    rows["temperature_mc"] = 25_000 + slot % 9_000
    rows["soc_mpct"] = NULL
    rows["status"] = Status.CHARGING
    return rows
