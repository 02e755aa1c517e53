"""Fixtures of billing's tests."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import psycopg
import pytest

from tests.billing.running import RunningBilling, open_running, prepare
from tests.billing.serving import Service, served
from tests.private_servers import fresh_database


@pytest.fixture(scope="session")
def billing_template(postgres_url: str) -> Iterator[str]:
    """A database with the tables and roles of telemetry and billing, to be cloned."""
    with fresh_database(postgres_url) as url:
        prepare(url)
        yield url


@pytest.fixture
def billing_url(postgres_url: str, billing_template: str) -> Iterator[str]:
    """A fresh database with the tables and roles of telemetry and billing."""
    name, template = f"test_{uuid4().hex}", billing_template.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        yield f"{postgres_url.rpartition('/')[0]}/{name}"
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
async def billing(billing_url: str) -> AsyncIterator[RunningBilling]:
    """Billing, subscribed to a bus in the process."""
    async with open_running(billing_url) as opened:
        yield opened


@pytest.fixture
async def service(billing: RunningBilling) -> AsyncIterator[Service]:
    """Billing, subscribed and served."""
    async with served(billing) as running:
        yield running
