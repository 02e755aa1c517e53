"""A gateway over real HTTP in a thread of its own, on a log and with tokens made for the tests."""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from ingest.service import Ingest
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import Principal, hash_of
from kit.clock import SystemClock
from kit.errors import Overloaded, Unavailable
from kit.live.view import InProcessLive
from kit.web.app import make_app, serve
from voltstream.settings import load_settings

DEVICE = "vsd_" + "d" * 43
BOUND_DEVICE = "vsd_" + "b" * 43
OPERATOR = "vso_" + "o" * 43


class Tokens:
    """In place of the database's tokens."""

    principals = {  # noqa: RUF012  # never changed
        hash_of(DEVICE): Principal("device", uuid.UUID(int=1), None),
        hash_of(BOUND_DEVICE): Principal("device", uuid.UUID(int=2), frozenset({"CP1"})),
        hash_of(OPERATOR): Principal("operator", uuid.UUID(int=3), None),
    }

    async def find(self, token_hash: bytes) -> Principal | None:
        return self.principals.get(token_hash)

    async def revoked(self, token_ids: Iterable[object]) -> set[object]:
        return set()


@dataclass
class DoorLog:
    """A log that is durable at once, full, or unavailable, as the test sets it."""

    mood: str = "fine"
    frames: list[bytes] = field(default_factory=list)

    async def append(self, partition: int, record: bytes) -> None:
        if self.mood == "full":
            raise Overloaded("the buffer is full", 3)
        await asyncio.sleep(0)
        if self.mood == "down":
            raise Unavailable("no broker")
        self.frames.append(record)

    async def close(self) -> None:
        """Nothing to release."""


@dataclass
class Door:
    """A running gateway."""

    url: str
    log: DoorLog
    live: InProcessLive
    ingest: Ingest

    @contextlib.contextmanager
    def client(self, token: str = DEVICE) -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30) as client:
            yield client


SETTINGS = load_settings(
    body_bytes_max=100_000, inflated_bytes_max=1_000_000, readings_per_request_max=1_000, partitions=2, linger_ms=1
)


def make_door_app(log: DoorLog, live: InProcessLive) -> tuple[FastAPI, Ingest]:
    registry = CollectorRegistry()
    clock = SystemClock()
    authenticator = Authenticator(Tokens(), clock)  # type: ignore[arg-type]  # what it asks of TokenStore is there
    ingest = Ingest(SETTINGS, log=log, live=live, authenticator=authenticator, clock=clock, registry=registry)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ingest.start()
        yield
        await ingest.close()

    app = make_app("door", "1", registry=registry, lifespan=lifespan)
    app.state.authenticator = authenticator
    app.include_router(ingest.router)
    return app, ingest


@pytest.fixture(scope="module")
def running_door() -> Iterator[Door]:
    doors: list[Door] = []
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        log, live = DoorLog(), InProcessLive()
        app, ingest = make_door_app(log, live)
        async with serve(app, "127.0.0.1", 0) as server:
            doors.append(Door(server.url, log, live, ingest))
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield doors[0]
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def door(running_door: Door) -> Door:
    """The gateway, its log empty and well."""
    running_door.log.mood = "fine"
    running_door.log.frames.clear()
    return running_door
