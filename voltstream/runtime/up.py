"""All in one: with no URL everything in this process, with URLs the services around the API as child processes.

The order of stopping is the reverse of the order of starting below: the server takes no more requests and answers
those it has, the gateway empties its frames into the log, the log becomes durable, the workers commit what they have,
and the database stops last. So nothing that was answered 202 is ever only in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from kit.clock import Clock, SystemClock
from kit.live.view import LiveView
from kit.log.partitioned_log import LogWriter
from kit.messaging.outbox import RelayMetrics
from kit.settings import Settings
from kit.web.app import RunningServer
from voltstream.cli.screen import Screen
from voltstream.errors import ChildFailed
from voltstream.runtime.backends import in_process_log, open_bus, open_live, open_log_writer
from voltstream.runtime.business import open_business
from voltstream.runtime.children import READY_S_MAX, Child, environment_of
from voltstream.runtime.database import bring_up_to_date, owned_database, with_partitions
from voltstream.runtime.dead_letters import open_dead_letters
from voltstream.runtime.mounts import open_authenticator, open_ingest, open_queries
from voltstream.runtime.process import Lifespan
from voltstream.runtime.relays import relaying
from voltstream.runtime.simulated_fleet import drive
from voltstream.runtime.up_tokens import Tokens, working_tokens
from voltstream.runtime.web import Web
from voltstream.runtime.worker import group_member, running_worker

_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What is particular to `up`."""

    stations: int  # of the simulated fleet; 0: none
    rate: float  # its readings a second
    workers: int  # processes, in the distributed run
    duration_s: float | None  # stop after; None: when told
    screen: bool  # show the fleet


@dataclass(frozen=True, slots=True)
class Started:
    """Everything is up."""

    server: RunningServer
    tokens: Tokens
    services: dict[str, str]  # name -> URL of child processes


async def run_up(
    settings: Settings, options: UpOptions, lifespan: Lifespan, announce: Callable[[Started], None]
) -> None:
    """Start everything, tell it, run until `life` stops, stop in order. Raises what a vital part dies of."""
    clock = SystemClock()
    web = Web("voltstream", clock)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(owned_database(settings, lifespan))
        settings = await asyncio.to_thread(with_partitions, settings, url)
        await asyncio.to_thread(bring_up_to_date, url, settings.partitions)
        store = await stack.enter_async_context(open_authenticator(settings, url, web))
        tokens = await working_tokens(settings, store)
        live = await stack.enter_async_context(open_live(settings, url, web.ready))
        await stack.enter_async_context(open_queries(url, live, web))
        business = await stack.enter_async_context(open_business(settings, url, lifespan, web))
        if options.stations:
            await business.first_tariff(web)
        children: list[Child] = []
        pipeline = _distributed if settings.distributed_log else _embedded
        log = await stack.enter_async_context(pipeline(settings, url, live, lifespan, web, options.workers, children))
        ingest = await stack.enter_async_context(open_ingest(settings, log, live, web))
        bus = await stack.enter_async_context(open_bus(settings, "gateway", web.ready))
        await ingest.consume(bus)
        await business.hear(settings, bus, web)
        if not settings.distributed_bus:
            metrics = RelayMetrics(web.registry)
            await stack.enter_async_context(open_dead_letters(url, bus, metrics, lifespan, web))
            await stack.enter_async_context(relaying(url, bus, metrics, lifespan))
        await _ready(children)
        server = await stack.enter_async_context(web.serving(lifespan, settings.host, settings.port))
        announce(Started(server, tokens, {child.name: child.url for child in children if child.url}))
        await stack.enter_async_context(_on_top(options, server, tokens, clock, lifespan))
        await lifespan.wait()


@asynccontextmanager
async def _embedded(
    settings: Settings, url: str, live: LiveView, lifespan: Lifespan, web: Web, _workers: int, _children: list[Child]
) -> AsyncIterator[LogWriter]:
    """The log and its reader in this process: a 202 is a commit."""
    log = in_process_log(settings)
    async with running_worker(settings, url, log, live, lifespan, web):
        try:
            yield log
        finally:
            await log.close()  # the reader still commits what it holds


@asynccontextmanager
async def _distributed(
    settings: Settings, url: str, live: LiveView, lifespan: Lifespan, web: Web, workers: int, children: list[Child]
) -> AsyncIterator[LogWriter]:
    """RabbitMQ's queues; bridge, workers and relay are children. `children` gets them."""
    environment = environment_of(settings.model_copy(update={"database_url": url}))
    async with AsyncExitStack() as stack:

        async def start(service: str, name: str) -> None:
            arguments = (service, "--json", "--supervised", "--port", "0")
            child = Child(name, arguments, environment, web.clock)
            children.append(await stack.enter_async_context(child.running(lifespan)))

        await start("relay", "relay")
        if settings.distributed_live:
            for number in range(1, workers + 1):
                await start("worker", f"worker {number}" if workers > 1 else "worker")
        else:  # the live view is in this process, so who writes it has to be here too
            await stack.enter_async_context(group_member(settings, url, live, lifespan, web))
        await start("bridge", "bridge")
        log = await open_log_writer(settings, web.ready)
        stack.push_async_callback(log.close)
        yield log


@asynccontextmanager
async def _on_top(
    options: UpOptions, server: RunningServer, tokens: Tokens, clock: Clock, lifespan: Lifespan
) -> AsyncIterator[None]:
    """The fleet, the screen and the timer: first to go when everything stops."""
    tasks: list[asyncio.Task[None]] = []
    if options.stations:
        driving = drive(server.url, tokens.device_token, options.stations, options.rate, clock)
        tasks.append(lifespan.spawn(driving, "fleet"))
    if options.screen:
        tasks.append(lifespan.spawn(Screen(server.url, tokens.operator_token, clock).run(), "screen"))
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
            said = ""
            try:
                async with asyncio.timeout(READY_S_MAX):
                    while said := await _unready(client, child):  # noqa: ASYNC110  # HTTP tells nobody
                        await asyncio.sleep(_POLL_S)
            except TimeoutError:
                raise ChildFailed(f"{child.name} is not ready after {READY_S_MAX:.0f} s: {said}") from None


async def _unready(client: httpx.AsyncClient, child: Child) -> str:
    """What its /ready complains of; empty where it is ready."""
    try:
        response = await client.get(f"{child.url}/ready")
        return "" if response.status_code == httpx.codes.OK else response.json()["detail"]
    except (httpx.HTTPError, ValueError, KeyError):
        return "its /ready does not answer"
