"""A seeded span of charging in the tables of the services that reporting reads, as a list of changes: each with what it
writes, the events that its service publishes, and the same in plain Python, from which figures are recomputed apart.

Everything that happens to figures is in it: faults, silences, late readings that move energy, late statuses, sessions
that end elsewhere, that become void or are withdrawn, corrections, credits of a part, collective invoices, reservations
that are used, missed, cancelled, moved, drivers who wait, a station that moves to another site.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from kit.clock import format_rfc3339
from schemas import topics
from schemas.events import (
    Event,
    EventMetadata,
    InvoiceChanged,
    ReservationChanged,
    SessionCompleted,
    StationChanged,
    StationConnector,
    StationStatusChanged,
    StatusChange,
    TelemetryAggregated,
    WindowAggregate,
)
from schemas.reading import STATUS_INTERVAL_LABELS

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 3, 27, tzinfo=UTC)  # the clocks of Europe are set forward on the 29th
AVAILABLE, PREPARING, CHARGING, SUSPENDED_EV, FINISHING, UNAVAILABLE, FAULTED = 1, 2, 3, 5, 6, 8, 9
PLUGS = ("IEC_62196_T2_COMBO", "IEC_62196_T2", None)
VAT = {"EUR": 1.19, "SEK": 1.25}

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
    changes: list[Change] = field(default_factory=list)


def make_month(seed: int, stations: int, days: int) -> Month:
    """The same for the same arguments. Changes are in the order of their moments."""
    maker = _Maker(random.Random(seed), START, START + days * DAY)
    for number in range(stations):
        maker.station(number)
    maker.collective_invoice()
    maker.month.changes.sort(key=lambda change: change.at)
    return maker.month


class _Maker:
    def __init__(self, dice: random.Random, start: datetime, end: datetime) -> None:
        self._dice = dice
        self.month = Month(start, end)
        self._numbers = iter(range(1, 10_000_000))
        self._collected: list[tuple[UUID, Amount]] = []
        self._window_revision: dict[tuple[str, int], int] = defaultdict(int)

    # -- What a station does. --

    def station(self, number: int) -> None:
        """Register a station with its connectors, and let it live."""
        dice, name = self._dice, f"ST-{number:04d}"
        connectors = list(range(1, dice.choice((2, 3, 4))))
        facts = {
            "site": dice.choice(("Airport", "Port", "Zoo", None)),
            "group": dice.choice(("fast", None)),
            "organisation": dice.choice(("North", "South")),
            "plugs": {one: dice.choice(PLUGS) for one in connectors},
        }
        self.month.registry[name] = facts
        for change in self._registrations(name, facts):
            self.month.changes.append(change)
        silences = self._silences(name)
        for connector in connectors if dice.random() < 0.8 else [*connectors, 0]:
            key = next(self._numbers)
            self._add(self.month.start, _ADD_CONNECTOR, (key, name, connector))
            if connector:
                self._connector(key, name, connector)
            else:  # a main meter, in no figure
                reading = Reading(self.month.start + HOUR, 5_000_000, None, 7_000, next(self._numbers))
                self._readings(key, name, 0, [reading], self.month.start + 2 * HOUR, count=False)
        for since, until in silences:
            self._silence(name, connectors, since, until)
        for _ in range(dice.randrange(3, 7)):
            self._reservation(name, connectors)

    def _registrations(self, name: str, facts: dict[str, Any]) -> Iterator[Change]:
        earlier = {**facts, "site": self._dice.choice(("Airport", "Depot", None)), "group": "old"}
        moved_at = self._moment()
        for revision, at, said in ((1, self.month.start, earlier), (2, moved_at, facts)):
            payload = StationChanged(
                station_id=name, revision=revision, name=None, site=said["site"], group=said["group"],
                organisation=said["organisation"], time_zone="Europe/Berlin", latitude_udeg=None, longitude_udeg=None,
                connectors=tuple(
                    StationConnector(connector_id=one, evse_id=None, standard=plug, format=None, power_type=None,
                                     rated_power_w=None)
                    for one, plug in said["plugs"].items()
                ),
                bays=(), changed_at=format_rfc3339(at),
            )  # fmt: skip
            yield Change(at, lambda cursor: None, (self._event(topics.STATION_UPDATED, payload, at),))

    def _connector(self, key: int, name: str, connector: int) -> None:
        dice = self._dice
        at = self.month.start + dice.randrange(0, 8 * 60) * MINUTE
        self._status(key, name, connector, at, AVAILABLE)
        while at < self.month.end - 8 * HOUR:
            at += timedelta(milliseconds=dice.randrange(20 * 60_000, 14 * 3_600_000))
            if at > self.month.end - 6 * HOUR:
                break
            if dice.random() < 0.15:
                self._status(key, name, connector, at, dice.choice((FAULTED, UNAVAILABLE)))
                at += dice.randrange(5, 300) * MINUTE
                self._status(key, name, connector, at, AVAILABLE)
            else:
                at = self._charge(key, name, connector, at)
        if dice.random() < 0.7:
            self._late_status(key, name, connector)
        if dice.random() < 0.5:  # a rise that is in no session
            reading = Reading(self._moment(), None, None, dice.randrange(1, 90_000), next(self._numbers))
            self._readings(key, name, connector, [reading], reading.ts + MINUTE)

    def _charge(self, key: int, name: str, connector: int, at: datetime) -> datetime:
        """A session with its readings, its statuses, its documents, and all that may become of them. When it ends."""
        dice, month = self._dice, self.month
        self._status(key, name, connector, at, PREPARING)
        begins = at + timedelta(milliseconds=dice.randrange(1, 300_000))
        self._status(key, name, connector, begins, CHARGING)
        readings, moment = [], begins
        for _ in range(dice.randrange(2, 30)):
            moment += timedelta(milliseconds=dice.randrange(60_000, 600_000))
            power_mw = dice.choice((None, dice.randrange(0, 150_000_000)))
            readings.append(Reading(moment, power_mw, dice.randrange(0, 20_000_000), None, next(self._numbers)))
        if dice.random() < 0.3:
            self._status(key, name, connector, moment, SUSPENDED_EV)
            moment += dice.randrange(1, 90) * MINUTE
        self._status(key, name, connector, moment, FINISHING)
        ends = moment
        freed = moment + dice.randrange(1, 40) * MINUTE
        self._status(key, name, connector, freed, AVAILABLE)
        self._readings(key, name, connector, readings, moment + MINUTE)

        number = next(self._numbers)
        session = Session(UUID(int=number), number, (name, connector), begins, ends, dice.choice((0, 0, 12_345)))
        session.energy_uj = dice.choice((0, 359_999_999_999, 360_000_000_000, 10**14))
        month.sessions.append(session)
        self._completed(session, key, ends + MINUTE)
        amount = self._amount(session)
        self._invoice(session, amount, ends + 2 * MINUTE)
        if dice.random() < 0.3:
            self._late_reading(key, name, connector, readings)
        fate = dice.random()
        if fate < 0.2:  # late readings: it ended at another time, so its charge is corrected
            session.ended_at = ends - timedelta(milliseconds=dice.randrange(1, 3 * 3_600_000))
            session.ended_at = max(session.ended_at, begins)
            self._revised(session, key, corrected=amount)
        elif fate < 0.3:
            session.void = True
            self._revised(session, key, corrected=amount)
        elif fate < 0.4:
            session.withdrawn = True
            self._revised(session, key, corrected=amount)
        elif fate < 0.5:  # a part is credited
            part = amount._replace(excl_micros=-amount.excl_micros // 3, incl_micros=-amount.incl_micros // 3)
            self._document(session, part, self._moment(after=ends + 10 * MINUTE), credits=True)
        return freed

    def _revised(self, session: Session, key: int, *, corrected: Amount) -> None:
        at = self._moment(after=session.started_at + DAY / 2)
        session.revision += 1
        self._completed(session, key, at)
        credit = corrected._replace(excl_micros=-corrected.excl_micros, incl_micros=-corrected.incl_micros)
        self._document(session, credit, at + MINUTE, credits=True)
        if not (session.void or session.withdrawn):
            self._invoice(session, self._amount(session), at + MINUTE)

    def _late_reading(self, key: int, name: str, connector: int, readings: list[Reading]) -> None:
        """It comes between two others and takes a part of what the later one accounts for."""
        at = self._moment(after=readings[-1].ts + 2 * HOUR)  # when the others have been stored
        first, then = readings[0], readings[1]
        ts = first.ts + (then.ts - first.ts) / 2
        late = Reading(ts.replace(microsecond=ts.microsecond // 1_000 * 1_000), 1_000_001, 0, None, next(self._numbers))
        late.in_session_mwh = (then.in_session_mwh or 0) // 2
        then.in_session_mwh = (then.in_session_mwh or 0) - late.in_session_mwh
        self._revise(key, then, at)
        self._readings(key, name, connector, [late], at, also=then)

    def _late_status(self, key: int, name: str, connector: int) -> None:
        """A statement from long ago: it holds until the next one, which may be hours later. The newest is as before, so
        that no event of statuses tells of it; the window of its reading does."""
        known = self.month.statuses[name, connector]
        since = self._moment()
        before = [moment for moment in known if moment <= since]
        after = [moment for moment in known if moment > since]
        if not before or not after or known[max(before)] == FAULTED or known[min(after)] == FAULTED or since in known:
            return
        at = self._moment(after=since + HOUR)
        known[since] = FAULTED
        self._add(at, _ADD_STATUS, (key, since, FAULTED))
        self._readings(key, name, connector, [Reading(since, None, None, None, next(self._numbers))], at)

    def _silences(self, name: str) -> list[tuple[datetime, datetime]]:
        found: list[tuple[datetime, datetime]] = []
        at = self.month.start
        while self._dice.random() < 0.7:
            since = at + self._dice.randrange(60, 40 * 60) * MINUTE
            until = since + self._dice.randrange(16, 500) * MINUTE
            if until > self.month.end:
                break
            found.append((since, until))
            at = until + MINUTE
        return found

    def _silence(self, name: str, connectors: list[int], since: datetime, until: datetime) -> None:
        self.month.silences[name].append((since, until))
        found_at = since + 15 * MINUTE
        self._add(found_at, _BEGIN_SILENCE, (name, since), self._changes(name, connectors, -1, since, found_at))
        # What it says again began long before.
        event = self._changes(name, connectors, AVAILABLE, self.month.start, until)
        self._add(until, _END_SILENCE, (until, name, since), event)

    # -- What services write and publish. --

    def _status(self, key: int, name: str, connector: int, since: datetime, status: int) -> None:
        self.month.statuses[name, connector][since] = status
        event = self._changes(name, [connector], status, since, since + MINUTE)
        self._add(since + MINUTE, _ADD_STATUS, (key, since, status), event)

    def _changes(self, name: str, connectors: list[int], status: int, since: datetime, at: datetime) -> Event[Any]:
        changes = [
            StatusChange(
                station_id=name, connector_id=one, status=STATUS_INTERVAL_LABELS[status], previous=None,
                error_code=None, since=format_rfc3339(since), revision=1,
            )
            for one in connectors
        ]  # fmt: skip
        return self._event(topics.STATION_STATUS_CHANGED, StationStatusChanged(changes=changes), at)

    def _readings(
        self,
        key: int,
        name: str,
        connector: int,
        readings: list[Reading],
        at: datetime,
        *,
        also: Reading | None = None,
        count: bool = True,
    ) -> None:
        if count:
            self.month.readings[name, connector] += readings
        rows = [(key, r.ts, r.power_mw, r.in_session_mwh, r.outside_mwh, r.seq) for r in readings]
        changed = [*readings, also] if also else readings
        minutes = sorted({one.ts.replace(second=0, microsecond=0) for one in changed})
        windows = [
            WindowAggregate(
                station_id=name, connector_id=connector, window_start=format_rfc3339(minute), revision=1, readings=1,
                flagged=0, power_w_avg=None, power_w_min=None, power_w_max=None, voltage_v_avg=None,
                current_a_avg=None, temperature_c_max=None, energy_wh_first=None, energy_wh_last=None,
            )
            for minute in minutes
        ]  # fmt: skip
        event = self._event(topics.TELEMETRY_AGGREGATED, TelemetryAggregated(partition=0, windows=windows), at)

        def write(cursor: psycopg.Cursor[Any]) -> None:
            cursor.executemany(_INSERT_READING, rows)
            cursor.execute(_MERGE_WINDOWS, {"key": key, "minutes": minutes})

        self.month.changes.append(Change(at, write, (event,)))

    def _revise(self, key: int, reading: Reading, at: datetime) -> None:
        energy_mwh = reading.in_session_mwh
        self._add(at, _REVISE, (energy_mwh, key, reading.seq))

    def _completed(self, session: Session, key: int, at: datetime) -> None:
        station_id, connector_id = session.place
        payload = SessionCompleted(
            id=session.id, station_id=station_id, connector_id=connector_id, session_id=None,
            started_at=format_rfc3339(session.started_at), ended_at=format_rfc3339(session.ended_at),
            end_reason="withdrawn" if session.withdrawn else "ended", estimated=False, energy_uj=0, energy_wh=0.0,
            readings=1, flagged=0, revision=session.revision, void=session.void,
        )  # fmt: skip
        row = (
            session.key, session.id, key, session.started_at, session.ended_at, session.ended_at,
            5 if session.withdrawn else 1, session.energy_uj, session.export_mwh, int(session.void), session.revision,
        )  # fmt: skip
        self._add(at, _PUT_SESSION, row, self._event(topics.SESSION_COMPLETED, payload, at))

    def _amount(self, session: Session) -> Amount:
        currency = "SEK" if session.place[0].endswith("3") else "EUR"
        excl_micros = self._dice.randrange(1, 40_000_000)
        incl_micros = round(excl_micros * VAT[currency])
        return Amount(*session.place, session.ended_at, currency, excl_micros, incl_micros)

    def _invoice(self, session: Session, amount: Amount, at: datetime) -> None:
        cdr_id = UUID(int=next(self._numbers))
        row = (
            cdr_id, "session", session.id, session.revision, amount.station_id, amount.connector_id,
            session.started_at, amount.ended_at, amount.currency,
        )  # fmt: skip
        self._add(at, _ADD_CDR, row)
        if session.revision == 1 and self._dice.random() < 0.1:
            self._collected.append((cdr_id, amount))
            return
        self._document(session, amount, at, cdr_id=cdr_id)

    def _document(
        self, session: Session, amount: Amount, at: datetime, *, cdr_id: UUID | None = None, credits: bool = False
    ) -> None:
        """An invoice of that CDR, or a credit note of the session's first invoice."""
        if credits and any(one is amount or (one.ended_at == amount.ended_at and one[:2] == amount[:2])
                           for _, one in self._collected):  # fmt: skip
            return  # it is on the collective invoice
        self.month.amounts.append(amount)
        document_id = UUID(int=next(self._numbers))
        row = {
            "id": document_id, "sequence": next(self._numbers), "cdr_id": cdr_id, "session": session.id,
            "kind": "credit_note" if credits else "invoice", "station": amount.station_id, "issued_at": at,
            "currency": amount.currency, "excl": amount.excl_micros, "incl": amount.incl_micros,
        }  # fmt: skip
        event = self._event(topics.INVOICE_CREATED, self._invoiced(document_id, row), at)
        self._add(at, _CREDIT if credits else _ADD_INVOICE, row, event)

    def _invoiced(self, document_id: UUID, row: dict[str, Any]) -> InvoiceChanged:
        return InvoiceChanged(
            invoice_id=document_id, number="", kind=row["kind"], session_id=row["session"], reservation_id=None,
            driver_id=None, version=1, status="open", currency=row["currency"], total_excl_micros=row["excl"],
            total_incl_micros=row["incl"], payable_minor=0, replaces=None,
        )  # fmt: skip

    def collective_invoice(self) -> None:
        """Of all that was collected: one invoice a currency, and a credit of a part, which is given back on it."""
        for currency in ("EUR", "SEK"):
            charges = [one for one in self._collected if one[1].currency == currency]
            if not charges:
                continue
            at = self.month.end - HOUR
            document_id, cdr_id = UUID(int=next(self._numbers)), UUID(int=next(self._numbers))
            self._add(at, _ADD_CDR, (cdr_id, "statement", document_id, 1, "", None, self.month.start, at, currency))
            row = {
                "id": document_id, "sequence": next(self._numbers), "cdr_id": cdr_id, "session": None,
                "kind": "invoice", "station": "", "issued_at": at, "currency": currency,
                "excl": 0, "incl": 0,
            }  # fmt: skip
            self._add(at, _ADD_STATEMENT, row)
            self._add(at, _MAKE_COLLECTIVE, (document_id, currency))
            line = 1
            for charge_cdr, amount in charges:
                self._add(at, _ADD_ITEM, (document_id, line, charge_cdr))
                half = amount.excl_micros // 2, amount.incl_micros // 2
                rest = amount.excl_micros - half[0], amount.incl_micros - half[1]
                for excl, incl in (half, rest):
                    self._add(at, _ADD_LINE, (document_id, line, "ENERGY", excl, incl))
                    line += 1
                self.month.amounts.append(amount)
            given_back = Amount("", None, at, currency, -1_000, -1_190)
            self._add(at, _ADD_LINE, (document_id, line, "CREDIT", given_back.excl_micros, given_back.incl_micros))
            self.month.amounts.append(given_back)
            event = self._event(topics.INVOICE_CREATED, self._invoiced(document_id, row), at)
            self._add(at, "SELECT %s::int", (1,), event)

    def _reservation(self, name: str, connectors: list[int]) -> None:
        dice = self._dice
        starts_at = self._moment()
        created_at = max(self.month.start, starts_at - dice.randrange(1, 600) * MINUTE)
        connector = dice.choice((*connectors, None))
        state = dice.choice(("used", "no-show", "cancelled", "expired", "confirmed"))
        one = Reservation(UUID(int=next(self._numbers)), name, connector, starts_at, state, created_at)
        before = f"{name}-ELSEWHERE" if dice.random() < 0.3 else name
        if dice.random() < 0.5:
            one.joined_at = created_at - timedelta(milliseconds=dice.randrange(1, 9_000_000))
        self.month.reservations.append(one)
        place = next(self._numbers)
        types = {"no-show": topics.RESERVATION_NO_SHOW, "cancelled": topics.RESERVATION_CANCELLED,
                 "expired": topics.RESERVATION_EXPIRED}  # fmt: skip
        steps = (
            (1, created_at, before, "held", topics.RESERVATION_CREATED),
            (2, starts_at, name, state, types.get(state, topics.RESERVATION_CREATED)),
        )
        for revision, at, station, now, event_type in steps:
            over = now in ("used", "expired", "no-show", "cancelled")
            row: dict[str, Any] = {
                "id": one.id, "place": place, "station": station, "connector": connector,
                "bay": None if connector else "A", "starts_at": starts_at, "state": now, "revision": revision,
                "created_at": created_at, "due_at": None if over else starts_at, "joined_at": one.joined_at,
                "waits": "accepted" if over and now != "expired" else "offered",
            }  # fmt: skip
            payload = ReservationChanged(
                reservation_id=str(one.id), revision=revision, station_id=station, connector_id=connector,
                bay=row["bay"], driver_id="d", starts_at=format_rfc3339(starts_at), ends_at=format_rfc3339(starts_at),
                status=now, reason=None, moved_from=None,
            )  # fmt: skip
            self._add(at, _PUT_RESERVATION, row, self._event(event_type, payload, at))

    def _moment(self, after: datetime | None = None) -> datetime:
        """Any, after that one."""
        first, last = after or self.month.start + 2 * HOUR, self.month.end - 2 * HOUR
        between_ms = max(1, (last - first) // timedelta(milliseconds=1))
        return first + timedelta(milliseconds=self._dice.randrange(between_ms))

    def _add(self, at: datetime, statement: str, row: Any, *events: Event[Any]) -> None:
        def write(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute(statement.encode(), row)

        self.month.changes.append(Change(at, write, events))

    def _event(self, event_type: str, payload: Any, at: datetime) -> Event[Any]:
        event_id = UUID(int=next(self._numbers))
        return Event(EventMetadata(event_id, format_rfc3339(at), "test", "", event_type, 1), payload)


_ADD_CONNECTOR = """
INSERT INTO telemetry.connector (connector_key, partition, station_id, connector_id) OVERRIDING SYSTEM VALUE
VALUES (%s, 0, %s, %s)
"""
_ADD_STATUS = """
INSERT INTO telemetry.status_interval (connector_key, since, place, status, revision) VALUES (%s, %s, 0, %s, 1)
"""
_BEGIN_SILENCE = "INSERT INTO telemetry.silence (station_id, since, revision) VALUES (%s, %s, 1)"
_END_SILENCE = "UPDATE telemetry.silence SET until = %s WHERE station_id = %s AND since = %s"
_INSERT_READING = """
INSERT INTO telemetry.reading (connector_key, ts, power_mw, in_session_mwh, outside_mwh, seq, payload_hash, status)
VALUES (%s, %s, %s, %s, %s, %s, 0, 0)
"""
_REVISE = "UPDATE telemetry.reading SET in_session_mwh = %s WHERE connector_key = %s AND seq = %s"
_MERGE_WINDOWS = """
WITH gone AS (DELETE FROM telemetry.window_1m WHERE connector_key = %(key)s AND bucket = ANY(%(minutes)s))
, made AS (
    SELECT connector_key, date_trunc('minute', ts) AS bucket, count(*) AS readings, min(ts) AS first_ts,
        max(ts) AS last_ts, count(power_mw) AS n, coalesce(sum(power_mw), 0) AS p,
        coalesce(sum(in_session_mwh), 0) AS i, coalesce(sum(outside_mwh), 0) AS o
    FROM telemetry.reading WHERE connector_key = %(key)s AND date_trunc('minute', ts) = ANY(%(minutes)s)
    GROUP BY 1, 2
)
INSERT INTO telemetry.window_1m (connector_key, bucket, readings, flagged, first_ts, last_ts, power_mw_n, power_mw_sum,
    in_session_mwh_sum, outside_mwh_sum)
SELECT connector_key, bucket, readings, 0, first_ts, last_ts, n, p, i, o FROM made
ON CONFLICT (connector_key, bucket) DO UPDATE SET readings = excluded.readings, power_mw_n = excluded.power_mw_n,
    power_mw_sum = excluded.power_mw_sum, in_session_mwh_sum = excluded.in_session_mwh_sum,
    outside_mwh_sum = excluded.outside_mwh_sum
"""
_PUT_SESSION = """
INSERT INTO telemetry.session (session_key, id, connector_key, started_at, last_at, ended_at, end_reason, energy_uj,
    integrated_uj, readings, flagged, export_mwh, void, revision)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0, 1, 0, %s, %s, %s)
ON CONFLICT (session_key) DO UPDATE SET (ended_at, end_reason, void, revision) =
    (excluded.ended_at, excluded.end_reason, excluded.void, excluded.revision)
"""
_ADD_CDR = """
INSERT INTO billing.cdr (id, kind, subject_id, version, current, revision, status, station_id, connector_id, started_at,
    ended_at, end_reason, estimated, energy_uj, readings, flagged, consumption, currency, created_at)
VALUES (%s, %s, %s, %s, false, 1, 'invoiced', %s, %s, %s, %s, 'ended', false, 0, 1, 0, '[]', %s, now())
"""
_INVOICE = """
INSERT INTO billing.invoice (id, kind, year, sequence, number, cdr_id, subject_id, session_id, version, status,
    station_id, currency, minor_digits, total_excl_micros, total_incl_micros, payable_excl_minor, payable_minor,
    rounding, credits, issued_at, changed_at)
"""
_ADD_INVOICE = f"""{_INVOICE} VALUES (%(id)s, 'invoice', 2026, %(sequence)s, '', %(cdr_id)s, %(session)s, %(session)s,
    1, 'cancelled', %(station)s, %(currency)s, 2, %(excl)s, %(incl)s, 0, 0, '', NULL, %(issued_at)s, now())
"""
_ADD_STATEMENT = f"""{_INVOICE} VALUES (%(id)s, 'invoice', 2026, %(sequence)s, '', %(cdr_id)s, %(id)s, NULL, 1,
    'open', '', %(currency)s, 2, %(excl)s, %(incl)s, 0, 0, '', NULL, %(issued_at)s, now());
"""
_CREDIT = f"""{_INVOICE} SELECT %(id)s, 'credit_note', 2026, %(sequence)s, '', cdr_id, subject_id, session_id, 1,
    'settled', station_id, currency, 2, %(excl)s, %(incl)s, 0, 0, '', id, %(issued_at)s, now()
FROM billing.invoice WHERE session_id = %(session)s AND kind = 'invoice' ORDER BY sequence LIMIT 1
"""
_MAKE_COLLECTIVE = """
INSERT INTO billing.statement (invoice_id, customer_id, month, currency, part)
VALUES (%s, gen_random_uuid(), '2026-03-01', %s, 1)
"""
_ADD_ITEM = (
    "INSERT INTO billing.statement_item (invoice_id, line, cdr_id, label, taken_back) VALUES (%s, %s, %s, '', false)"
)
_ADD_LINE = """
INSERT INTO billing.invoice_line (invoice_id, line, dimension, volume, billed, excl_micros, incl_micros)
VALUES (%s, %s, %s, 0, 0, %s, %s)
"""
_PUT_RESERVATION = """
WITH at AS (
    INSERT INTO reservations.place (place_key, station_id, connector_id, bay, registered) OVERRIDING SYSTEM VALUE
    VALUES (%(place)s, %(station)s || '/' || %(place)s, %(connector)s, %(bay)s, true) ON CONFLICT DO NOTHING
), put AS (
    INSERT INTO reservations.reservation (id, driver_id, place_key, station_id, connector_id, bay, starts_at, ends_at,
        state, revision, created_at, created_by, due_at)
    VALUES (%(id)s, 'd', %(place)s, %(station)s, %(connector)s, %(bay)s, %(starts_at)s,
        %(starts_at)s + interval '1 hour', %(state)s, %(revision)s, %(created_at)s, 'test', %(due_at)s)
    ON CONFLICT (id) DO UPDATE SET (station_id, state, revision, due_at) =
        (excluded.station_id, excluded.state, excluded.revision, excluded.due_at)
)
INSERT INTO reservations.waiting (id, site, driver_id, standard, power_w_min, duration_s, joined_at, state,
    reservation_id)
SELECT %(id)s, %(id)s::text, 'd', 'x', 0, 0, %(joined_at)s, %(waits)s, %(id)s
WHERE %(joined_at)s::timestamptz IS NOT NULL
ON CONFLICT (id) DO UPDATE SET state = excluded.state
"""
