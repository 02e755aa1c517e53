"""Kinds of notifications: their category, and a sample of the variables that their templates have. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Channel = Literal["email", "push", "sms", "webhook", "chat"]
Category = Literal["receipts", "reservations", "sessions", "alarms", "announcements"]
Mode = Literal["now", "digest", "off"]

CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)

# Of recipients who chose nothing; what is not named is off. A channel without an address is left out.
DEFAULT_MODES: Final[Mapping[Category, Mapping[Channel, Mode]]] = {
    "receipts": {"email": "now", "webhook": "now"},
    "reservations": {"push": "now", "email": "now", "webhook": "now"},
    "sessions": {"push": "now", "webhook": "now"},
    "alarms": {"email": "now", "chat": "now", "webhook": "now"},
    "announcements": {"email": "now", "push": "now", "webhook": "now"},
}
# A document about money must reach its recipient in a form that can be kept, and a digest has no room for it.
MANDATORY: Final[frozenset[tuple[Category, Channel]]] = frozenset({("receipts", "email")})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of notification."""

    category: Category
    sample: Mapping[str, Any]


_RESERVATION: Final[Mapping[str, Any]] = {
    "reservation_id": "R-1",
    "station_id": "DE-VS-0001",
    "station": "Market square",
    "connector_id": 1,
    "bay": None,
    "starts_at": "2026-03-29T09:00:00.000Z",
    "ends_at": "2026-03-29T10:00:00.000Z",
    "status": "held",
    "reason": None,
    "moved_from": None,
}
_SESSION: Final[Mapping[str, Any]] = {
    "session_id": "5f0c9b4e-8f7c-4d56-9b44-0a63a4a6a3a1",
    "station_id": "DE-VS-0001",
    "station": "Market square",
    "connector_id": 1,
    "started_at": "2026-03-29T09:05:00.000Z",
}
_OVERSTAY: Final[Mapping[str, Any]] = {
    "station_id": "DE-VS-0001",
    "station": "Market square",
    "connector_id": None,
    "bay": "B1",
    "reason": "charging",
    "since": "2026-03-29T09:05:00.000Z",
    "idle_since": "2026-03-29T09:45:00.000Z",
    "overstay_from": "2026-03-29T09:55:00.000Z",
    "fee_per_hour_micros": 6_000_000,
    "currency": "EUR",
}
_INVOICE: Final[Mapping[str, Any]] = {
    "invoice_id": "0e0c2f5e-4c8e-4a06-9c7c-2d2c9c1f4b11",
    "number": "2026-000042",
    "currency": "EUR",
    "total_micros": 12_340_000,
    "session_id": _SESSION["session_id"],
    "reservation_id": None,
}

KINDS: Final[Mapping[str, Kind]] = {
    "invoice": Kind("receipts", _INVOICE),
    "credit_note": Kind("receipts", _INVOICE),
    "reservation_created": Kind("reservations", _RESERVATION),
    "reservation_moved": Kind("reservations", {**_RESERVATION, "moved_from": "DE-VS-0002", "reason": "it is faulted"}),
    "reservation_cancelled": Kind("reservations", {**_RESERVATION, "status": "cancelled"}),
    "reservation_expired": Kind("reservations", {**_RESERVATION, "status": "expired"}),
    "reservation_no_show": Kind("reservations", {**_RESERVATION, "status": "no-show"}),
    "session_started": Kind("sessions", _SESSION),
    "session_completed": Kind(
        "sessions",
        {
            **_SESSION,
            "ended_at": "2026-03-29T09:45:00.000Z",
            "energy_wh": 21_300.0,
            "currency": "EUR",
            "cost_micros": 12_340_000,
            "held": False,
        },
    ),
    "parking_overstayed": Kind("sessions", _OVERSTAY),
    "parking_alarm": Kind("alarms", {"site": "Site North", **_OVERSTAY}),
    "station_alarm": Kind(
        "alarms",
        {
            "place": "Site North",
            "status": "Faulted",
            "error_code": "GroundFailure",
            "count": 1,
            "connectors": [{"station_id": "DE-VS-0001", "connector_id": 1, "since": "2026-03-29T09:00:00.000Z"}],
        },
    ),
    "event_failed": Kind(
        "alarms",
        {
            "queue": "billing_session_completed",
            "event_type": "session.completed.v1",
            "event_id": "9a0c9b4e-8f7c-4d56-9b44-0a63a4a6a3a1",
            "attempts": 8,
            "error": "no tariff",
        },
    ),
    "announcement": Kind("announcements", {"title": "Maintenance", "text": "On Sunday night the site is closed."}),
    "digest": Kind(
        "announcements",  # its items have categories of their own
        {
            "count": 2,
            "more": 0,
            "items": [
                {"title": "Charging began", "text": "At Market square.", "created_at": "2026-03-29T09:05:00.000Z"},
                {"title": "Charging ended", "text": "21.3 kWh.", "created_at": "2026-03-29T09:45:00.000Z"},
            ],
        },
    ),
}
