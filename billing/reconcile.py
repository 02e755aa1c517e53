"""Reconciliation: every charge of a range is derived again from the stored readings and compared with the records."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import count
from typing import Any, Final
from uuid import UUID

from billing.documents import WAITING, CdrStatus, SubjectKind
from billing.errors import BadEvent
from billing.invoices.store import InvoiceStore
from billing.invoices.stored_cdr import stream_consumption, tariff_of
from billing.invoicing.cross_check import WITHDRAWN
from billing.invoicing.derivation import Derived, derive_reservation, derive_session, differences, reserved_of
from billing.rating import NoReadings
from billing.readings_source import CompletedSession, ReadingsSource
from kit.web.errors import NotFound

PAGE: Final = 200  # charges looked up at once
AT_ONCE: Final = 8  # questions to the source of readings under way
DRIFTS_MAX: Final = 10_000  # listed one by one, ~500 B each; beyond, they are only counted

DECISION_CORRECT, DECISION_VOID = "correct", "void"
# Of these nothing is asked for yet: what an earlier revision had invoiced stands.
_DOCUMENTS_STAY: Final = (*WAITING, CdrStatus.SETTLING)
_CANNOT_DERIVE: Final = (NotFound, NoReadings, BadEvent)


class Finding(StrEnum):
    """The result for one charge."""

    AGREES = "agrees"
    DRIFT = "drift"  # some figure is not what follows from the readings
    UNPRICED = "unpriced"  # no tariff was in force, so nothing is asked
    REVIEW = "review"  # agrees, and nothing is asked until somebody has looked
    HELD = "held"  # likewise
    SETTLING = "settling"  # agrees, and is invoiced soon
    NOT_OWED = "not_owed"  # void, or it comes to nothing; all its documents sum to nothing
    DECIDED = "decided"  # a person corrected or voided it: no reading says so; the documents sum to what was decided
    CANCELLED = "cancelled"  # by finance; all its documents sum to nothing


_OUTCOMES: Final = {
    CdrStatus.UNPRICED: Finding.UNPRICED,
    CdrStatus.REVIEW: Finding.REVIEW,
    CdrStatus.HELD: Finding.HELD,
    CdrStatus.SETTLING: Finding.SETTLING,
    CdrStatus.NOTHING_OWED: Finding.NOT_OWED,
    CdrStatus.VOID: Finding.NOT_OWED,
    CdrStatus.CANCELLED: Finding.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Drift:
    """A charge that does not agree, and in what."""

    kind: SubjectKind
    subject_id: UUID
    reservation_id: str | None
    station_id: str
    started_at: datetime
    differences: Sequence[str]
    behind: bool = False  # billing does not have the session's last event; the first difference says which it has


@dataclass(frozen=True, slots=True)
class UninvoicedCharge:
    """A charge that is not invoiced until somebody has looked, with its amounts by billing and by the stream.

    Micro-units; None: no tariff was in force; the stream has no amount of a reservation.
    """

    kind: SubjectKind
    subject_id: UUID
    reservation_id: str | None
    station_id: str
    started_at: datetime
    status: CdrStatus
    currency: str | None
    excl_micros: int | None
    incl_micros: int | None
    stream_excl_micros: int | None
    stream_incl_micros: int | None


@dataclass(slots=True)
class Report:
    """All of a range."""

    outcomes: Counter[Finding] = field(default_factory=Counter)
    drifts: list[Drift] = field(default_factory=list)
    uninvoiced: list[UninvoicedCharge] = field(default_factory=list)  # listed one by one up to DRIFTS_MAX as well
    booked_micros: Counter[str] = field(default_factory=Counter)  # incl. VAT, by currency: the sum of all documents
    derived_micros: Counter[str] = field(default_factory=Counter)  # what they should sum to
    money: list[str] = field(default_factory=list)  # documents that do not say what was paid, refunded and set off
    behind: int = 0  # of the drifts

    def add(self, outcome: Finding, drift: Drift | None) -> None:
        """Count it, and list the drift."""
        self.outcomes[outcome] += 1
        if drift is None:
            return
        self.behind += drift.behind
        if len(self.drifts) < DRIFTS_MAX:
            self.drifts.append(drift)

    @property
    def charges(self) -> int:
        """How many were looked at."""
        return sum(self.outcomes.values())

    @property
    def agrees(self) -> bool:
        """No drift, and no euro was used twice."""
        return not self.outcomes[Finding.DRIFT] and not self.money


class Reconciler:
    """Compares CDRs and documents with the readings."""

    def __init__(self, store: InvoiceStore, source: ReadingsSource) -> None:
        self._store = store
        self._source = source
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self, start: datetime, end: datetime, progress: Callable[[int, int], None]) -> Report:
        """All that began in [start, end). `progress` gets how many are done, and of how many, as far as is known.

        Raises SourceFailed, Unavailable.
        """
        report, seen = Report(), set[UUID]()
        expected, done = await self._store.count_in(start, end), count(1)

        def note(found: tuple[Finding, Drift | None]) -> None:
            report.add(*found)
            number = next(done)
            progress(number, max(expected, number))

        async for page in _pages(self._source.completed_sessions(start, end)):
            seen |= {session.id for session in page}
            recorded = await self._store.recorded([session.id for session in page])
            for found in await asyncio.gather(*(self._session(one, recorded.get(one.id), report) for one in page)):
                note(found)
        # Reservations; and sessions that telemetry does not know, or that began at another moment by now.
        async for rows in self._store.recorded_in(start, end, PAGE):
            left = [row for row in rows if row["subject_id"] not in seen]
            for found in await asyncio.gather(*(self._recorded(row, report, []) for row in left)):
                note(found)
        report.money = await self._store.money_differences(start, end)
        return report

    async def again(self, subject_ids: Sequence[UUID], completed: Sequence[CompletedSession]) -> Report:
        """The same of these subjects alone, without `money`. `completed`: their sessions, as telemetry lists them.

        Raises as `run`.
        """
        report, recorded = Report(), await self._store.recorded(subject_ids)
        listed = {session.id for session in completed}
        work = [self._session(one, recorded.get(one.id), report) for one in completed]
        work += [self._recorded(row, report, []) for id_, row in recorded.items() if id_ not in listed]
        for found in await asyncio.gather(*work):
            report.add(*found)
        return report

    async def _session(
        self, session: CompletedSession, row: Mapping[str, Any] | None, report: Report
    ) -> tuple[Finding, Drift | None]:
        if row is None:
            known = (SubjectKind.SESSION, session.id, None, session.station_id, session.started_at)
            return Finding.DRIFT, Drift(*known, ["completed, and there is no CDR of it (yet)"], behind=True)
        found = []
        behind = row["revision"] < session.revision
        if behind:
            found.append(f"revision: stored {row['revision']}, telemetry has {session.revision} (events to come?)")
        elif row["energy_uj"] != session.energy_uj and row["decision"] != DECISION_CORRECT:
            found.append(f"energy_uj: stored {row['energy_uj']}, telemetry has {session.energy_uj}")
        return await self._recorded(row, report, found, behind=behind)

    async def _recorded(
        self, row: Mapping[str, Any], report: Report, found: list[str], *, behind: bool = False
    ) -> tuple[Finding, Drift | None]:
        status = CdrStatus(row["cdr_status"])
        if status in WAITING and len(report.uninvoiced) < DRIFTS_MAX:
            report.uninvoiced.append(_uninvoiced(row, status))
        decided = row["decision"] in (DECISION_CORRECT, DECISION_VOID)
        withdrawn = row["end_reason"] == WITHDRAWN  # without readings, from which anything could be derived
        if decided or withdrawn:
            amount = (row["total_excl_micros"], row["total_incl_micros"])
            found = [*found, *_document_differences(row, status, amount)]
            if row["currency"] is not None:
                report.derived_micros[row["currency"]] += _asked(row, status, row["total_incl_micros"])
                report.booked_micros[row["currency"]] += row["incl_micros"]
        elif row["tariff"] is not None:
            try:
                derived = await self._derive(row)
            except _CANNOT_DERIVE as error:
                found = [*found, str(error)]
            else:
                found = [*found, *_compare(row, status, derived)]
                asked = _asked(row, status, derived.amount.incl_micros)
                report.derived_micros[derived.amount.currency] += asked
                report.booked_micros[derived.amount.currency] += row["incl_micros"]
        outcome = Finding.DECIDED if decided else _OUTCOMES.get(status, Finding.AGREES)
        if not found:
            return outcome, None
        known = (SubjectKind(row["subject_kind"]), row["subject_id"], row["reservation_id"], row["station_id"])
        return Finding.DRIFT, Drift(*known, row["started_at"], found, behind)

    async def _derive(self, row: Mapping[str, Any]) -> Derived:
        tariff, zone = tariff_of(row)
        if row["subject_kind"] == SubjectKind.RESERVATION:
            return derive_reservation(tariff, zone, row)
        async with self._slots:
            stored = await self._source.readings(row["subject_id"])
        reserved = reserved_of(row["reserved_excl_micros"], row["reserved_incl_micros"])
        return derive_session(tariff, zone, stored, reserved)


def _uninvoiced(row: Mapping[str, Any], status: CdrStatus) -> UninvoicedCharge:
    names = ("subject_id", "reservation_id", "station_id", "started_at", "currency")
    return UninvoicedCharge(
        kind=SubjectKind(row["subject_kind"]),
        status=status,
        excl_micros=row["total_excl_micros"],
        incl_micros=row["total_incl_micros"],
        **{name: row[name] for name in (*names, "stream_excl_micros", "stream_incl_micros")},
    )


def _compare(row: Mapping[str, Any], status: CdrStatus, derived: Derived) -> list[str]:
    """Where CDR, documents and stream do not say what follows."""
    amount = derived.amount
    found = differences(
        derived, stream_consumption(row), row["currency"], row["total_excl_micros"], row["total_incl_micros"]
    )
    if status is CdrStatus.DRIFT:
        stream = f"{row['stream_excl_micros']} excl., {row['stream_incl_micros']} incl."
        found.append(f"the stream's cost: {stream}, computed {amount.excl_micros} excl., {amount.incl_micros} incl.")
    return found + _document_differences(row, status, (amount.excl_micros, amount.incl_micros))


def _document_differences(row: Mapping[str, Any], status: CdrStatus, amount: tuple[int, int]) -> list[str]:
    """Where the documents of a charge, excl. and incl. VAT, do not sum to its amount less what was credited of it."""
    if status in _DOCUMENTS_STAY:
        return []
    wanted = (0, 0)
    if status is CdrStatus.INVOICED:
        wanted = (amount[0] + row["part_excl_micros"], amount[1] + row["part_incl_micros"])
    asked = (row["excl_micros"], row["incl_micros"])
    if asked == wanted and (status is not CdrStatus.INVOICED or row["documents"]):
        return []
    return [f"all documents together: {asked[0]} excl., {asked[1]} incl., should be {wanted[0]}, {wanted[1]}"]


def _asked(row: Mapping[str, Any], status: CdrStatus, incl_micros: int) -> int:
    """What the documents of a charge of this amount should sum to, incl. VAT."""
    if status in _DOCUMENTS_STAY:
        return int(row["incl_micros"])
    return incl_micros + int(row["part_incl_micros"]) if status is CdrStatus.INVOICED else 0


async def _pages(sessions: AsyncIterator[CompletedSession]) -> AsyncIterator[list[CompletedSession]]:
    page: list[CompletedSession] = []
    async for session in sessions:
        page.append(session)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
