"""Sessions with readings: what telemetry stores of them, and the event it publishes."""

import random
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec

from billing.invoicing.amounts import to_consumption
from billing.invoicing.tariffs import parse_tariff
from billing.rating import MeterBefore, StoredReading, rate_readings
from billing.readings_source import StoredReadings
from kit.clock import from_ms, to_ms
from schemas.events import SessionCompleted
from schemas.reading import Status
from tests.billing.making import START, TARIFF, VERSION, ZONE, session
from tests.billing.telemetry import Telemetry

UJ_PER_MWH = 3_600_000


def readings(rng: random.Random, start: datetime = START, count: int = 40) -> StoredReadings:
    """A session's stored readings, out of order, with a placeholder zero, a leap and a moment in two parts. Another
    session of its connector came before."""
    stored, ts_ms, energy_mwh = [], to_ms(start), rng.randrange(10**7, 10**9)
    before = MeterBefore(50_000_000, energy_mwh - 3_000, ts_ms - 60_000, energy_mwh - 10**6)
    for seq in range(count):
        status = Status.CHARGING if seq < count * 3 // 4 else Status.SUSPENDED_EV
        power_mw = rng.randrange(5_000_000, 22_000_000) if status is Status.CHARGING else 0
        stored.append(StoredReading(ts_ms, seq, energy_mwh, power_mw, rng.randrange(32_000), status, boot=7))
        dt_ms = rng.randrange(10_000, 120_000)
        ts_ms, energy_mwh = ts_ms + dt_ms, energy_mwh + power_mw * dt_ms // UJ_PER_MWH
    stored.append(StoredReading(stored[10].ts_ms + 1, count, 0))
    stored.append(StoredReading(stored[15].ts_ms + 1, count + 1, 10**12))
    stored.append(StoredReading(stored[12].ts_ms, None, stored[12].energy_mwh, part=1))
    flags = [0] * count + [4, 8, 64]
    order = list(range(len(stored)))
    rng.shuffle(order)
    return StoredReadings([stored[place] for place in order], [flags[place] for place in order], before)


def completed(
    telemetry: Telemetry,
    stored: StoredReadings,
    session_id: UUID | None = None,
    revision: int = 1,
    *,
    tariff: dict[str, Any] = TARIFF,
    version: UUID = VERSION,
) -> SessionCompleted:
    """The event of a session with these readings, which telemetry stores."""
    parsed = parse_tariff(msgspec.json.encode(tariff).decode())
    used, _ = rate_readings(parsed, ZoneInfo(ZONE), stored.readings, stored.before)
    start_ms = min(reading.ts_ms for reading in stored.readings)
    end_ms = max(reading.ts_ms for reading in stored.readings)
    energy_mwh = sum(one.volume for one in used if one.dimension == "ENERGY")
    event = session(
        session_id or uuid4(),
        revision=revision,
        energy_mwh=energy_mwh,
        start=from_ms(start_ms),
        time_ms=end_ms - start_ms,
        used=to_consumption(used),
        tariff=tariff,
        version=version,
        readings=len(stored.readings),
    )
    telemetry.complete(event, stored)
    return event


def later(stored: StoredReadings) -> StoredReadings:
    """The same with a reading more, which came late."""
    last = max(stored.readings, key=lambda one: one.ts_ms)
    more = StoredReading(last.ts_ms + 1_000, 99, (last.energy_mwh or 0) + 5_000, 0, 0, Status.FINISHING)
    return StoredReadings([*stored.readings, more], [*stored.flags, 64], stored.before)
