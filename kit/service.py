"""The declaration of a service: its schema, settings, routes, consumed and published events, contracts and jobs.

A folder declares its service once; a process needs only the list of declarations to run any of them:

    @dataclass(frozen=True, slots=True)
    class Pricing:
        database: Database
        tariffs: PricingService

    @asynccontextmanager
    async def open_pricing(context: Context) -> AsyncIterator[Pricing]:
        yield Pricing(context.database, PricingService(PricingStore(context.database), context.clock))

    SERVICE = Service(
        name="pricing",
        summary="tariffs: versions, groups, demand rules",
        open=open_pricing,
        components=Pricing,
        router=router,
        migrations=Path(__file__).parent / "migrations",
        consumes=(Consumes(TELEMETRY_AGGREGATED, Event[TelemetryAggregated], handle=lambda own: own.demand.handle),),
        publishes=(PRICING_UPDATED,),
    )

Handlers of the router get the components by `Annotated[Pricing, Depends(provided(Pricing))]`. Migrations, roles and
grants, standard tables, outbox relays, subscriptions and clean-up are derived from the declaration
(voltstream/runtime).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.requests import Request

from kit.clock import Clock
from kit.config.runtime import RuntimeConfig
from kit.database.names import checked_name
from kit.database.postgres import Database
from kit.live.view import LiveView
from kit.log.partitioned_log import InProcessLog, LogWriter
from kit.messaging.bus import PREFETCH, Bus, Handler
from kit.messaging.consumer import Handle, HandleBatch, Process
from kit.personal_data import PersonalData, functions_of
from kit.retention import RecordRetention, of_standard_tables
from kit.settings import Settings, group_of
from kit.web.health import ReadyCheck

DAY_S: Final = 86_400.0

C = TypeVar("C")
S = TypeVar("S")

Backend = Literal["live", "log_writer", "log_reader", "frames", "config"]
"""A backend that a service uses besides its database and the bus."""


class StreamingResponses(Protocol):
    """Responses that stream without end. The HTTP server would wait for them at shutdown, so they are closed first."""

    async def close(self) -> None:
        """End all of them."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a process passes to the `open` function of a service."""

    settings: Settings  # of the whole process; `group` gives the service's own
    clock: Clock
    registry: CollectorRegistry
    database_url: str
    spawn: Callable[
        [Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"
    ]  # starts a vital task: its failure ends the process
    checks: dict[str, ReadyCheck]  # of /ready; a service may add its own while it opens
    app: FastAPI
    own_database: Database | None = None  # in the service's role
    live_view: LiveView | None = None
    log_writer: LogWriter | None = None
    in_process_log: InProcessLog | None = None  # set where writer and reader of the log share the process
    services: "tuple[Service[Any], ...]" = ()  # all of the platform; empty: the product's own list
    runtime_config: RuntimeConfig | None = None  # None: nothing changes while the process runs
    offers: Callable[[str], Any] = lambda _: None  # by name, of the process's services: see `offered`
    # What the services of the platform hold of drivers, by the name of the service.
    personal_data: Callable[[], Mapping[str, tuple[PersonalData, ...]]] = dict

    def group(self, kind: type[S]) -> S:
        """The service's group of the settings, as the process was started."""
        return group_of(self.settings, kind)

    @property
    def config(self) -> RuntimeConfig:
        """The settings as they are now, with what operators have changed since. Keep it: see RuntimeConfig.group."""
        return self.runtime_config or RuntimeConfig(self.settings)

    def offered(self, name: str) -> Any:
        """What a service of this process offers by that name (`Service.offers`), once all of them are open; None where
        that service runs in another process: then it is asked over HTTP."""
        return self.offers(name)

    @property
    def database(self) -> Database:
        """The pool in the service's role. Only for a service with a schema or with reads."""
        return _required(self.own_database, "database")

    @property
    def live(self) -> LiveView:
        """The live view. Only for a service that declares the backend."""
        return _required(self.live_view, "live view")

    @property
    def writer(self) -> LogWriter:
        """The writing side of the log. Only for a service that declares the backend."""
        return _required(self.log_writer, "log")


def _required(value: S | None, what: str) -> S:
    if value is None:
        raise AssertionError(f"the service does not declare that it needs a {what}")
    return value


@dataclass(frozen=True, slots=True)
class Contract:
    """A view or function of a service's schema that other services may query. A function is named with its argument
    types: `telemetry.session_readings(bigint[])`."""

    name: str
    summary: str

    @property
    def is_function(self) -> bool:
        """Whether it is a function, not a view."""
        return "(" in self.name

    @property
    def schema(self) -> str:
        """The schema of the service that owns it."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Consumes(Generic[C]):
    """An event type that a service consumes, and one of four kinds of handler, made from the service's components.

    - `handle`: one transaction per event;
    - `handle_batch` with `key`: the events that arrive while a transaction is under way share the next one;
    - `process`: manages its transaction and deduplicates events itself;
    - `receive`: takes the message undecoded.
    """

    event_type: str
    model: Any = None  # the type that msgspec decodes the message to
    handle: Callable[[C], Handle[Any]] | None = None
    handle_batch: Callable[[C], HandleBatch[Any]] | None = None
    key: Callable[[Any], Hashable] | None = None  # of two events with equal keys the second waits for the first
    process: Callable[[C], Process[Any]] | None = None
    float_hook: Callable[[str], Any] | None = None  # Decimal, where numbers are money
    receive: Callable[[C], Handler] | None = None
    prefetch: int = PREFETCH
    group: str = ""  # consumer group; empty: the service's name
    paused_by: str = ""  # an adjustable setting: while it is true events stay in their queue

    def __post_init__(self) -> None:
        kinds = [kind for kind in (self.handle, self.handle_batch, self.process, self.receive) if kind is not None]
        if len(kinds) != 1 or (self.handle_batch is None) != (self.key is None):
            raise ValueError(f"{self.event_type}: give one of handle, handle_batch with key, process, receive")
        if (self.model is None) != (self.receive is not None):
            raise ValueError(f"{self.event_type}: a model is for what is decoded")


@dataclass(frozen=True, slots=True)
class Job(Generic[C]):
    """Periodic work. A run that finds the database down is skipped."""

    name: str
    run: Callable[[C], Awaitable[None]]
    every_s: float = DAY_S
    paused_by: str = ""  # an adjustable setting: while it is true no run begins


@dataclass(frozen=True, slots=True)
class Service(Generic[C]):
    """A service. With `migrations` it owns the schema of its name; `schema` names another that it shares."""

    name: str
    summary: str  # one line for the table in the documentation
    open: Callable[[Context], AbstractAsyncContextManager[C]]
    components: type[C]
    router: APIRouter | Callable[[C], APIRouter] | None = None
    migrations: Path | None = None
    schema: str = ""  # empty: `name`, where there are migrations
    writes: bool = True  # its role may write its schema
    by_functions: bool = False  # only by the schema's functions, as what is never to be changed
    prepare: Callable[[str, int], object] | None = None  # (URL, partitions of the log), after migrating; idempotent
    without_pool: bool = False  # it opens its connections itself, by URL
    # Views and functions of its schema for other services. Those of its personal data are added to them.
    contracts: tuple[Contract, ...] = ()
    reads: tuple[str, ...] = ()  # contracts of other services
    consumes: tuple[Consumes[C], ...] = ()
    publishes: tuple[str, ...] = ()  # event types
    jobs: tuple[Job[C], ...] = ()
    settings: type[BaseModel] | None = None
    checks: dict[str, Callable[[C], ReadyCheck]] = field(default_factory=dict)
    # Functions for services of the same process, which must not import each other, by name. They only save a request:
    # what is offered is to be had over HTTP as well.
    offers: dict[str, Callable[[C], Any]] = field(default_factory=dict)
    streaming_responses: Callable[[C], StreamingResponses] | None = None  # closed before the server stops
    backends: frozenset[Backend] = frozenset()
    # Entered once the bus is up, for work that `consumes` cannot express.
    run_with_bus: Callable[[C, Bus], AbstractAsyncContextManager[None]] | None = None
    health_port: int = 0  # of a process that serves only health routes; 0: the API's port
    personal_data: tuple[PersonalData, ...] = ()  # what its schema holds of drivers (kit/personal_data.py)
    retention: tuple[RecordRetention, ...] = ()  # records that end after a time, beside those of the standard tables

    def __post_init__(self) -> None:
        checked_name(self.name)
        if self.personal_data:
            published = tuple(Contract(name, what) for name, what in functions_of(self.owned_schema).items())
            object.__setattr__(
                self, "contracts", (*(one for one in self.contracts if one not in published), *published)
            )
        foreign = [contract.name for contract in self.contracts if contract.schema != self.owned_schema]
        if foreign:
            raise ValueError(f"{self.name} publishes what is not in its schema: {', '.join(foreign)}")

    @property
    def owned_schema(self) -> str:
        """The schema that it works in; empty if it has none."""
        return self.schema or (self.name if self.migrations is not None else "")

    @property
    def retentions(self) -> tuple[RecordRetention, ...]:
        """Of all records of its schema, where it owns that."""
        return () if self.migrations is None else (*self.retention, *of_standard_tables(self.owned_schema))

    @property
    def role(self) -> str:
        """The service's database role."""
        return f"{self.name}_service"

    @property
    def has_database(self) -> bool:
        """Whether it uses the database."""
        return bool(self.owned_schema or self.reads)


def provide(app: FastAPI, components: object) -> None:
    """Make `components` available to the handlers of `app` (see `provided`)."""
    if not hasattr(app.state, "provided"):
        app.state.provided = {}
    app.state.provided[type(components)] = components


@cache  # one function per type, so that FastAPI calls it once per request
def provided(kind: type[S]) -> Callable[[Request], Awaitable[S]]:
    """The FastAPI dependency that gives the components of type `kind` (see `provide`)."""

    async def found(request: Request) -> S:
        components: S = request.app.state.provided[kind]
        return components

    return found
