"""A prepared database for each test, cloned from one that is prepared once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from uuid import uuid4

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from kit.clock import SystemClock
from kit.live.audience import Audience
from kit.live.view import InProcessLive
from streams.effects import StepParams
from streams.storage.connections import Connections, open_writer
from streams.storage.schema import prepare
from streams.storage.store import Store
from streams.worker.live_documents import CpuBudget
from streams.worker.metrics import WorkerMetrics
from streams.worker.processor import WorkerContext
from tests.private_servers import fresh_database

PARTITIONS = 4


@pytest.fixture(scope="session")
def prepared_template(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        prepare(url, PARTITIONS)
        yield url


@pytest.fixture
def prepared(postgres_url: str, prepared_template: str) -> Callable[[], AbstractContextManager[str]]:
    """Makes fresh databases with the telemetry schema, four partitions."""
    template = prepared_template.rpartition("/")[2]

    @contextmanager
    def cloned() -> Iterator[str]:
        name = f"test_{uuid4().hex}"
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
            try:
                yield f"{postgres_url.rpartition('/')[0]}/{name}"
            finally:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    return cloned


@pytest.fixture
def telemetry_url(prepared: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A fresh database with the telemetry schema, four partitions."""
    with prepared() as url:
        yield url


@pytest.fixture
def store(telemetry_url: str) -> Iterator[Store]:
    connections = Connections(partial(open_writer, telemetry_url), 4)
    yield Store(connections)
    connections.close()


@pytest.fixture
def worker(store: Store) -> Iterator[WorkerContext]:
    """On the real clock, with the real step, flushing at once."""
    with ThreadPoolExecutor(2) as executor:
        yield WorkerContext(
            store=store,
            live=InProcessLive(),
            audience=Audience(),
            live_budget=CpuBudget(SystemClock(), 1.0),
            clock=SystemClock(),
            metrics=WorkerMetrics(CollectorRegistry()),
            executor=executor,
            params=StepParams,
            readings_max=10_000,
            interval_s=0.0,
            interval_unwatched_s=0.0,
        )
