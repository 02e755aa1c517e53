"""Fixtures of tests of the whole platform."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import psycopg
import pytest

from tests.private_servers import fresh_database
from tests.voltstream.tenancy import Tenancy, running
from voltstream.runtime.database import bring_up_to_date


@pytest.fixture(scope="session")
def tenancy_template(postgres_url: str) -> Iterator[str]:
    """A database that is up to date, to be cloned."""
    with fresh_database(postgres_url) as url:
        bring_up_to_date(url, 2)
        yield url.rpartition("/")[2]


@pytest.fixture
async def tenancy(postgres_url: str, tenancy_template: str) -> AsyncIterator[Tenancy]:
    """All services, seeded; nobody has a station yet."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {tenancy_template}".encode())
        async with running(f"{postgres_url.rpartition('/')[0]}/{name}") as opened:
            yield opened
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
