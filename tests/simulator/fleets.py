"""Small fleets, and what the gateway's own admission makes of what they send."""

from functools import lru_cache

import numpy as np
import pyarrow as pa

from ingest.admission import Admitted, DecodedReadings, to_batch
from simulator.fleet.fleet import Fleet
from simulator.fleet.readings import Burst, Readings
from simulator.fleet.spec import FleetSpec, SessionTruth

START_MS = 1_767_600_000_000  # 2026-01-05 08:00 UTC: the morning, cars arrive
HOUR_MS = 3_600_000


def a_fleet(seed: int, *, stations: int = 20, period_s: float = 30.0) -> Fleet:
    """Two connectors a station, each read every `period_s`."""
    return Fleet(FleetSpec(seed=seed, start_ms=START_MS, stations=stations, rate=stations * 2 / period_s))


def bursts(seed: int, *, hours: float = 2.0, stations: int = 20) -> list[Burst]:
    """A clean stream, computed once per arguments: its arrays are read-only."""
    return list(_bursts(seed, hours, stations))


@lru_cache(maxsize=8)
def _bursts(seed: int, hours: float, stations: int) -> tuple[Burst, ...]:
    made = tuple(a_fleet(seed, stations=stations).stream(START_MS + round(hours * HOUR_MS), burst_ms=10_000))
    for burst in made:
        burst.readings.setflags(write=False)
    return made


@lru_cache(maxsize=1)
def half_a_day(seed: int) -> tuple[Readings, tuple[SessionTruth, ...]]:
    """All readings of 12 hours, and the truth about every session that ended in them."""
    fleet = a_fleet(seed)
    rows = rows_of(list(fleet.stream(START_MS + 12 * HOUR_MS)))
    rows.setflags(write=False)
    return rows, tuple(fleet.truth)


def rows_of(stream: "list[Burst]") -> Readings:
    """All readings of a stream."""
    return np.concatenate([burst.readings for burst in stream])


def admitted_columns(answer: Admitted) -> pa.RecordBatch:
    """The good readings of a body, with READING_SCHEMA."""
    rows = answer.rows
    return to_batch(rows.readings, rows.ts_ms) if isinstance(rows, DecodedReadings) else rows
