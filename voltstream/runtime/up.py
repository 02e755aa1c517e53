"""All in one: with no URL everything in this process, with URLs the services around the API as child processes.

The order of stopping is the reverse of the order of starting below: the server takes no more requests and answers
those it has, the gateway empties its frames into the log, the log becomes durable, the workers commit what they have,
and the database stops last. So nothing that was answered 202 is ever only in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from api.pricing.service import ensure_default
from api.stations.registry.service import ensure_stations
from ingest.settings import IngestSettings
from kit.clock import Clock, SystemClock
from kit.observability.logs import get_logger
from kit.service import Service
from kit.settings import Settings, group_of
from kit.web.app import RunningServer
from voltstream.errors import ChildFailed
from voltstream.runtime.auditing import open_audit
from voltstream.runtime.authentication import open_authenticator
from voltstream.runtime.children import READY_S_MAX, Child, environment_of
from voltstream.runtime.composition import Composition
from voltstream.runtime.data_folder import published_address
from voltstream.runtime.database import bring_up_to_date, owned_database, with_partitions
from voltstream.runtime.free_space import free_space_check, watch_space
from voltstream.runtime.process import Lifespan
from voltstream.runtime.simulated_fleet import SimulatedFleet
from voltstream.runtime.simulated_stations import simulated_stations
from voltstream.runtime.up_tokens import Tokens, working_tokens
from voltstream.runtime.web import Web
from voltstream.services import all_services

_log = get_logger(__name__)

_POLL_S: Final = 0.1


Show = Callable[[str, str, Clock], Coroutine[Any, Any, None]]
"""Shows the platform at a URL, with an operator's token, until it is cancelled."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Options that only `up` has."""

    stations: int  # of the simulated fleet; 0: none
    rate: float  # its readings a second
    workers: int  # processes, in the distributed run
    duration_s: float | None  # stop after; None: on a signal
    show: Show | None  # the fleet, while it runs


@dataclass(frozen=True, slots=True)
class Started:
    """The addresses and tokens of a platform that has started."""

    server: RunningServer
    tokens: Tokens
    services: dict[str, str]  # name -> URL of child processes


async def run_up(
    settings: Settings, options: UpOptions, lifespan: Lifespan, announce: Callable[[Started], None]
) -> None:
    """Start everything, announce it, run until `lifespan` stops, stop in order. Raises the error of a vital part."""
    web = Web("voltstream", SystemClock())
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(owned_database(settings, lifespan))
        if not settings.database_url:
            web.ready["disk"] = free_space_check(settings.data_dir, settings.free_space_mb_min)
            watch_space(settings.data_dir, web.registry)
        settings = await asyncio.to_thread(with_partitions, settings, url)
        await asyncio.to_thread(bring_up_to_date, url, settings.partitions)
        store = await stack.enter_async_context(open_authenticator(settings, url, web))
        await stack.enter_async_context(open_audit(url, web, lifespan))
        settings = _with_room_for(settings, options.stations)
        tokens = await working_tokens(settings, store)
        apart = _apart(settings, options.workers)
        children = await _started(apart, settings.model_copy(update={"database_url": url}), lifespan, web, stack)
        here = [service for service in all_services() if _runs_here(service, settings, apart)]
        composition = Composition(settings, url, lifespan, web, "gateway")
        await stack.enter_async_context(composition.running(here))
        if options.stations and await ensure_default(composition.components["pricing"].database, web.clock):
            _log.info("default_tariff_published")
        fleet = _fleet(options, web)
        if fleet is not None:
            stations = simulated_stations(fleet.spec())
            await ensure_stations(composition.components["stations"].database, web.clock, stations)
            known = await composition.components["telemetry"].service.registers(list(stations))
            fleet.continue_from(known)
        if fleet is not None and composition.bus is not None:
            await fleet.consume(composition.bus)
        await _ready(children)
        server = await stack.enter_async_context(web.serving(lifespan, settings))
        stack.enter_context(published_address(settings, server.url))
        announce(Started(server, tokens, {child.name: child.url for child in children if child.url}))
        await stack.enter_async_context(_on_top(options, fleet, server, tokens, web.clock, lifespan))
        await lifespan.wait()


def _with_room_for(settings: Settings, stations: int) -> Settings:
    """The fleet sends with one token, and after each start all of its stations are new to the gateway."""
    bound = group_of(settings, IngestSettings).new_stations_per_hour_max
    if not bound or bound >= 2 * stations:
        return settings
    return settings.model_copy(update={"new_stations_per_hour_max": 2 * stations})


def _fleet(options: UpOptions, web: Web) -> SimulatedFleet | None:
    return SimulatedFleet(options.stations, options.rate, web.clock, web.registry) if options.stations else None


def _apart(settings: Settings, workers: int) -> dict[str, str]:
    """Child processes, name -> service: those that the API's process is to be kept free of, where brokers are set."""
    if not settings.distributed_log:
        return {}
    # Where the live view is in this process, the worker, which writes it, has to be here too.
    numbers = range(1, workers + 1) if settings.distributed_live else ()
    return {
        "relay": "relay",
        **{f"worker {number}" if workers > 1 else "worker": "worker" for number in numbers},
        "bridge": "bridge",
    }


def _runs_here(service: Service[Any], settings: Settings, apart: dict[str, str]) -> bool:
    """The bridge is of no use without brokers."""
    return service.name not in apart.values() and ("frames" not in service.backends or settings.distributed_log)


async def _started(
    apart: dict[str, str], settings: Settings, lifespan: Lifespan, web: Web, stack: AsyncExitStack
) -> list[Child]:
    environment, children = environment_of(settings), []
    for name, service in apart.items():
        arguments = ("serve", service, "--json", "--supervised", "--port", "0")
        child = Child(name, arguments, environment, web.clock)
        children.append(await stack.enter_async_context(child.running(lifespan)))
    return children


@asynccontextmanager
async def _on_top(
    options: UpOptions,
    fleet: SimulatedFleet | None,
    server: RunningServer,
    tokens: Tokens,
    clock: Clock,
    lifespan: Lifespan,
) -> AsyncIterator[None]:
    """The fleet, the screen and the timer: first to go when everything stops."""
    tasks: list[asyncio.Task[None]] = []
    if fleet is not None:
        tasks.append(lifespan.spawn(fleet.run(server.url, tokens.device_token), "fleet"))
    if options.show is not None:
        tasks.append(lifespan.spawn(options.show(server.url, tokens.operator_token, clock), "screen"))
    if options.duration_s is not None:
        asyncio.get_running_loop().call_later(options.duration_s, lifespan.stop)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ready(children: list[Child]) -> None:
    """Until every child does its work. Raises ChildFailed where one does not in time."""
    await asyncio.gather(*(child.wait_ready() for child in children))
    async with httpx.AsyncClient(trust_env=False) as client:
        for child in children:
            complaint = ""
            try:
                async with asyncio.timeout(READY_S_MAX):
                    while complaint := await _unready(client, child):  # noqa: ASYNC110  # HTTP notifies nobody
                        await asyncio.sleep(_POLL_S)
            except TimeoutError:
                raise ChildFailed(f"{child.name} is not ready after {READY_S_MAX:.0f} s: {complaint}") from None


async def _unready(client: httpx.AsyncClient, child: Child) -> str:
    """What its /ready complains of; empty where it is ready."""
    try:
        response = await client.get(f"{child.url}/ready")
        return "" if response.status_code == httpx.codes.OK else response.json()["detail"]
    except (httpx.HTTPError, ValueError, KeyError):
        return "its /ready does not answer"
