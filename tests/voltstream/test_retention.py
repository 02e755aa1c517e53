"""Records end after the time that their setting says: not before, not those that are open, and in bounded steps."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

import kit.retention
from kit.config.adjustable import adjustables_of
from kit.database.postgres import open_database
from kit.retention import moment_before
from tests.api.privacy_app import (
    STATION,
    THEN,
    Connection,
    PrivacyApp,
    charge,
    hold_everything,
    invoice,
    person,
    put,
    rows_with,
    running_privacy,
)
from tests.serving import ended
from voltstream.services import all_services
from voltstream.settings import settings_type

# Kept until the driver is erased, and what ends by a job of its service (the audit, whose a session is).
KEPT = {
    "notifications.session", "reservations.session_driver",
    "access.signed_token_revocation", "access.token", "audit.entry", "billing.customer", "billing.customer_driver",
    "notifications.recipient",
}  # fmt: skip
ON_THEIR_WAY = {
    f"{schema}.outbox" for schema in ("billing", "events", "notifications", "privacy", "reservations", "sessions")
}


@pytest.fixture
async def privacy(database_url: str) -> AsyncIterator[PrivacyApp]:
    async with running_privacy(database_url) as running:
        yield running


async def _end_all(url: str, now: datetime) -> dict[str, int]:
    """Of every service, in its role; records by kind."""
    counts: dict[str, int] = {}
    for service in all_services():
        if service.retentions:
            database = await open_database(url, name="retention", role=service.role, connections_max=1)
            try:
                for kind, records in (await ended(database, service.owned_schema, service.retentions, now)).items():
                    counts[kind] = counts.get(kind, 0) + records
            finally:
                await database.close()
    return counts


def _age(connection: Connection) -> None:
    """What was written by the database's clock is from then."""
    for schema in ("billing", "events", "notifications", "privacy", "reservations", "sessions"):
        connection.execute(f"UPDATE {schema}.idempotency SET created_at = %s".encode(), (THEN,))
    connection.execute("UPDATE events.dead_letter SET died_at = %s", (THEN,))


async def test_a_driver_who_is_never_erased_is_found_nowhere_once_every_time_is_over(
    privacy: PrivacyApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit.retention, "ROWS_MAX", 2)  # several steps
    people = [person(f"d-{number}x") for number in range(3)]
    with privacy.connect() as connection:
        for one in people:
            hold_everything(connection, one)
        _age(connection)
        before = [rows_with(connection, one.texts) for one in people]
        assert await _end_all(privacy.url, THEN + timedelta(hours=24)) == {}
        assert [rows_with(connection, one.texts) for one in people] == before
        counts = await _end_all(privacy.url, datetime(2037, 1, 1, tzinfo=UTC))
        for one in people:
            assert set(rows_with(connection, one.texts)) - ON_THEIR_WAY <= KEPT
        assert {kind: counts[kind] for kind in ("charging_requests", "reservations", "notifications", "charges")} == {
            "charging_requests": 3, "reservations": 3, "notifications": 3, "charges": 3,
        }  # fmt: skip
        assert await _end_all(privacy.url, datetime(2037, 1, 1, tzinfo=UTC)) == {}


async def test_documents_are_kept_for_whole_years_and_for_as_long_as_one_of_their_charge_is_open(
    privacy: PrivacyApp,
) -> None:
    with privacy.connect() as connection:
        for subject, status in (("payer", "paid"), ("debtor", "open")):
            session = uuid4()
            cdr = charge(connection, subject, session, "invoiced")
            put(
                connection, "billing.document_terms", invoice_id=invoice(connection, subject, cdr, session, status),
                seller={}, buyer={"customer_id": "1"}, issued_on=THEN.date(), payment_terms="",
            )  # fmt: skip
        await _end_all(privacy.url, datetime(2036, 12, 31, 23, 59, tzinfo=UTC))
        assert _drivers(connection) == {"payer", "debtor"}
        await _end_all(privacy.url, datetime(2037, 1, 1, tzinfo=UTC))
        assert _drivers(connection) == {"debtor"}
        assert connection.execute("SELECT count(*) FROM billing.document_terms WHERE buyer IS NULL").fetchone() == (1,)


def _drivers(connection: Connection) -> set[Any]:
    query = """
    SELECT driver_id FROM billing.invoice UNION SELECT driver_id FROM billing.cdr
    UNION SELECT driver_id FROM billing.session_driver
    """
    return {row[0] for row in connection.execute(query).fetchall()} - {None}


async def test_a_collective_invoice_loses_its_buyer_and_the_drivers_in_its_labels(privacy: PrivacyApp) -> None:
    with privacy.connect() as connection:
        session = uuid4()
        cdr = charge(connection, "d-1", session, "invoiced")
        statement = invoice(connection, "", cdr, uuid4())
        connection.execute("UPDATE billing.invoice SET driver_id = NULL, station_id = ''")
        put(
            connection, "billing.document_terms", invoice_id=statement, seller={}, buyer={"customer_id": "1"},
            issued_on=THEN.date(), payment_terms="",
        )  # fmt: skip
        label = f"{STATION} · 2026-03-01 12:00 · session 7 · d-1 · corrected"
        put(
            connection, "billing.collected_charge", cdr_id=cdr, subject_id=session, version=1, customer_id=uuid4(),
            currency="EUR", label=label, energy_uj=1, started_at=THEN, ended_at=THEN, lines=[], collected_at=THEN,
            statement_id=statement,
        )  # fmt: skip
        put(
            connection, "billing.statement", invoice_id=statement, customer_id=uuid4(), month=THEN.date(),
            currency="EUR", part=1,
        )  # fmt: skip
        put(
            connection, "billing.statement_item", invoice_id=statement, line=1, label=label, cdr_id=cdr,
            taken_back=False,
        )  # fmt: skip
        assert (await _end_all(privacy.url, datetime(2037, 1, 1, tzinfo=UTC)))["documents"] == 1
        for table in ("collected_charge", "statement_item"):
            row = connection.execute(f"SELECT label FROM billing.{table}".encode()).fetchone()
            assert row == (f"{STATION} · 2026-03-01 12:00 · session 7 · corrected",)
        assert _drivers(connection) == set()


async def test_what_is_open_does_not_end(privacy: PrivacyApp) -> None:
    with privacy.connect() as connection:
        put(
            connection, "sessions.request", id=uuid4(), driver_id="d-1", station_id=STATION, connector_id=1,
            requested_by="x", requested_at=THEN, expires_at=THEN, claims_from=THEN, claims_until=THEN,
            session_id=uuid4(),
        )  # fmt: skip
        charge(connection, "d-1", uuid4(), "held")
        before = rows_with(connection, ("d-1",))
        await _end_all(privacy.url, THEN + timedelta(days=20 * 365))
        assert rows_with(connection, ("d-1",)) == before


def test_every_retention_is_an_adjustable_setting_with_a_unit() -> None:
    adjustables = adjustables_of(settings_type())
    for service in all_services():
        for one in service.retentions:
            adjustable = adjustables[one.setting]
            assert moment_before(THEN, int(adjustable.default), adjustable.unit) < THEN
            assert one.setting.endswith("retention")
        assert not service.retention or service.migrations is not None
