"""What happened in a span of charging: in plain Python, from which figures are recomputed apart, and as a list of
changes, each with what a service writes and the events that it publishes."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from schemas.events import (
    Event,
)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 3, 27, tzinfo=UTC)  # the clocks of Europe are set forward on the 29th
AVAILABLE, PREPARING, CHARGING, SUSPENDED_EV, FINISHING, UNAVAILABLE, FAULTED = 1, 2, 3, 5, 6, 8, 9

Write = Callable[[psycopg.Cursor[Any]], None]


class Change(NamedTuple):
    """What a service commits at a moment, and the events of it."""

    at: datetime
    write: Write
    events: tuple[Event[Any], ...]


@dataclass
class Reading:
    """A reading, as far as figures see it."""

    ts: datetime
    power_mw: int | None
    in_session_mwh: int | None
    outside_mwh: int | None
    seq: int


@dataclass
class Session:
    """A session as it is in the end."""

    id: UUID
    key: int
    place: tuple[str, int]
    started_at: datetime
    ended_at: datetime
    export_mwh: int = 0
    void: bool = False
    withdrawn: bool = False
    revision: int = 1
    energy_uj: int = 0


class Amount(NamedTuple):
    """What a document charges for a charge."""

    station_id: str
    connector_id: int | None
    ended_at: datetime
    currency: str
    excl_micros: int
    incl_micros: int
    margin_micros: int | None = 0  # of demand pricing; None: not known


@dataclass
class Reservation:
    """A reservation as it is in the end."""

    id: UUID
    station_id: str
    connector_id: int | None
    starts_at: datetime
    state: str
    created_at: datetime
    joined_at: datetime | None = None  # its driver waited for it since


@dataclass
class Month:
    """All of it. `readings`, `statuses`: by station and connector."""

    start: datetime
    end: datetime
    registry: dict[str, dict[str, Any]] = field(default_factory=dict)
    readings: dict[tuple[str, int], list[Reading]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[tuple[str, int], dict[datetime, int]] = field(default_factory=lambda: defaultdict(dict))
    silences: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=lambda: defaultdict(list))
    sessions: list[Session] = field(default_factory=list)
    amounts: list[Amount] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    exclusions: list[tuple[str, int | None, datetime, datetime]] = field(default_factory=list)
    # In force for 2026, to the thousandth of a gram; "": of all others. The first are those that ship with the service.
    g_per_kwh: dict[str, Decimal] = field(
        default_factory=lambda: {"DEU": Decimal("342.06"), "NOR": Decimal("30.75"), "": Decimal("213.02")}
    )
    changes: list[Change] = field(default_factory=list)
