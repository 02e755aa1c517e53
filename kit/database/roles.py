"""Roles: each service has a database role without login, which may use its schema and the contracts it reads.

A process logs in with one URL and takes the role at connect. For a separate login, create one and grant it the role.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from kit.database.postgres import connect_sync, outages
from kit.errors import ConfigError

Connection = psycopg.Connection[tuple[Any, ...]]

# Advisory lock, any unused number. Without it a grant on a table that another process alters fails instead of waiting.
_LOCK_KEY: Final = 0x766F6C72
# Since PostgreSQL 16, who makes a role may grant it, and is a member, but may not take it by that.
_MAY_TAKE: Final = """
SELECT pg_has_role(
    current_user, %s, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
)
"""
# SECURITY DEFINER functions are for roles that write: a read-only role must not drop a table through one.
_OWN_FUNCTIONS: Final = """
SELECT p.oid::regprocedure::text FROM pg_proc AS p
WHERE p.pronamespace = %s::regnamespace AND p.prokind = 'f' AND (%s OR NOT p.prosecdef)
"""


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights of a role: to read `schema` and, if `write`, to write its rows, never to alter its tables; and to query
    `contracts`, views and functions of other schemas (a function is named with its argument types)."""

    role: str
    schema: str = ""
    write: bool = True
    contracts: tuple[str, ...] = ()
    by_functions: bool = False  # its rows are written by the schema's functions alone, with their owner's rights


def make_roles(url: str, roles: Sequence[str]) -> None:
    """Create these roles and make the login a member of them. Idempotent. Blocks.

    Raises ConfigError if the login may not create roles, Unavailable.
    """
    with connect_sync(url, name="voltstream roles") as connection, outages():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        try:
            for role in roles:
                _make_role(connection, role)
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"VOLTSTREAM_DATABASE_URL: its login may not make roles ({error.diag.message_primary}). "
                f"Give it CREATEROLE, or have an administrator make these, granted to it: {', '.join(sorted(roles))}"
            ) from None


def ensure_roles(url: str, grants: Sequence[Grant]) -> None:
    """Create the roles and grant them these rights, on future tables too. Idempotent. Blocks.

    Call it after migrating, with the same URL. Raises ConfigError if its login may not create roles, Unavailable.
    """
    make_roles(url, sorted({grant.role for grant in grants}))
    with connect_sync(url, name="voltstream grants") as connection, outages():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        for grant in grants:
            if grant.schema:
                _grant_schema(connection, grant)
            for contract in grant.contracts:
                _grant_contract(connection, grant.role, contract)


def _make_role(connection: Connection, role: str) -> None:
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
        # Roles belong to the whole server: another database's migration may create it concurrently.
        made_meanwhile = contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation)
        with made_meanwhile, connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    if connection.execute(_MAY_TAKE, (role,)).fetchone() != (True,):
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))


def _grant_schema(connection: Connection, grant: Grant) -> None:
    names = {"schema": sql.Identifier(grant.schema), "role": sql.Identifier(grant.role)}
    tables = sql.SQL("SELECT, INSERT, UPDATE, DELETE" if grant.write and not grant.by_functions else "SELECT")
    sequences = sql.SQL("USAGE, SELECT" if grant.write and not grant.by_functions else "SELECT")
    for statement in (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT {tables} ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT {sequences} ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {tables} ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {sequences} ON SEQUENCES TO {role}",
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC",
    ):
        connection.execute(sql.SQL(statement).format(**names, tables=tables, sequences=sequences))
    for (function,) in connection.execute(_OWN_FUNCTIONS, (grant.schema, grant.write)).fetchall():
        connection.execute(sql.SQL(f"GRANT EXECUTE ON FUNCTION {function} TO {{role}}").format(**names))


def _grant_contract(connection: Connection, role: str, contract: str) -> None:
    """Grant the use of a contract, whose name comes from a declaration in code, never from outside."""
    schema = sql.Identifier(contract.partition(".")[0])
    right = sql.SQL(f"EXECUTE ON FUNCTION {contract}" if "(" in contract else f"SELECT ON {contract}")
    for what in (sql.SQL("USAGE ON SCHEMA {}").format(schema), right):
        connection.execute(sql.SQL("GRANT {} TO {}").format(what, sql.Identifier(role)))
