"""The simulated fleet of `up`: real HTTP requests against its own gateway."""

from typing import Final

from kit.clock import Clock
from kit.errors import Unavailable
from kit.observability.logs import get_logger
from simulator.encode import Format
from simulator.fleet.fleet import Fleet, FleetSpec
from simulator.fleet.run import live
from simulator.transports import HttpTransport

CONNECTORS: Final = 2  # of each station
_SEED: Final = 1
_BRIEF: Final = 0.5  # of the cars that are there at once: so the first invoices are there within minutes
_BATCH: Final = 100  # readings a request at most; at 50/s a request leaves each 50 ms with 2 or 3
_CONNECTIONS: Final = 8

_log = get_logger(__name__)


async def drive(url: str, token: str, stations: int, rate: float, clock: Clock) -> None:
    """Send the fleet's readings at `rate` a second, until cancelled; through outages. Raises Rejected."""
    while True:
        # A new fleet is a later boot of the same stations: nothing of it is taken for a duplicate.
        spec = FleetSpec(
            seed=_SEED,
            start_ms=clock.now_ms(),
            stations=stations,
            connectors=CONNECTORS,
            rate=rate,
            prefix="SIM",
            brief=_BRIEF,
        )
        transport = HttpTransport(url, token, clock, connections=_CONNECTIONS)
        try:
            await live(Fleet(spec).stream(), transport, Format.JSON, lambda _: None, clock, batch=_BATCH)
        except Unavailable as error:
            _log.warning("simulated_fleet_starts_over", error=str(error))
        finally:
            await transport.close()
