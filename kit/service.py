"""One declaration a service: what it owns, asks of others, serves, consumes, publishes and does regularly.

A folder declares its service once, and the list of services is all that a process needs to run any of them:

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
grants, the standard tables, relays, subscriptions and clean-up follow from the declaration (voltstream/runtime).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
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
from kit.database.names import checked_name
from kit.database.postgres import Database
from kit.live.view import LiveView
from kit.log.partitioned_log import InProcessLog, LogWriter
from kit.messaging.bus import PREFETCH, Bus, Handler
from kit.messaging.consumer import Handle, HandleBatch, Process
from kit.settings import Settings, group_of
from kit.web.operations import ReadyCheck

DAY_S: Final = 86_400.0

C = TypeVar("C")
S = TypeVar("S")

Backend = Literal["live", "log_writer", "log_reader", "frames"]
"""What a service works with beside its database and the bus."""


class Closing(Protocol):
    """Responses without an end, which the HTTP server would wait for."""

    async def close(self) -> None:
        """End them."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a process hands to a service as it opens it."""

    settings: Settings  # of the whole process; `group` gives the service's own
    clock: Clock
    registry: CollectorRegistry
    database_url: str
    spawn: Callable[[Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"]  # a vital part: its failure ends the process
    checks: dict[str, ReadyCheck]  # of /ready; a service may add its own while it opens
    app: FastAPI
    own_database: Database | None = None  # in the service's role
    live_view: LiveView | None = None
    log_writer: LogWriter | None = None
    in_process_log: InProcessLog | None = None  # where writer and reader of the log share the process
    services: "tuple[Service[Any], ...]" = ()  # of the whole platform; empty: the product's own list

    def group(self, kind: type[S]) -> S:
        """The service's group of the settings."""
        return group_of(self.settings, kind)

    @property
    def database(self) -> Database:
        """The pool in the service's role. Only for a service with a schema or with reads."""
        return _there(self.own_database, "database")

    @property
    def live(self) -> LiveView:
        """The live view. Only for a service that declares the backend."""
        return _there(self.live_view, "live view")

    @property
    def writer(self) -> LogWriter:
        """The writing side of the log. Only for a service that declares the backend."""
        return _there(self.log_writer, "log")


def _there(value: S | None, what: str) -> S:
    if value is None:
        raise AssertionError(f"the service does not declare that it needs a {what}")
    return value


@dataclass(frozen=True, slots=True)
class Contract:
    """A view or function by which other services may ask the owner's data in SQL. A function names its arguments'
    types: `telemetry.session_readings(bigint[])`."""

    name: str
    summary: str

    @property
    def is_function(self) -> bool:
        """Whether it is called, not selected from."""
        return "(" in self.name

    @property
    def schema(self) -> str:
        """The owner's."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Consumes(Generic[C]):
    """An event type that a service consumes, and its handler: one of four kinds, made of the service's components.

    - `handle`: one transaction for each event;
    - `handle_batch` with `key`: the events that come while a transaction is under way share the next one;
    - `process`: sees to its transaction and to repeated events itself;
    - `receive`: takes the message as it is, undecoded.
    """

    event_type: str
    model: Any = None  # what msgspec decodes the message to
    handle: Callable[[C], Handle[Any]] | None = None
    handle_batch: Callable[[C], HandleBatch[Any]] | None = None
    key: Callable[[Any], Hashable] | None = None  # of two events with one key the second waits for the first
    process: Callable[[C], Process[Any]] | None = None
    float_hook: Callable[[str], Any] | None = None  # Decimal, where numbers are money
    receive: Callable[[C], Handler] | None = None
    prefetch: int = PREFETCH
    group: str = ""  # consumer group; empty: the service's name

    def __post_init__(self) -> None:
        kinds = [kind for kind in (self.handle, self.handle_batch, self.process, self.receive) if kind is not None]
        if len(kinds) != 1 or (self.handle_batch is None) != (self.key is None):
            raise ValueError(f"{self.event_type}: give one of handle, handle_batch with key, process, receive")
        if (self.model is None) != (self.receive is not None):
            raise ValueError(f"{self.event_type}: a model is for what is decoded")


@dataclass(frozen=True, slots=True)
class Job(Generic[C]):
    """Periodic work. Where the database is away it is left until the next time."""

    name: str
    run: Callable[[C], Awaitable[None]]
    every_s: float = DAY_S


@dataclass(frozen=True, slots=True)
class Service(Generic[C]):
    """The declaration. With `migrations` it owns the schema of its name; `schema` names another's that it shares."""

    name: str
    summary: str  # one line of the documentation's table
    open: Callable[[Context], AbstractAsyncContextManager[C]]
    components: type[C]
    router: APIRouter | Callable[[C], APIRouter] | None = None
    migrations: Path | None = None
    schema: str = ""  # empty: `name`, where there are migrations
    writes: bool = True  # its role may write its schema
    prepare: Callable[[str, int], object] | None = None  # (URL, partitions of the log), after migrating; idempotent
    owns_connections: bool = False  # it connects by URL itself, and wants no pool
    contracts: tuple[Contract, ...] = ()  # what it publishes of its schema
    reads: tuple[str, ...] = ()  # contracts of other services
    consumes: tuple[Consumes[C], ...] = ()
    publishes: tuple[str, ...] = ()  # event types
    jobs: tuple[Job[C], ...] = ()
    settings: type[BaseModel] | None = None
    checks: dict[str, Callable[[C], ReadyCheck]] = field(default_factory=dict)
    endless: Callable[[C], Closing] | None = None  # its responses without an end
    backends: frozenset[Backend] = frozenset()
    attend: Callable[[C, Bus], AbstractAsyncContextManager[None]] | None = None  # beside the bus, beyond `consumes`
    health_port: int = 0  # of a process that serves nothing but its health; 0: the API's port

    def __post_init__(self) -> None:
        checked_name(self.name)
        foreign = [contract.name for contract in self.contracts if contract.schema != self.owned_schema]
        if foreign:
            raise ValueError(f"{self.name} publishes what is not in its schema: {', '.join(foreign)}")

    @property
    def owned_schema(self) -> str:
        """The schema that it works in; empty where it has none."""
        return self.schema or (self.name if self.migrations is not None else "")

    @property
    def role(self) -> str:
        """The database role that it works as."""
        return f"{self.name}_service"

    @property
    def has_database(self) -> bool:
        """Whether it works with the database by itself."""
        return bool(self.owned_schema or self.reads)


def provide(app: FastAPI, components: object) -> None:
    """Let the handlers of `app` have these."""
    if not hasattr(app.state, "provided"):
        app.state.provided = {}
    app.state.provided[type(components)] = components


@cache  # the same function for the same type: FastAPI asks it once a request
def provided(kind: type[S]) -> Callable[[Request], Awaitable[S]]:
    """A FastAPI dependency: the components of that type, which the process has provided."""

    async def found(request: Request) -> S:
        components: S = request.app.state.provided[kind]
        return components

    return found
