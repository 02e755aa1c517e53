"""Any services in one process: their backends opened once, their parts in order, then the bus and the events.

Closing is the reverse of opening. So consumers stop before the services that they call, the gateway empties its frames
into the log before the log closes, the log is durable before the worker stops, and what was answered 202 is never only
in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import msgspec
from fastapi import APIRouter

from kit.clock import SystemClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import Database, open_database
from kit.errors import Contended, DatabaseLost, Unavailable
from kit.live.view import LiveView
from kit.log.partitioned_log import InProcessLog, LogWriter
from kit.messaging.bus import Bus
from kit.messaging.consumer import ConsumerMetrics, Source, consume, consume_batches, listen
from kit.messaging.gate import Gate
from kit.observability.logs import get_logger
from kit.retention import RetentionMetrics, end_records
from kit.service import Consumes, Context, Job, Service, provide
from kit.settings import Settings
from schemas.topics import exchange_of, routing_key
from voltstream.runtime.backends import in_process_log, open_bus, open_live, open_log_writer
from voltstream.runtime.config_updates import ConfigUpdates, open_config
from voltstream.runtime.process import Lifespan
from voltstream.runtime.request_limits import open_request_limits
from voltstream.runtime.web import Web
from voltstream.services import follows_config, personal_data, queue_of

_HOUR_S: Final = 3_600.0  # between looks for what is past its retention: an indexed query for each kind
_CONTENDED_S: Final = 10.0  # after a deadlock a job runs again so soon, whatever its interval
_log = get_logger(__name__)


class Composition:
    """Services of one process while they open."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        lifespan: Lifespan,
        web: Web,
        bus_name: str,
        platform: Sequence[Service[Any]] = (),
    ) -> None:
        """`bus_name`: this process, as the broker lists its connection. `platform`: all services that there are, of
        this process or not; none: the product's own list."""
        self._settings = settings
        self._url = url
        self._lifespan = lifespan
        self._web = web
        self._bus_name = bus_name
        self._platform = tuple(platform)
        self._live: LiveView | None = None
        self._log: InProcessLog | None = None
        self._writer: LogWriter | None = None
        self._config: RuntimeConfig | None = None
        self._config_updates: ConfigUpdates | None = None
        self._opened: list[tuple[Service[Any], Any, Database | None]] = []
        self._retention_metrics = RetentionMetrics(web.registry)
        self.components: dict[str, Any] = {}  # by the service's name
        self.bus: Bus | None = None

    @asynccontextmanager
    async def running(self, services: Sequence[Service[Any]]) -> AsyncIterator["Composition"]:
        """These services, in this order, at work within the block. Raises Unavailable, ConfigError.

        The process has an authenticator where one of them serves routes.
        """
        async with AsyncExitStack() as stack:
            await self._open_backends(services, stack)
            if any(follows_config(service) for service in services):
                opened = open_config(self._settings, self._url, self._lifespan, self._web.registry)
                config, self._config_updates = await stack.enter_async_context(opened)
                self._config = config
                if any(service.router is not None for service in services):
                    limits = open_request_limits(self._settings, self._url, config, self._lifespan, self._web)
                    await stack.enter_async_context(limits)
            for service in services:
                await self._open(service, stack)
            uses_bus = any(service.consumes or service.run_with_bus for service in services)
            if uses_bus or self._config_updates is not None:
                ready = self._web.ready if uses_bus else None
                self.bus = await stack.enter_async_context(open_bus(self._settings, self._bus_name, ready))
                await self._join(self.bus, stack)
            yield self

    async def _open_backends(self, services: Sequence[Service[Any]], stack: AsyncExitStack) -> None:
        wanted = {backend for service in services for backend in service.backends}
        if "live" in wanted:
            self._live = await stack.enter_async_context(open_live(self._settings, self._url, self._web.ready))
        if "log_reader" in wanted and not self._settings.distributed_log:
            self._log = self._writer = in_process_log(self._settings)
            self._lifespan.on_failure(self._abandon_log)

    def _abandon_log(self, error: BaseException) -> None:
        if self._log is not None and isinstance(error, DatabaseLost):
            self._log.abandon(error)

    async def _open(self, service: Service[Any], stack: AsyncExitStack) -> None:
        if "log_writer" in service.backends and self._writer is None:
            self._writer = writer = await open_log_writer(self._settings, self._web.ready)
            stack.push_async_callback(writer.close)
        database = await self._database(service, stack)
        context = Context(
            settings=self._settings,
            clock=self._web.clock,
            registry=self._web.registry,
            database_url=self._url,
            spawn=self._lifespan.spawn,
            checks=self._web.ready,
            app=self._web.app,
            own_database=database,
            live_view=self._live,
            log_writer=self._writer,
            in_process_log=self._log,
            services=self._platform,
            runtime_config=self._config,
            offers=self._offered,
            personal_data=personal_data,
        )
        components = await stack.enter_async_context(service.open(context))
        self.components[service.name] = components
        self._opened.append((service, components, database))
        if "log_reader" in service.backends and self._log is not None:
            stack.push_async_callback(self._log.close)  # the reader still commits what the log holds
        self._serve(service, components)
        jobs = [*service.jobs, *_retention_jobs(service, database, context.config, self._retention_metrics)]
        if jobs:
            working = self._lifespan.spawn(_work(jobs, components, context.config), f"jobs of {service.name}")
            stack.callback(working.cancel)

    def _offered(self, name: str) -> Any:
        """What an opened service offers by that name; None: none does."""
        for service, components, _ in self._opened:
            if name in service.offers:
                return service.offers[name](components)
        return None

    async def _database(self, service: Service[Any], stack: AsyncExitStack) -> Database | None:
        if not service.has_database or service.without_pool:
            return None
        database = await open_database(
            self._url,
            name=f"voltstream {service.name}",
            role=service.role,
            query_s_max=self._settings.query_s_max,
            on_query=self._web.queries.of(service.name),
        )
        stack.push_async_callback(database.close)
        self._web.watch_database(database)
        return database

    def _serve(self, service: Service[Any], components: Any) -> None:
        if service.streaming_responses is not None:
            self._web.streaming_responses.append(service.streaming_responses(components))
        for name, check in service.checks.items():
            self._web.ready[name] = check(components)
        if service.router is not None:
            provide(self._web.app, components)
            router = service.router if isinstance(service.router, APIRouter) else service.router(components)
            self._web.app.include_router(router)

    async def _join(self, bus: Bus, stack: AsyncExitStack) -> None:
        metrics = ConsumerMetrics(self._web.registry)
        if self._config_updates is not None:
            following = self._config_updates.follow(bus, self._bus_name.replace("+", "_"))
            stack.callback(self._lifespan.spawn(following, "config events").cancel)
        for service, components, database in self._opened:
            for consumes in service.consumes:
                await subscribe(
                    bus, service, consumes, components, database, metrics, self._config, self._web.accepting
                )
        for service, components, _ in self._opened:
            if service.run_with_bus is not None:
                await stack.enter_async_context(service.run_with_bus(components, bus))


