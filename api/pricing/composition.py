"""What a process needs to run pricing: its tables, its role, who may read it, its routes and its consumer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from psycopg import sql

from kit.migrations import Migrations
from kit.postgres import Grant, connect_sync, outages

MIGRATIONS: Final = Migrations("pricing", Path(__file__).parent / "migrations")
SCHEMA: Final = "pricing"
ROLE: Final = "pricing_service"
GRANT: Final = Grant(role=ROLE, schema=SCHEMA)

_READER_FUNCTIONS: Final = ("pricing.tariffs_at(text[], bigint[])", "pricing.documents(bigint[])")


def grant_readers(url: str, roles: Sequence[str]) -> None:
    """Let these roles, which there are, and pricing's own ask `tariffs_at` and `documents`: nothing else of the schema.

    To be called after migrating and `ensure_roles`, with the URL that migrated. Idempotent. Blocks. Raises Unavailable,
    ConfigError.
    """
    with connect_sync(url, name="voltstream roles") as connection, outages():
        for role in (ROLE, *roles):
            name = sql.Identifier(role)
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
            for function in _READER_FUNCTIONS:
                connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), name))
