"""Sends a stream of readings by a transport: live by the clock, or past days as fast as possible."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from kit.clock import Clock
from simulator.encode import Format, encode
from simulator.fleet.readings import Burst, Readings, batches, no_readings
from simulator.in_flight import InFlight
from simulator.transports import Sleep, Transport

PACE_S: Final = 0.05  # a live stream leaves in parts this long: 20 requests a second are cheap, 50 ms old is live
Progress = Callable[[int], None]  # readings acknowledged since the last call
# Cars prepare for up to a minute before they charge; a connector that is read less often shows next to nothing live.
_PERIOD_LIVE_S_MAX: Final = 60.0
_PERIOD_LIVE_S: Final = 10.0  # as chargers are commonly set


def slow_rate(connectors: int, rate: float) -> str | None:
    """What to say of a fleet's rate at which a live run shows nothing for minutes, and a rate that is better."""
    period_s = connectors / rate
    if period_s <= _PERIOD_LIVE_S_MAX:
        return None
    return (
        f"--rate {rate:g} is of the whole fleet: each of {connectors:,} connectors is read every {period_s:,.0f} s, "
        f"and sessions show only after several readings; --rate {connectors / _PERIOD_LIVE_S:g} reads each of them "
        f"every {_PERIOD_LIVE_S:.0f} s"
    )


async def back_fill(
    stream: Iterable[Burst], transport: Transport, form: Format, progress: Progress, *, batch: int, in_flight: int = 8
) -> None:
    """Send everything, as fast as it is acknowledged. Raises what the transport raises."""
    await _send_all(batches(stream, batch), transport, form, progress, in_flight)


async def live(
    stream: Iterable[Burst],
    transport: Transport,
    form: Format,
    progress: Progress,
    clock: Clock,
    *,
    batch: int,
    in_flight: int = 8,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Send every burst when the clock reaches its moment; a late one is sent at once, none is left out."""
    sends = InFlight(in_flight, progress)
    pending: list[Readings] = []
    first_ms, first_s = clock.now_ms(), clock.monotonic_s()  # pace by the clock that never jumps

    async def flush() -> None:
        for rows in _parts(pending, batch):
            await sends.put(transport.send(encode(rows, form), form, len(rows)), len(rows))
        pending.clear()

    try:
        for burst in stream:
            pending.append(burst.readings)
            wait_s = (burst.at_ms - first_ms) / 1_000 - (clock.monotonic_s() - first_s)
            if wait_s > 0:
                await sleep(max(wait_s, PACE_S))
                await flush()
            elif sum(map(len, pending)) >= batch:
                await flush()
        await flush()
        await sends.drain()
    finally:
        await sends.settle()


async def _send_all(
    rows: Iterator[Readings], transport: Transport, form: Format, progress: Progress, in_flight: int
) -> None:
    sends = InFlight(in_flight, progress)
    try:
        for part in rows:
            await sends.put(transport.send(encode(part, form), form, len(part)), len(part))
        await sends.drain()
    finally:
        await sends.settle()


def _parts(pending: list[Readings], batch: int) -> Iterator[Readings]:
    rows = np.concatenate(pending) if pending else no_readings()
    return (rows[at : at + batch] for at in range(0, len(rows), batch))
