"""Events as other services publish them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec

from billing.invoicing.amounts import price_consumption
from billing.invoicing.tariffs import parse_tariff
from kit.clock import format_rfc3339
from kit.messaging.bus import DIRECT, EVENT_ID, Message
from schemas.events import (
    Consumption,
    Envelope,
    EventMetadata,
    Money,
    Pricing,
    ReservationConfirmed,
    SessionAssigned,
    SessionCompleted,
)
from schemas.topics import RESERVATION_CONFIRMED, SESSION_ASSIGNED, SESSION_COMPLETED, routing_key

START = datetime(2026, 3, 28, 20, 0, tzinfo=UTC)
ZONE = "Europe/Amsterdam"
VERSION = UUID("11111111-1111-4111-8111-111111111111")
TARIFF: dict[str, Any] = {
    "currency": "EUR",
    "elements": [
        {
            "price_components": [
                {"type": "FLAT", "price": 0.5, "vat": 21, "step_size": 1},
                {"type": "ENERGY", "price": 0.3456, "vat": 21, "step_size": 1},
                {"type": "TIME", "price": 1.2, "vat": 10, "step_size": 60},
            ]
        },
        {
            "price_components": [{"type": "TIME", "price": 3, "vat": 21, "step_size": 1}],
            "restrictions": {"reservation": "RESERVATION"},
        },
    ],
}
LEAST_VERSION = UUID("33333333-3333-4333-8333-333333333333")
LEAST: dict[str, Any] = {
    "currency": "EUR",
    "min_price": {"excl_vat": 20, "incl_vat": 24.2},
    "elements": TARIFF["elements"][:1],
}
"""20.00 at the least, which a usual session does not reach."""
ENERGY_VERSION = UUID("44444444-4444-4444-8444-444444444444")
ENERGY: dict[str, Any] = {
    "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.3456, "vat": 21, "step_size": 1}]}],
}
"""A session without energy costs nothing."""
_NAMESPACE = UUID("22222222-2222-4222-8222-222222222222")


def consumption(energy_mwh: int, time_ms: int, start: datetime = START) -> list[Consumption]:
    """Of TARIFF's first element."""
    since = format_rfc3339(start)
    used = [("ENERGY", energy_mwh, True), ("FLAT", 1, False), ("TIME", time_ms, True)]
    return [
        Consumption(element=0, dimension=dimension, volume=volume, since=since, last=last)
        for dimension, volume, last in used
        if volume
    ]


def session(
    session_id: UUID | None = None,
    *,
    revision: int = 1,
    energy_mwh: int = 12_345_678,
    time_ms: int = 5_400_123,
    start: datetime = START,
    tariff: dict[str, Any] | None = TARIFF,
    version: UUID = VERSION,
    station_id: str = "NL-1",
    excl_off_micros: int = 0,
    used: Sequence[Consumption] | None = None,
    readings: int = 2,
) -> SessionCompleted:
    """A completed session. `excl_off_micros`: the error of the stream's cost; no `tariff`: none was in force."""
    used = consumption(energy_mwh, time_ms, start) if used is None else list(used)
    pricing = None
    if tariff is not None:
        amount = price_consumption(parse_tariff(msgspec.json.encode(tariff).decode()), used)
        cost = Money(
            currency=amount.currency,
            excl_vat_micros=amount.excl_micros + excl_off_micros,
            incl_vat_micros=amount.incl_micros,
        )
        pricing = Pricing(version=version, time_zone=ZONE, tariff=tariff, consumption=list(used), cost=cost)
    return SessionCompleted(
        id=session_id or uuid4(),
        station_id=station_id,
        connector_id=1,
        session_id="TX-1",
        started_at=format_rfc3339(start),
        ended_at=format_rfc3339(start + timedelta(milliseconds=time_ms)),
        end_reason="ended",
        estimated=False,
        energy_uj=energy_mwh * 3_600_000 + 17,
        energy_wh=energy_mwh / 1000,
        readings=readings,
        flagged=1,
        revision=revision,
        pricing=pricing,
    )


def free_session(session_id: UUID | None = None) -> SessionCompleted:
    """A session that costs nothing."""
    return session(session_id, energy_mwh=0, tariff=ENERGY, version=ENERGY_VERSION, used=[])


def assigned(session_id: UUID, driver_id: str, revision: int = 1, *, withdrawn: bool = False) -> SessionAssigned:
    """The driver of a session."""
    return SessionAssigned(
        session_id=session_id,
        request_id=uuid4(),
        driver_id=driver_id,
        reservation_id=None,
        revision=revision,
        withdrawn=withdrawn,
    )


def reservation(reservation_id: str, *, driver_id: str = "driver-1", minutes: int = 30) -> ReservationConfirmed:
    """A reservation that was used."""
    return ReservationConfirmed(
        reservation_id=reservation_id,
        station_id="NL-1",
        connector_id=1,
        driver_id=driver_id,
        starts_at=format_rfc3339(START),
        ends_at=format_rfc3339(START + timedelta(minutes=minutes)),
        expired=False,
        version=VERSION,
        time_zone=ZONE,
        tariff=TARIFF,
    )


_TYPES: dict[type, str] = {
    SessionCompleted: SESSION_COMPLETED,
    SessionAssigned: SESSION_ASSIGNED,
    ReservationConfirmed: RESERVATION_CONFIRMED,
}


def message(payload: SessionCompleted | SessionAssigned | ReservationConfirmed) -> Message:
    """The event of a payload; the same payload has the same event id."""
    type_ = _TYPES[type(payload)]
    plain = msgspec.to_builtins(payload)
    event_id = uuid5(_NAMESPACE, msgspec.json.encode(plain).decode())
    metadata = EventMetadata(
        event_id=event_id,
        timestamp=format_rfc3339(START),
        source="test",
        correlation_id=f"test-{event_id}",
        type=type_,
        version=1,
    )
    body = msgspec.json.encode(Envelope(metadata, plain))
    return Message(DIRECT, routing_key(type_), body, {EVENT_ID: str(event_id)})
