"""A seeded span of charging in the tables of the services that reporting reads, as a list of changes: each with what it
writes, the events that its service publishes, and the same in plain Python, from which figures are recomputed apart.

Everything that happens to figures is in it: faults, silences, late readings that move energy, late statuses, sessions
that end elsewhere, that become void or are withdrawn, corrections, credits of a part, collective invoices, reservations
that are used, missed, cancelled, moved, drivers who wait, a station that moves to another site and country.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
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
from tests.api.reporting import month_sql as sql
from tests.api.reporting.month import (
    AVAILABLE,
    CHARGING,
    DAY,
    FAULTED,
    FINISHING,
    HOUR,
    MINUTE,
    PREPARING,
    START,
    SUSPENDED_EV,
    UNAVAILABLE,
    Amount,
    Change,
    Month,
    Reading,
    Reservation,
    Session,
    Write,
)

COUNTRIES = ("DEU", "NOR", "BVT", None)  # no table has Bouvet Island
PLUGS = ("IEC_62196_T2_COMBO", "IEC_62196_T2", None)
VAT = {"EUR": 1.19, "SEK": 1.25}


def make_month(seed: int, stations: int, days: int) -> Month:
    """The same for the same arguments. Changes are in the order of their moments."""
    maker = _Maker(random.Random(seed), START, START + days * DAY)
    for number in range(stations):
        maker.station(number)
    maker.collective_invoice()
    maker.month.changes.sort(key=lambda change: change.at)
    return maker.month


def credited(amount: Amount, divided_by: int = 1) -> Amount:
    """What a credit note of it charges, or of a part of it."""
    margin_micros = amount.margin_micros
    return amount._replace(
        excl_micros=-amount.excl_micros // divided_by,
        incl_micros=-amount.incl_micros // divided_by,
        margin_micros=None if margin_micros is None else -margin_micros // divided_by,
    )


def _executes(statement: str, row: Any) -> Write:
    def write(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(statement.encode(), row)

    return write


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
            "country": dice.choice(COUNTRIES),
        }
        self.month.registry[name] = facts
        for change in self._registrations(name, facts):
            self.month.changes.append(change)
        silences = self._silences(name)
        for connector in connectors if dice.random() < 0.8 else [*connectors, 0]:
            key = next(self._numbers)
            self._add(self.month.start, sql.ADD_CONNECTOR, (key, name, connector))
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
        earlier = {
            **facts,
            "site": self._dice.choice(("Airport", "Depot", None)),
            "group": "old",
            "country": self._dice.choice(COUNTRIES),
        }
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
            row = (name, said["country"], at)
            yield Change(at, _executes(sql.PUT_STATION, row), (self._event(topics.STATION_UPDATED, payload, at),))

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
            part = credited(amount, 3)
            self._document(session, part, self._moment(after=ends + 10 * MINUTE), credits=True)
        return freed

    def _revised(self, session: Session, key: int, *, corrected: Amount) -> None:
        at = self._moment(after=session.started_at + DAY / 2)
        session.revision += 1
        self._completed(session, key, at)
        self._document(session, credited(corrected), at + MINUTE, credits=True)
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
        self._add(at, sql.ADD_STATUS, (key, since, FAULTED))
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
        self._add(found_at, sql.BEGIN_SILENCE, (name, since), self._changes(name, connectors, -1, since, found_at))
        # What it says again began long before.
        event = self._changes(name, connectors, AVAILABLE, self.month.start, until)
        self._add(until, sql.END_SILENCE, (until, name, since), event)

    # -- What services write and publish. --

    def _status(self, key: int, name: str, connector: int, since: datetime, status: int) -> None:
        self.month.statuses[name, connector][since] = status
        event = self._changes(name, [connector], status, since, since + MINUTE)
        self._add(since + MINUTE, sql.ADD_STATUS, (key, since, status), event)

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
            cursor.executemany(sql.INSERT_READING, rows)
            cursor.execute(sql.MERGE_WINDOWS, {"key": key, "minutes": minutes})

        self.month.changes.append(Change(at, write, (event,)))

    def _revise(self, key: int, reading: Reading, at: datetime) -> None:
        energy_mwh = reading.in_session_mwh
        self._add(at, sql.REVISE, (energy_mwh, key, reading.seq))

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
        self._add(at, sql.PUT_SESSION, row, self._event(topics.SESSION_COMPLETED, payload, at))

    def _amount(self, session: Session) -> Amount:
        currency = "SEK" if session.place[0].endswith("3") else "EUR"
        excl_micros = self._dice.randrange(1, 40_000_000)
        incl_micros = round(excl_micros * VAT[currency])
        margin_micros = self._dice.choice((None, 0, self._dice.randrange(-9_000_000, excl_micros)))
        return Amount(*session.place, session.ended_at, currency, excl_micros, incl_micros, margin_micros)

    def _invoice(self, session: Session, amount: Amount, at: datetime) -> None:
        cdr_id = UUID(int=next(self._numbers))
        row = (
            cdr_id, "session", session.id, session.revision, amount.station_id, amount.connector_id,
            session.started_at, amount.ended_at, amount.currency, amount.margin_micros,
        )  # fmt: skip
        self._add(at, sql.ADD_CDR, row)
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
            "margin": amount.margin_micros,
        }  # fmt: skip
        event = self._event(topics.INVOICE_CREATED, self._invoiced(document_id, row), at)
        self._add(at, sql.CREDIT if credits else sql.ADD_INVOICE, row, event)

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
            self._add(
                at, sql.ADD_CDR, (cdr_id, "statement", document_id, 1, "", None, self.month.start, at, currency, None)
            )
            row = {
                "id": document_id, "sequence": next(self._numbers), "cdr_id": cdr_id, "session": None,
                "kind": "invoice", "station": "", "issued_at": at, "currency": currency,
                "excl": 0, "incl": 0, "margin": None,
            }  # fmt: skip
            self._add(at, sql.ADD_STATEMENT, row)
            self._add(at, sql.MAKE_COLLECTIVE, (document_id, currency))
            line = 1
            for charge_cdr, amount in charges:
                self._add(at, sql.ADD_ITEM, (document_id, line, charge_cdr))
                half = amount.excl_micros // 2, amount.incl_micros // 2
                rest = amount.excl_micros - half[0], amount.incl_micros - half[1]
                for excl, incl in (half, rest):
                    self._add(at, sql.ADD_LINE, (document_id, line, "ENERGY", excl, incl))
                    line += 1
                self.month.amounts.append(amount)
            given_back = Amount("", None, at, currency, -1_000, -1_190)
            self._add(at, sql.ADD_LINE, (document_id, line, "CREDIT", given_back.excl_micros, given_back.incl_micros))
            self.month.amounts.append(given_back)
            event = self._event(topics.INVOICE_CREATED, self._invoiced(document_id, row), at)
            self._add(at, sql.NOTHING, (1,), event)

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
            self._add(at, sql.PUT_RESERVATION, row, self._event(event_type, payload, at))

    def _moment(self, after: datetime | None = None) -> datetime:
        """Any, after that one."""
        first, last = after or self.month.start + 2 * HOUR, self.month.end - 2 * HOUR
        between_ms = max(1, (last - first) // timedelta(milliseconds=1))
        return first + timedelta(milliseconds=self._dice.randrange(between_ms))

    def _add(self, at: datetime, statement: str, row: Any, *events: Event[Any]) -> None:
        self.month.changes.append(Change(at, _executes(statement, row), events))

    def _event(self, event_type: str, payload: Any, at: datetime) -> Event[Any]:
        event_id = UUID(int=next(self._numbers))
        return Event(EventMetadata(event_id, format_rfc3339(at), "test", "", event_type, 1), payload)
