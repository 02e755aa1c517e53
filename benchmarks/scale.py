"""What a fleet costs: `python -m benchmarks.scale [--core-month 20 …] [--json]`, from what was measured.

A model, not a measurement: each figure of `Measured` is from benchmarks/README.md or a stage named beside it, and the
model adds them up. docs/scale.md has its tables (a test holds them equal) and says where it was compared with a run.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

_DAY_S: Final = 86_400
_GB: Final = 1e9
_WEEK_DAYS: Final = 7
FLEETS: Final = (10_000, 100_000, 1_000_000)
INTERVALS_S: Final = (60, 10)


@dataclass(frozen=True, slots=True)
class Measured:
    """On two cores that were quiet; single posts, distributed, RabbitMQ behind."""

    post_gateway_us: float = 24.8  # a single reading: 40.3 k posts/s/core ("Single posts")
    all_base_cores: float = 0.307  # of all processes and servers, whatever comes: through 1,000/s at 380 us …
    all_reading_us: float = 73.0  # … and 10,000/s at 104 us a reading ("Single posts")
    session_invoice_ms: float = 2.7  # a session of 100 readings ("Money")
    connection_bytes: float = 8_300.0  # of a kept-alive connection that has posted, at 5,000
    gateway_base_mb: float = 270.0
    worker_base_mb: float = 195.0
    connector_bytes: float = 1_460.0  # of a worker after a day of sessions (`day`); 800 after ten readings (`memory`)
    reading_bytes: float = 112.0  # stored, indexes included ("Storage")
    reading_compressed_bytes: float = 17.3
    window_bytes: float = 546.0  # of a minute
    window_compressed_bytes: float = 19.4
    lake_reading_bytes: float = 8.4
    lake_window_bytes: float = 15.2


@dataclass(frozen=True, slots=True)
class FleetModel:
    """What connectors do. `interval_s`: between two readings of one that charges."""

    connectors: int
    interval_s: float
    charging: float = 0.15  # of the connectors, at any time
    session_h: float = 1.0
    silent_interval_s: float = 900.0  # of those that do not charge: a status each quarter of an hour
    peak: float = 3.0  # of sessions that end, over the mean of a day


@dataclass(frozen=True, slots=True)
class Prices:
    """Assumed, not looked up: put in your own."""

    core_month: float = 20.0
    gb_memory_month: float = 3.0
    gb_disk_month: float = 0.10


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a fleet. Cores are of full use: plan twice as many."""

    readings_per_s: float
    cores: float
    memory_gb: float
    disk_gb: float  # a year: last week as it comes, the rest compressed
    lake_gb: float  # a year
    gateways: int  # processes, by their connections
    workers: int  # processes, by cores
    partitions: int
    month: float
    most_of_it: str  # of the month's price


CONNECTIONS_MAX: Final = 32_768  # of a gateway, as values-prod.yaml has it
_CORE_READINGS_PER_S: Final = 20_000.0  # of a worker's process that is to have room
_PARTITIONS_MIN: Final = 4
_RAW_DAYS: Final = 2.5 * _WEEK_DAYS  # a week's table is compressed two weeks after it began or ended: in the mean


def cost_of(fleet: FleetModel, measured: Measured, prices: Prices) -> Cost:
    """What it takes, all parts together."""
    charging = fleet.connectors * fleet.charging
    of_charging_per_s = charging / fleet.interval_s
    readings_per_s = of_charging_per_s + (fleet.connectors - charging) / fleet.silent_interval_s
    sessions_per_s = charging / (fleet.session_h * 3_600)
    invoicing = sessions_per_s * fleet.peak * measured.session_invoice_ms * 1e-3
    cores = measured.all_base_cores + readings_per_s * measured.all_reading_us * 1e-6 + invoicing
    gateways = max(2, math.ceil(fleet.connectors / CONNECTIONS_MAX))
    workers = max(2, math.ceil(readings_per_s / _CORE_READINGS_PER_S))
    memory_gb = (
        gateways * measured.gateway_base_mb / 1e3
        + workers * measured.worker_base_mb / 1e3
        + fleet.connectors * (measured.connection_bytes + measured.connector_bytes) / _GB
    )
    readings, windows = readings_per_s * _DAY_S, _windows_per_day(fleet, readings_per_s)
    raw_gb = (readings * measured.reading_bytes + windows * measured.window_bytes) / _GB
    packed_gb = (readings * measured.reading_compressed_bytes + windows * measured.window_compressed_bytes) / _GB
    disk_gb = raw_gb * _RAW_DAYS + packed_gb * (365 - _RAW_DAYS)
    lake_gb = (readings * measured.lake_reading_bytes + windows * measured.lake_window_bytes) / _GB * 365
    month = cores * 2 * prices.core_month + memory_gb * prices.gb_memory_month + disk_gb * prices.gb_disk_month
    shares = {
        "disk": disk_gb * prices.gb_disk_month,
        "processors": cores * 2 * prices.core_month,
        "memory": memory_gb * prices.gb_memory_month,
    }
    partitions = max(_PARTITIONS_MIN, 1 << math.ceil(math.log2(4 * workers)))
    return Cost(
        readings_per_s=readings_per_s,
        cores=cores,
        memory_gb=memory_gb,
        disk_gb=disk_gb,
        lake_gb=lake_gb,
        gateways=gateways,
        workers=workers,
        partitions=partitions,
        month=month,
        most_of_it=max(shares, key=lambda name: shares[name]),
    )


def _windows_per_day(fleet: FleetModel, readings_per_s: float) -> float:
    """A window of a minute for each connector that sent in it."""
    charging = fleet.connectors * fleet.charging
    silent = (fleet.connectors - charging) / max(fleet.silent_interval_s, 60.0)
    return (charging / max(fleet.interval_s, 60.0) + silent) * _DAY_S


def rows(measured: Measured, prices: Prices) -> Iterator[tuple[FleetModel, Cost]]:
    """Of all fleets."""
    for connectors in FLEETS:
        for interval_s in INTERVALS_S:
            fleet = FleetModel(connectors, interval_s)
            yield fleet, cost_of(fleet, measured, prices)


def table(found: Sequence[tuple[FleetModel, Cost]]) -> str:
    """As Markdown."""
    head = (
        "| connectors | a reading each, s | readings/s | cores | memory, GB | disk of a year, GB | lake, GB a year "
        "| gateways | workers | partitions | a month | most of it |"
    )
    lines = [head, "|---" * 12 + "|"]
    for fleet, cost in found:
        lines.append(
            f"| {fleet.connectors:,} | {fleet.interval_s:g} | {cost.readings_per_s:,.0f} | {cost.cores:.2f} "
            f"| {cost.memory_gb:,.1f} | {cost.disk_gb:,.0f} | {cost.lake_gb:,.0f} | {cost.gateways} | {cost.workers} "
            f"| {cost.partitions} | {cost.month:,.0f} | {cost.most_of_it} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    for name, default in asdict(Prices()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=default, help=f"price, {default} assumed"
        )
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    prices = Prices(arguments.core_month, arguments.gb_memory_month, arguments.gb_disk_month)
    found = list(rows(Measured(), prices))
    if arguments.json:
        print(json.dumps([asdict(fleet) | asdict(cost) for fleet, cost in found]))
    else:
        print(table(found), end="")


if __name__ == "__main__":
    main()
