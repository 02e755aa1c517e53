"""Fixtures of the kit's tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kit.audit.entry import AUDIT
from kit.database.embedded import EmbeddedPostgres
from kit.database.migrations import Migrations, migrate
from kit.database.postgres import Database, open_database

ACCESS = Migrations("access", Path(__file__).parents[2] / "kit" / "auth" / "migrations")


@pytest.fixture
def embedded(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """An embedded server on a folder of its own."""
    with EmbeddedPostgres.start(data_dir) as server:
        yield server


@pytest.fixture
async def access(database_url: str) -> AsyncIterator[Database]:
    """A database with the schemas `access` and `audit`."""
    migrate(database_url, [AUDIT, ACCESS])
    database = await open_database(database_url, name="test")
    yield database
    await database.close()
