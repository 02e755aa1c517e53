"""The privacy service, served over the schemas of all services, and drivers of whom everything is held."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
from prometheus_client import CollectorRegistry
from psycopg import sql
from psycopg.types.json import Jsonb

from api.privacy.declaration import SERVICE
from kit.auth.authenticator import Authenticator
from kit.auth.scopes import KINDS, Kind
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import open_database
from kit.web.app import make_app
from kit.web.serving.server import serve
from tests.api.rows import COARSER_WINDOWS_SQL
from tests.serving import Opened, make_schemas, open_service
from voltstream.services import all_services
from voltstream.settings import load_settings

NOW: Final = datetime(2026, 3, 29, 9, tzinfo=UTC)
THEN: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATION: Final = "DE-1"

Connection = psycopg.Connection[Any]


@dataclass
class PrivacyApp:
    """The running service."""

    client: httpx.AsyncClient
    tokens: Mapping[Kind, str]  # the driver's is of `d-1`
    store: TokenStore
    url: str
    base_url: str
    clock: ManualClock
    opened: Opened[Any]

    async def ask(self, method: str, subject: str, token: str = "") -> httpx.Response:
        """As an administrator, or with another token."""
        quoted = "".join("/" if byte == ord("/") else f"%{byte:02X}" for byte in subject.encode())
        headers = {"authorization": f"Bearer {token or self.tokens['admin']}"}
        return await self.client.request(method, f"/api/v1/privacy/{quoted}", headers=headers)

    def connect(self) -> Connection:
        """As the owner of everything."""
        return psycopg.connect(self.url, autocommit=True)


@asynccontextmanager
async def running_privacy(url: str) -> AsyncIterator[PrivacyApp]:
    """On a fresh database."""
    make_schemas(url, [one for one in all_services() if one.has_database], prepared=COARSER_WINDOWS_SQL)
    clock = ManualClock(NOW)
    access = await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {kind: (await store.issue(kind, subject="d-1" if kind == "driver" else None))[0] for kind in KINDS}
    app = make_app("privacy", "0", registry=CollectorRegistry(), clock=clock)
    app.state.authenticator = Authenticator(store, clock)
    config = RuntimeConfig(load_settings())
    try:
        async with (
            open_service(SERVICE, url, clock, app=app, config=config) as opened,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client,
        ):
            yield PrivacyApp(client, tokens, store, url, server.url, clock, opened)
    finally:
        config.close()
        await access.close()


@dataclass(frozen=True, slots=True)
class HeldDriver:
    """A driver, and what is known of them beside the id."""

    subject: str
    name: str
    email: str
    phone: str

    @property
    def texts(self) -> tuple[str, ...]:
        """By which the person would be found."""
        return self.subject, self.name, self.email, self.phone


def person(subject: str) -> HeldDriver:
    """A driver whose other texts nobody else has."""
    own = uuid4().hex
    return HeldDriver(subject, f"Ada {own}", f"ada-{own}@example.org", f"+49 {own}")


def put(connection: Connection, table: str, **values: Any) -> None:
    """A row; of JSON, its document."""
    adapted = [Jsonb(value) if isinstance(value, dict | list) and value != [] else value for value in values.values()]
    query = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join([sql.Placeholder()] * len(values)),
    )
    connection.execute(query, adapted)


def event_body(**payload: Any) -> bytes:
    """An event, as it is published."""
    return json.dumps({"metadata": {"eventId": str(uuid4())}, "payload": payload}, ensure_ascii=False).encode()


def hold_everything(connection: Connection, one: HeldDriver, *, documents: bool = True) -> None:
    """A row of the driver in every table that has rows of drivers; nothing of it is open. `documents`: an invoice, too,
    and the audit has what they did."""
    _access(connection, one, audited=documents)
    session = uuid4()
    _sessions(connection, one, session)
    _reservations(connection, one, session)
    _notifications(connection, one, session)
    customer = _billing(connection, one, session, documents=documents)
    _standard_tables(connection, one, customer)


def _access(connection: Connection, one: HeldDriver, *, audited: bool) -> None:
    token = uuid4()
    put(
        connection, "access.token", id=token, kind="driver", hash=uuid4().bytes * 2, label=one.name, subject=one.subject
    )
    if audited:
        put(connection, "access.signed_token_revocation", subject=one.subject, issued_before=THEN, revoked_at=THEN)
        shared = {
            "at": THEN.isoformat(),
            "role": "",
            "token": "",
            "correlation_id": "",
            "address": "192.0.2.1",
            "requests": 1,
        }
        entries = [
            {**shared, "action": "request", "actor": f"driver/{one.subject}", "endpoint": "/api/v1/reservations"},
            {**shared, "action": "token.issued", "actor": "cli/root", "entity": f"token/{token}",
             "after": {"kind": "driver", "subject": one.subject, "label": one.name}},
        ]  # fmt: skip
        connection.execute("SELECT audit.record(%s::jsonb)", (json.dumps(entries),))


def _sessions(connection: Connection, one: HeldDriver, session: UUID) -> None:
    who = f"driver/{one.subject}"
    put(connection, "sessions.session", id=session, station_id=STATION, connector_id=1, started_at=THEN, ended_at=THEN)
    put(
        connection, "sessions.request", id=uuid4(), driver_id=one.subject, station_id=STATION, connector_id=1,
        requested_by=who, requested_at=THEN, expires_at=THEN, claims_from=THEN, claims_until=THEN, session_id=session,
        completed_at=THEN, stop_requested_at=THEN, stop_requested_by=who,
    )  # fmt: skip
    put(connection, "sessions.stop", session_id=uuid4(), requested_at=THEN, requested_by=who)


def _reservations(connection: Connection, one: HeldDriver, session: UUID) -> None:
    place = connection.execute(
        "INSERT INTO reservations.place (station_id, connector_id, registered) VALUES (%s, 1, true) "
        "ON CONFLICT (station_id, connector_id) DO UPDATE SET registered = true RETURNING place_key", (STATION,)
    ).fetchone()  # fmt: skip
    assert place is not None
    reservation = uuid4()
    put(
        connection, "reservations.reservation", id=reservation, driver_id=one.subject, place_key=place[0],
        station_id=STATION, connector_id=1, starts_at=THEN, ends_at=NOW, state="used", revision=3, session_id=session,
        created_at=THEN, created_by=f"driver/{one.subject}",
    )  # fmt: skip
    put(
        connection, "reservations.waiting", id=uuid4(), site="north", driver_id=one.subject, standard="IEC_62196_T2",
        power_w_min=0, duration_s=60, joined_at=THEN, state="accepted", reservation_id=reservation,
    )  # fmt: skip
    put(
        connection,
        "reservations.session_driver",
        session_id=session,
        driver_id=one.subject,
        revision=1,
        observed_at=THEN,
    )


def _notifications(connection: Connection, one: HeldDriver, session: UUID) -> None:
    who, notification = f"driver/{one.subject}", uuid4()
    put(
        connection, "notifications.recipient", subject=who, language="de", time_zone="Europe/Berlin", digest_at_min=480,
        addresses={"email": one.email, "sms": one.phone}, modes={"receipts": {}},
        gone={"push": {"address": one.phone, "reason": one.email}}, updated_at=THEN, updated_by=who,
    )  # fmt: skip
    put(
        connection, "notifications.notification", id=notification, cause_id=uuid4(), kind="invoice",
        category="receipts", subject=who, context={"name": one.name}, created_at=THEN,
    )  # fmt: skip
    put(
        connection, "notifications.delivery", id=uuid4(), notification_id=notification, channel="email", language="de",
        address=one.email, title=f"For {one.name}", body=f"Dear {one.name}, {one.phone}", html=f"<p>{one.name}</p>",
        state="failed", reason=f"550 <{one.email}>: unknown", receipt=one.email, is_digest_item=False, due_at=THEN,
        created_at=THEN, finished_at=THEN,
    )  # fmt: skip
    put(
        connection, "notifications.session", id=session, driver_id=one.subject, assignment=1,
        started={"context": {}}, completed={"context": {}}, heard_at=THEN,
    )  # fmt: skip


def charge(connection: Connection, subject: str, session: UUID, status: str = "free", **more: Any) -> UUID:
    """A charge of a session."""
    cdr = uuid4()
    put(
        connection, "billing.cdr", id=cdr, kind="session", subject_id=session, version=1, current=True, revision=1,
        status=status, driver_id=subject, station_id=STATION, started_at=THEN, ended_at=THEN, end_reason="ended",
        estimated=False, energy_uj=0, readings=1, flagged=0, consumption=[], created_at=THEN, **more,
    )  # fmt: skip
    put(
        connection, "billing.session_driver", session_id=session, revision=1, driver_id=subject, request_id=uuid4(),
        heard_at=THEN,
    )  # fmt: skip
    return cdr


def invoice(connection: Connection, subject: str, cdr: UUID, session: UUID, status: str = "paid") -> UUID:
    """An invoice of a charge, issued in March 2026."""
    invoice_id = uuid4()
    row = connection.execute("UPDATE billing.numbering SET last = last + 1 RETURNING last").fetchone()
    assert row is not None
    put(
        connection, "billing.invoice", id=invoice_id, kind="invoice", year=2026, sequence=row[0],
        number=f"2026-{row[0]:07}", cdr_id=cdr, subject_id=session, session_id=session, version=1, status=status,
        driver_id=subject, station_id=STATION, currency="EUR", minor_digits=2, total_excl_micros=0, total_incl_micros=0,
        payable_excl_minor=0, payable_minor=0, rounding="half_even", issued_at=THEN, changed_at=THEN,
    )  # fmt: skip
    return invoice_id


def _billing(connection: Connection, one: HeldDriver, session: UUID, *, documents: bool) -> UUID:
    customer = uuid4()
    put(
        connection, "billing.customer", id=customer, name=one.name, address={"lines": [one.name]}, email=one.email,
        reference=one.phone, electronic_address={"scheme": "EM", "id": one.email}, payment_terms=one.name, version=1,
        created_at=THEN, changed_at=THEN,
    )  # fmt: skip
    put(connection, "billing.customer_driver", driver_id=one.subject, customer_id=customer)
    charge(connection, one.subject, session)
    if documents:
        charged = uuid4()
        issued = invoice(connection, one.subject, charge(connection, one.subject, charged, "invoiced"), charged)
        put(
            connection, "billing.document_terms", invoice_id=issued, seller={}, issued_on=THEN.date(), payment_terms="",
            buyer={"customer_id": str(customer), "name": one.name, "email": one.email},
        )  # fmt: skip
        put(
            connection, "billing.payment", id=uuid4(), invoice_id=issued, attempt=1, kind="charge", provider="stripe",
            reference="pi_1", status="succeeded", currency="EUR", amount_minor=1, created_at=THEN, changed_at=THEN,
        )  # fmt: skip
    return customer


def _standard_tables(connection: Connection, one: HeldDriver, customer: UUID) -> None:
    who = f"driver/{one.subject}"
    bodies = (
        event_body(session_id=str(uuid4()), driver_id=one.subject, revision=1),
        event_body(subject=who, error=f"550 <{one.email}>: unknown", kind="invoice"),
    )
    for schema in ("sessions", "reservations", "notifications", "billing", "events", "privacy"):
        for body in bodies:
            put(connection, f"{schema}.outbox", event_id=uuid4(), exchange="x", routing_key="y", body=body)
        answers = (
            (who, {"name": one.name}, "/api/v1/x"),
            ("operator/7", {"driver_ids": [one.subject], "name": one.name, "email": one.email}, "/api/v1/x"),
            ("operator/7", {"label": f"{STATION} · session 7 · {one.subject}"}, None),
            *([("operator/7", {"id": str(customer), "name": one.name}, None)] if schema == "billing" else []),
        )
        for principal, answer, location in answers:
            put(
                connection, f"{schema}.idempotency", principal=principal, key=uuid4().hex, request_hash=uuid4().bytes,
                status=200, body=json.dumps(answer, ensure_ascii=False).encode(), media_type="application/json",
                location=location,
            )  # fmt: skip
    unreadable = b"no JSON: " + json.dumps(one.subject, ensure_ascii=False).encode()
    for body in (*bodies, unreadable):
        put(
            connection, "events.dead_letter", id=uuid4(), queue="q", exchange="x", routing_key="y", body=body,
            headers={"error": f"of {one.subject}", "event_id": "1"}, error=f"of {one.subject}", attempts=3,
        )  # fmt: skip


def rows_with(connection: Connection, texts: tuple[str, ...]) -> dict[str, int]:
    """The tables of all schemas in which any of these texts stands, in whatever column and type, with the number of
    rows."""
    wanted = {
        form for text in texts for form in (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    }
    found: dict[str, int] = {}
    for table in tables(connection):
        for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*table.split(".")))):
            if any(form in text for text in map(_text_of, row) for form in wanted):
                found[table] = found.get(table, 0) + 1
    return found


def tables(connection: Connection) -> Iterator[str]:
    """All tables of ours."""
    query = """
    SELECT n.nspname || '.' || c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema|_timescale)'
    ORDER BY 1
    """
    return (row[0] for row in connection.execute(query).fetchall())


def _text_of(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
