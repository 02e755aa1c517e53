"""Rows for the telemetry tables: seeded readings, and the windows that follow from them by plain SQL."""

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta

import psycopg

from streams.storage.windows.relations import coarse_relations

_QUANTITIES = ("power_mw", "voltage_mv", "current_ma", "temperature_mc", "soc_mpct")

COARSER_WINDOWS_SQL = ";\n".join(coarse_relations("plain"))

_AGGREGATED = ", ".join(f"count({q}), coalesce(sum({q}), 0), min({q}), max({q})" for q in _QUANTITIES)
_WINDOWS = f"""
INSERT INTO telemetry.window_1m
SELECT connector_key, date_trunc('minute', ts), 1, count(*), count(*) FILTER (WHERE flags <> 0), min(ts), max(ts),
       {_AGGREGATED}, count(energy_mwh), min(ts) FILTER (WHERE energy_mwh IS NOT NULL),
       (array_agg(energy_mwh ORDER BY ts) FILTER (WHERE energy_mwh IS NOT NULL))[1],
       max(ts) FILTER (WHERE energy_mwh IS NOT NULL),
       (array_agg(energy_mwh ORDER BY ts DESC) FILTER (WHERE energy_mwh IS NOT NULL))[1],
       coalesce(sum(in_session_mwh), 0), coalesce(sum(outside_mwh), 0), coalesce(sum(rejected_mwh), 0),
       min(ts) FILTER (WHERE energy_export_mwh IS NOT NULL),
       (array_agg(energy_export_mwh ORDER BY ts) FILTER (WHERE energy_export_mwh IS NOT NULL))[1],
       max(ts) FILTER (WHERE energy_export_mwh IS NOT NULL),
       (array_agg(energy_export_mwh ORDER BY ts DESC) FILTER (WHERE energy_export_mwh IS NOT NULL))[1]
FROM telemetry.reading GROUP BY 1, 2
"""


@dataclass
class Reading:
    """A row of telemetry.reading."""

    connector_key: int
    ts: datetime
    session_key: int | None = None
    boot: int | None = None
    seq: int | None = None
    energy_mwh: int | None = None
    power_mw: int | None = None
    voltage_mv: int | None = None
    current_ma: int | None = None
    temperature_mc: int | None = None
    soc_mpct: int | None = None
    status: int = 0
    session_event: int = 0
    flags: int = 0
    payload_hash: int = 0
    in_session_mwh: int | None = None
    outside_mwh: int | None = None
    rejected_mwh: int | None = None
    energy_export_mwh: int | None = None


def add_connector(url: str, station_id: str, connector_id: int) -> int:
    """A connector of partition 0; its key."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "INSERT INTO telemetry.connector (partition, station_id, connector_id) VALUES (0, %s, %s) "
            "RETURNING connector_key",
            (station_id, connector_id),
        ).fetchone()
    assert row is not None
    return int(row[0])


def add_readings(url: str, readings: Iterable[Reading], *, windows: bool = True) -> None:
    """Store readings, and make the 1-minute windows of all there are where there are none yet."""
    names = ", ".join(field.name for field in fields(Reading))
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(f"COPY telemetry.reading ({names}) FROM STDIN") as copy:
            for reading in readings:
                copy.write_row(tuple(asdict(reading).values()))
        if windows:
            connection.execute(_WINDOWS)
        connection.execute("ANALYZE telemetry.reading, telemetry.window_1m")


def random_readings(
    rng: random.Random, connector_key: int, start: datetime, n: int, step_s: float = 7
) -> list[Reading]:
    """A connector's readings with gaps: a rising register that sometimes restarts, any quantity sometimes missing."""
    readings, energy_mwh, export_mwh, ts = [], rng.randrange(10**9), 0, start
    for seq in range(n):
        ts += timedelta(milliseconds=rng.randrange(1, int(step_s * 2_000)) + (600_000 if rng.random() < 0.01 else 0))
        energy_mwh = rng.randrange(1_000) if rng.random() < 0.005 else energy_mwh + rng.randrange(30_000)

        export_mwh = 0 if rng.random() < 0.005 else export_mwh + rng.randrange(5_000)

        def maybe(value: int) -> int | None:
            return value if rng.random() < 0.8 else None

        readings.append(
            Reading(
                connector_key=connector_key,
                ts=ts,
                boot=3 if seq % 3 else None,
                seq=seq if seq % 3 != 1 else None,
                energy_mwh=maybe(energy_mwh),
                power_mw=maybe(rng.randrange(-(10**9), 10**9)),
                voltage_mv=maybe(rng.randrange(400_000)),
                current_ma=maybe(rng.randrange(-(10**6), 10**6)),
                temperature_mc=maybe(rng.randrange(-30_000, 90_000)),
                soc_mpct=maybe(rng.randrange(100_001)),
                status=rng.randrange(10),
                session_event=rng.randrange(4),
                flags=rng.choice([0, 0, 0, 1, 64, 65]),
                in_session_mwh=maybe(rng.randrange(30_000)),
                outside_mwh=rng.choice([None, None, rng.randrange(500)]),
                rejected_mwh=rng.choice([None, None, None, rng.randrange(-5, 10**6)]),
                energy_export_mwh=rng.choice([None, export_mwh]) if ts.minute % 7 else None,
            )
        )
    return readings
