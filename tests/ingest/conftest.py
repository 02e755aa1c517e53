"""A gateway over real HTTP in a thread of its own, with a log and tokens for the tests."""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from ingest.declaration import Ingest
from ingest.settings import IngestSettings
from kit.auth.authenticator import Authenticator
from kit.auth.client_certificates import ClientCertificates
from kit.auth.token_store import Principal, hash_of
from kit.clock import Clock, SystemClock
from kit.errors import Overloaded, Unavailable
from kit.live.view import InProcessLive
from kit.web.app import make_app, serve

DEVICE = "vsd_" + "d" * 43
BOUND_DEVICE = "vsd_" + "b" * 43
OPERATOR = "vso_" + "o" * 43

# RFC 9440, self-signed, valid till 2100: of cp1.example, which is the station CP1's, and of nobody.example.
CERTIFICATE = (
    b":MIIBGjCBwaADAgECAgEBMAoGCCqGSM49BAMCMBYxFDASBgNVBAMMC2NwMS5leGFtcGxlMCAXDTAwMDEwMTAwMDAwMFoYDzIxMDAw"
    b"MTAxMDAwMDAwWjAWMRQwEgYDVQQDDAtjcDEuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHW/tJDBEble0TSpwKYI"
    b"q1JmmryDlqZNHQUAa9QvfQxx+JWkOvH/W0ixY3h65hEBkmhFLT0UH5ZYUa5GkG4FNb4wCgYIKoZIzj0EAwIDSAAwRQIgTCf69hqP"
    b"AHNGpZrz86a2/UCwIdOAoVzXTbUFUFrWIpoCIQDVy6XHFQeCOCb5KsV2ey8kNySAOP4zR2wk4BnsvtqWLg==:"
)
NOBODYS_CERTIFICATE = (
    b":MIIBIDCBx6ADAgECAgEBMAoGCCqGSM49BAMCMBkxFzAVBgNVBAMMDm5vYm9keS5leGFtcGxlMCAXDTAwMDEwMTAwMDAwMFoYDzIx"
    b"MDAwMTAxMDAwMDAwWjAZMRcwFQYDVQQDDA5ub2JvZHkuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB8Qh7Ieb6N6"
    b"FzZJqGfWoRJd6QbnPp0Map9aBiX4ceiAxTX8yPakU5GKMOPVQQUzn52rOvhkhDQ/2UhW87B77L8wCgYIKoZIzj0EAwIDSAAwRQIh"
    b"AKFtVYQ1JJuVLIgR6A8QitpxmyjwOtIxTP7xvMRlPsu9AiBvjBy8AU0FWqv/zH61Sm2gZUFlVuyjkNLlPhm8kQO5bQ==:"
)


class Tokens:
    """Stands in for the database's tokens and certificates."""

    principals = {  # noqa: RUF012  # never changed
        hash_of(DEVICE): Principal("device", uuid.UUID(int=1), None),
        hash_of(BOUND_DEVICE): Principal("device", uuid.UUID(int=2), frozenset({"CP1"})),
        hash_of(OPERATOR): Principal("operator", uuid.UUID(int=3), None),
    }

    async def find(self, token_hash: bytes) -> Principal | None:
        return self.principals.get(token_hash)

    async def certificate_station(self, common_name: str) -> str | None:
        return {"cp1.example": "CP1", "cp2.example": "CP2"}.get(common_name)

    def gone(self, token_hashes: Iterable[bytes]) -> set[bytes]:
        return set()

    def certificates_moved(self, stations: Mapping[str, str]) -> set[str]:
        return set()

    async def record_use(self, token_ids: Iterable[object]) -> None:
        """Nobody asks when they were used."""


@dataclass
class ControlledLog:
    """A log that is durable at once (`fine`), `full`, or unavailable (`down`), as the test sets it."""

    behaviour: str = "fine"
    frames: list[bytes] = field(default_factory=list)

    async def append(self, partition: int, record: bytes) -> None:
        if self.behaviour == "full":
            raise Overloaded("the buffer is full", 3)
        await asyncio.sleep(0)
        if self.behaviour == "down":
            raise Unavailable("no broker")
        self.frames.append(record)

    async def close(self) -> None:
        """Nothing to release."""


@dataclass
class RunningGateway:
    """A running gateway."""

    url: str
    log: ControlledLog
    live: InProcessLive
    ingest: Ingest

    @contextlib.contextmanager
    def client(self, token: str = DEVICE) -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30) as client:
            yield client


PARTITIONS = 2
SETTINGS = IngestSettings.model_validate(
    {
        "body_bytes_max": 100_000,
        "inflated_bytes_max": 1_000_000,
        "readings_per_request_max": 1_000,
        "linger_ms": 1,
    }
)


def make_gateway_app(log: ControlledLog, live: InProcessLive, clock: Clock | None = None) -> tuple[FastAPI, Ingest]:
    registry = CollectorRegistry()
    clock = clock or SystemClock()
    tokens = Tokens()
    authenticator = Authenticator(tokens, clock, None, ClientCertificates(tokens, clock))  # type: ignore[arg-type]  # has the methods of TokenStore that it calls

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ingest.start()
        yield
        await ingest.close()

    app = make_app("gateway", "1", registry=registry, lifespan=lifespan, clock=clock)
    ingest = Ingest(
        lambda: SETTINGS,
        PARTITIONS,
        log=log,
        live=live,
        authenticator=authenticator,
        clock=clock,
        registry=registry,
        refusals=app.state.refusals,
    )
    app.state.authenticator = authenticator
    app.include_router(ingest.router)
    return app, ingest


@pytest.fixture(scope="module")
def running_gateway() -> Iterator[RunningGateway]:
    gateways: list[RunningGateway] = []
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        log, live = ControlledLog(), InProcessLive()
        app, ingest = make_gateway_app(log, live)
        async with serve(app, "127.0.0.1", 0) as server:
            gateways.append(RunningGateway(server.url, log, live, ingest))
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield gateways[0]
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def gateway(running_gateway: RunningGateway) -> RunningGateway:
    """The gateway, with an empty log that works."""
    running_gateway.log.behaviour = "fine"
    running_gateway.log.frames.clear()
    return running_gateway