async def subscribe(
    bus: Bus,
    service: Service[Any],
    consumes: Consumes[Any],
    components: Any,
    database: Database | None,
    metrics: ConsumerMetrics,
    config: RuntimeConfig | None = None,
    gate: Gate | None = None,
) -> None:
    """Let the service's handler take the events of its queue. Raises Unavailable.

    `config` has the setting that pauses it, and nothing comes while `gate` is closed.
    """
    paused = config.gate(consumes.paused_by) if config is not None and consumes.paused_by else None
    source = Source(
        queue_of(service, consumes),
        routing_key(consumes.event_type),
        exchange_of(consumes.event_type),
        consumes.prefetch,
        paused if gate is None else gate.behind(paused),
    )
    if consumes.receive is not None:
        handler = consumes.receive(components)
        await bus.subscribe(
            source.queue, source.exchange, source.routing_key, handler, prefetch=source.prefetch, gate=source.gate
        )
        return
    decode = msgspec.json.Decoder(consumes.model, float_hook=consumes.float_hook).decode
    if consumes.process is not None:
        await listen(bus, source, decode=decode, process=consumes.process(components), metrics=metrics)
        return
    assert database is not None  # noqa: S101  # a handler within a transaction wants a schema
    schema = service.owned_schema
    if consumes.handle is not None:
        handle = consumes.handle(components)
        await consume(bus, database, source, schema=schema, decode=decode, handle=handle, metrics=metrics)
    if consumes.handle_batch is not None and consumes.key is not None:
        await consume_batches(
            bus,
            database,
            source,
            schema=schema,
            decode=decode,
            key=consumes.key,
            handle=consumes.handle_batch(components),
            metrics=metrics,
        )


def _retention_jobs(
    service: Service[Any], database: Database | None, config: RuntimeConfig, metrics: RetentionMetrics
) -> list[Job[Any]]:
    """The end of records past their retention, by the owner of the schema."""
    if database is None or not service.retentions:
        return []

    async def end(_: object) -> None:
        # The database's clock says what is old: a wrong one of ours ends nothing.
        now = await database.fetchval("SELECT now()")
        await end_records(database, service.owned_schema, service.retentions, config, now, metrics)

    return [Job("records past their retention", end, _HOUR_S)]


async def _work(jobs: Sequence[Job[Any]], components: Any, config: RuntimeConfig) -> None:
    """Each job at once and then at its interval, without an end; a paused one at its next turn after the pause."""
    loop = asyncio.get_running_loop()
    due_s = dict.fromkeys(range(len(jobs)), loop.time())
    while True:
        number = min(due_s, key=due_s.__getitem__)
        await asyncio.sleep(max(0.0, due_s[number] - loop.time()))
        job = jobs[number]
        pause_s = job.every_s
        try:
            if not job.paused_by or config.gate(job.paused_by).is_open:
                await job.run(components)
        except Contended as error:
            _log.warning("job_repeated", job=job.name, error=str(error))
            pause_s = min(job.every_s, _CONTENDED_S)
        except Unavailable as error:
            _log.warning("job_postponed", job=job.name, error=str(error))
        due_s[number] = loop.time() + pause_s


Announce = Callable[[str], None]
"""Called with the base URL of the process once it is ready."""


async def serve(
    services: Sequence[Service[Any]], settings: Settings, port: int, lifespan: Lifespan, announce: Announce
) -> None:
    """Run these services as a process of its own, until `lifespan` stops. Raises Unavailable, ConfigError."""
    name = "+".join(service.name for service in services)
    web = Web(f"voltstream {name}", SystemClock())
    async with AsyncExitStack() as stack:
        if any(service.router is not None for service in services):
            from voltstream.runtime.auditing import open_audit
            from voltstream.runtime.authentication import open_authenticator  # not for a worker: see there

            await stack.enter_async_context(open_authenticator(settings, settings.database_url, web))
            await stack.enter_async_context(open_audit(settings.database_url, web, lifespan))
        composition = Composition(settings, settings.database_url, lifespan, web, name)
        await stack.enter_async_context(composition.running(services))
        server = await stack.enter_async_context(web.serving(lifespan, settings, port=port))
        announce(server.url)
        await lifespan.wait()
