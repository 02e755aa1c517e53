"""The simulated fleet of `up`: real HTTP requests against its own gateway, and starts and stops from the event bus.

Where `telemetry.received_events` is on, it also measures how long its readings take until they are stored for good.
"""

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry, Histogram

from kit.clock import Clock, parse_rfc3339, to_ms
from kit.errors import Unavailable, Unprocessable
from kit.messaging.bus import Bus
from kit.messaging.consumer import Source, listen, moment_of
from kit.messaging.messages import Message
from kit.observability.logs import get_logger
from schemas.events import Event, SessionRequested, SessionStopRequested, TelemetryReceived
from schemas.topics import (
    SESSION_REQUESTED,
    SESSION_STOP_REQUESTED,
    TELEMETRY_RECEIVED,
    exchange_of,
    group_queue,
    process_queue,
    routing_key,
)
from simulator.encode import Format
from simulator.fleet.fleet import Fleet
from simulator.fleet.run import live
from simulator.fleet.spec import FleetSpec
from simulator.transports import HttpTransport

GROUP: Final = "simulator"
PREFIX: Final = "SIM"
CONNECTORS: Final = 2  # of each station
_SEED: Final = 1
_BRIEF: Final = 0.5  # of the cars that are there at once: so the first invoices are there within minutes
_BATCH: Final = 100  # readings a request at most; at 50/s a request leaves each 50 ms with 2 or 3
_CONNECTIONS: Final = 8
# A driver's request expires after 15 minutes. RabbitMQ may keep older ones, from while no fleet ran.
_REQUEST_AGE_MS_MAX: Final = 15 * 60_000
_REQUESTS_KEPT_MAX: Final = 10_000  # ids, 100 B each, by which repeated deliveries are known
_STORED_AFTER_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

_log = get_logger(__name__)


class SimulatedFleet:
    """The fleet, and drivers' requests to it."""

    def __init__(self, stations: int, rate: float, clock: Clock, registry: CollectorRegistry) -> None:
        """`rate` is in readings per second of the whole fleet."""
        self._stored_after_s = Histogram(
            "simulated_reading_stored_after_seconds",
            "From the newest reading that a flush stored of a simulated station to the event that says so",
            registry=registry,
            buckets=_STORED_AFTER_S,
        )
        self._decode_received = msgspec.json.Decoder(Event[TelemetryReceived]).decode
        self._stations, self._rate, self._clock = stations, rate, clock
        self._fleet: Fleet | None = None  # while it runs
        self._registers_mwh: Mapping[tuple[str, int], int] = {}  # where the meters stand, of a fleet that starts
        self._requests: OrderedDict[UUID, None] = OrderedDict()  # those that a session was started for

    def spec(self) -> FleetSpec:
        """The spec of a fleet that starts now; its stations are the same at any time."""
        return FleetSpec(
            seed=_SEED,
            start_ms=self._clock.now_ms(),
            stations=self._stations,
            connectors=CONNECTORS,
            rate=self._rate,
            prefix=PREFIX,
            brief=_BRIEF,
        )

    def continue_from(self, registers_mwh: Mapping[tuple[str, int], int]) -> None:
        """Let meters go on from where they stood, by station and connector: of a session that is open since the last
        run the next register is no leap."""
        self._registers_mwh = registers_mwh

    async def consume(self, bus: Bus) -> None:
        """Subscribe to the requests that sessions start and stop, and to what is stored. Raises Unavailable."""
        decode_start = msgspec.json.Decoder(Event[SessionRequested]).decode
        await listen(bus, _source(SESSION_REQUESTED), decode=decode_start, process=self.start)
        decode_stop = msgspec.json.Decoder(Event[SessionStopRequested]).decode
        await listen(bus, _source(SESSION_STOP_REQUESTED), decode=decode_stop, process=self.stop)
        own_queue = process_queue(GROUP, secrets.token_hex(4), TELEMETRY_RECEIVED)  # what nobody measures may be lost
        await bus.subscribe_process(
            own_queue, exchange_of(TELEMETRY_RECEIVED), routing_key(TELEMETRY_RECEIVED), self.received
        )

    async def start(self, event: Event[SessionRequested]) -> bool:
        """Start the session, named by the request's id. Does nothing where the station is not of this fleet, or the
        connector is in use; repetitions change nothing. Returns whether a session will start."""
        wanted = event.payload
        if self._fleet is None or wanted.request_id in self._requests or self._is_old(wanted.requested_at):
            return False
        place = (wanted.station_id, wanted.connector_id)
        if not self._fleet.request_start(*place, str(wanted.request_id)):
            return False
        self._requests[wanted.request_id] = None
        if len(self._requests) > _REQUESTS_KEPT_MAX:
            self._requests.popitem(last=False)
        return True

    async def stop(self, event: Event[SessionStopRequested]) -> bool:
        """End the session. Returns whether there was one to be ended."""
        wanted = event.payload
        if self._fleet is None or self._is_old(wanted.requested_at):
            return False
        name = None  # whichever session runs there: it bears another name than the request
        if wanted.request_id in self._requests or wanted.session_id is None:
            name = str(wanted.request_id)
        return self._fleet.request_stop(wanted.station_id, wanted.connector_id, name)

    async def received(self, message: Message) -> None:
        """telemetry.received.v1: measure how old the newest stored reading of each own station is."""
        now_ms = self._clock.now_ms()
        for station in self._decode_received(message.body).payload.stations:
            if self._fleet is not None and station.station_id.startswith(f"{PREFIX}-"):
                self._stored_after_s.observe(max(0, now_ms - to_ms(moment_of(station.newest_ts))) / 1_000)

    async def run(self, url: str, token: str) -> None:
        """Send the fleet's readings to the platform at `url`, until cancelled; through outages. Raises Rejected."""
        while True:
            # A new fleet is a later boot of the same stations: nothing of it is taken for a duplicate.
            self._fleet = fleet = Fleet(self.spec(), self._registers_mwh)
            transport = HttpTransport(url, token, self._clock, connections=_CONNECTIONS)
            try:
                await live(fleet.stream(), transport, Format.JSON, lambda _: None, self._clock, batch=_BATCH)
            except Unavailable as error:
                _log.warning("simulated_fleet_restarted", error=str(error))
            finally:
                self._fleet, self._registers_mwh = None, fleet.registers_mwh()
                await transport.close()

    def _is_old(self, requested_at: str) -> bool:
        try:
            age_ms = self._clock.now_ms() - to_ms(parse_rfc3339(requested_at))
        except ValueError as error:
            raise Unprocessable(f"requested_at {requested_at!r} is {error}") from error
        return age_ms > _REQUEST_AGE_MS_MAX


def _source(event_type: str) -> Source:
    # One at a time, so that requests of one connector are taken in their order.
    return Source(group_queue(GROUP, event_type), routing_key(event_type), prefetch=1)
