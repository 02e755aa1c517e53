"""No role sees more than its service declares: its own schema, and what others publish to it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from kit.audit.entry import COUNT_TELEMETRY, RECORD, RECORD_BATCH
from kit.service import Service
from tests.private_servers import PrivateServers, fresh_database
from voltstream.runtime.database import ACCESS_ROLE, AUDIT_ROLE, bring_up_to_date
from voltstream.services import all_services

Rights = set[tuple[str, str]]  # (role, what)

_RELATIONS = """
SELECT n.nspname || '.' || c.relname, right_
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace,
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS right_
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = ANY(%(schemas)s)
  AND has_table_privilege(%(role)s, c.oid, right_) AND has_schema_privilege(%(role)s, n.oid, 'USAGE')
"""
_FUNCTIONS = """
SELECT p.oid::regprocedure::text, p.prosecdef
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = ANY(%(schemas)s)
  AND has_function_privilege(%(role)s, p.oid, 'EXECUTE') AND has_schema_privilege(%(role)s, n.oid, 'USAGE')
"""
_MAKING = """
SELECT nspname FROM pg_namespace
WHERE nspname = ANY(%(schemas)s) AND has_schema_privilege(%(role)s, oid, 'CREATE')
"""


@pytest.fixture(scope="module")
def connection(session_servers: PrivateServers) -> Iterator[psycopg.Connection[Any]]:
    """A database brought up to date, as its owner."""
    with fresh_database(session_servers.url_of(session_servers.postgres)) as url:
        bring_up_to_date(url, 2)
        with psycopg.connect(url, autocommit=True) as opened:
            yield opened


def _asked(connection: psycopg.Connection[Any], query: str, role: str) -> list[tuple[Any, ...]]:
    schemas = ["access", "audit", "migrations", *(one.owned_schema for one in all_services() if one.migrations)]
    return connection.execute(query, {"role": role, "schemas": schemas}).fetchall()


_SERVICES = [service for service in all_services() if service.has_database]


@pytest.mark.parametrize("service", _SERVICES, ids=lambda service: service.name)
def test_a_role_has_the_rights_that_its_service_declares_and_no_other(
    connection: psycopg.Connection[Any], service: Service[Any]
) -> None:
    views = {name for name in service.reads if "(" not in name}
    contracts = [*service.reads, RECORD]  # every service may say who did what
    functions = {name.replace(", ", ",") for name in contracts if "(" in name}  # as regprocedure writes them
    foreign = {(name, right) for name, right in _asked(connection, _RELATIONS, service.role) if not _own(service, name)}
    assert foreign == {(name, "SELECT") for name in views}
    own = {right for name, right in _asked(connection, _RELATIONS, service.role) if _own(service, name)}
    writes = service.writes and not service.by_functions
    assert own == (
        {"SELECT", "INSERT", "UPDATE", "DELETE"} if writes else {"SELECT"} if service.owned_schema else set()
    )
    called = {name for name, _ in _asked(connection, _FUNCTIONS, service.role) if not _own(service, name)}
    assert called == {name for name in functions if not _own(service, name)}
    if not service.writes:  # one that acts with its owner's rights could write
        called = {name for name, definer in _asked(connection, _FUNCTIONS, service.role) if definer}
        assert called <= functions
    assert _asked(connection, _MAKING, service.role) == []


def test_tokens_are_for_the_authenticator_alone(connection: psycopg.Connection[Any]) -> None:
    seen = {name for name, _ in _asked(connection, _RELATIONS, ACCESS_ROLE)}
    assert seen == {"access.token", "access.signed_token_revocation", "stations.station_overview"}
    functions = {name for name, _ in _asked(connection, _FUNCTIONS, ACCESS_ROLE)}
    assert functions == {RECORD, "stations.certificate_stations(text[])"}


def test_entries_of_the_audit_are_added_and_never_changed(connection: psycopg.Connection[Any]) -> None:
    assert _asked(connection, _RELATIONS, AUDIT_ROLE) == []
    called = {name for name, _ in _asked(connection, _FUNCTIONS, AUDIT_ROLE)}
    assert called == {RECORD_BATCH, COUNT_TELEMETRY}
    roles = [AUDIT_ROLE, ACCESS_ROLE, *(service.role for service in _SERVICES)]
    rights = {(name, right) for role in roles for name, right in _asked(connection, _RELATIONS, role)}
    assert {right for name, right in rights if name.startswith("audit.")} == {"SELECT"}
    called = {(role, name) for role in roles for name, _ in _asked(connection, _FUNCTIONS, role)}
    assert {role for role, name in called if name.startswith(("audit.seal", "audit.forget"))} == {"audit_service"}


def test_nobody_without_a_role_of_ours_may_anything(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE ROLE grants_test_stranger")
    try:
        assert _asked(connection, _RELATIONS, "grants_test_stranger") == []
        assert _asked(connection, _FUNCTIONS, "grants_test_stranger") == []
    finally:
        connection.execute("DROP ROLE grants_test_stranger")


def _own(service: Service[Any], name: str) -> bool:
    return bool(service.owned_schema) and name.startswith(f"{service.owned_schema}.")
