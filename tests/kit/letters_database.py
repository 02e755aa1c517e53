"""A database with the schema of dead letters, as its role, and a policy that gives up soon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.database.migrations import migrate, standard_tables
from kit.database.postgres import Database, open_database
from kit.database.roles import Grant, ensure_roles
from kit.messaging.dead_letters import MIGRATIONS, SCHEMA
from kit.retry import RetryPolicy

ROLE = "letters_test"
POLICY = RetryPolicy.model_validate({"default": {"first_s": 0.01, "ceiling_s": 0.02, "attempts_max": 2}})


@asynccontextmanager
async def letters_database(url: str) -> AsyncIterator[Database]:
    """Open within the block."""
    migrate(url, [standard_tables(SCHEMA), MIGRATIONS])
    ensure_roles(url, [Grant(ROLE, SCHEMA)])
    opened = await open_database(url, name="events", role=ROLE, connections_max=4)
    yield opened
    await opened.close()
