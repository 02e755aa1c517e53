"""The use cases of charges. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from billing.charges import store
from billing.charges.correction import UJ_PER_MWH, corrected, milliwatt_hours
from billing.charges.models import (
    ChargeDetail,
    Correction,
    DecisionKind,
    RecordedCharge,
    RecordedDecision,
    Review,
)
from billing.charges.store import ChargeCursor, ChargeFilter, ChargeStore, DecisionRecord
from billing.currency import can_be_paid, format_micros, format_minor
from billing.documents import WAITING, CdrStatus, ChargeDraft
from billing.invoices.stored_cdr import tariff_of
from billing.invoicing.derivation import reprice
from billing.invoicing.metrics import InvoicingMetrics
from billing.invoicing.poster import InvoicePoster, Released
from billing.invoicing.rules import InvoicingRules
from billing.invoicing.store import draft_of, lock
from kit.audit.recording import record
from kit.auth.station_filter import StationFilter
from kit.clock import Clock
from kit.messaging.consumer import current_event_context
from kit.messaging.outbox import Transaction
from kit.web.errors import Conflict, NotFound
from kit.web.paging import decode_cursor, encode_cursor, to_micros

_SAME: Final = (
    *("id", "status", "reason", "kind", "session_id", "reservation_id", "driver_id", "station_id", "started_at"),
    *("ended_at", "version", "revision", "tariff_version", "currency", "due_at"),
)
_MICROS: Final = ("total_excl", "total_incl", "stream_excl", "stream_incl")
_MWH_DIGITS: Final = 3
_DECIDED: Final[Mapping[DecisionKind, str]] = {"approve": "approved", "correct": "corrected", "void": "voided"}


class ChargeService:
    """Charges that are not invoiced, and decisions about those that wait for a person."""

    def __init__(
        self,
        charges: ChargeStore,
        poster: InvoicePoster,
        rules: InvoicingRules,
        metrics: InvoicingMetrics,
        clock: Clock,
    ) -> None:
        self._store = charges
        self._poster = poster
        self._rules = rules
        self._metrics = metrics
        self._clock = clock

    async def list_charges(
        self, wanted: ChargeFilter, min_age_s: int, limit: int, cursor: str | None
    ) -> tuple[Sequence[RecordedCharge], str | None]:
        """A page, oldest first, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, ChargeCursor) if cursor else None
        if min_age_s:
            wanted = replace(wanted, noted_before=self._clock.now() - timedelta(seconds=min_age_s))
        found = await self._store.list_charges(wanted, after, limit + 1)
        page = found[:limit]
        last = ChargeCursor(to_micros(page[-1]["created_at"]), page[-1]["id"]) if len(found) > limit else None
        charges = [RecordedCharge(**_charge(row)) for row in page]
        return charges, None if last is None else encode_cursor(last)

    async def get_charge(self, charge_id: UUID, only: StationFilter) -> ChargeDetail:
        """A charge at these stations with the decisions about it. Raises NotFound."""
        found = await self._store.detail(charge_id, only)
        if found is None:
            raise NotFound(f"no charge {charge_id}")
        return _detail(*found)

    async def decide(
        self,
        connection: Transaction,
        charge_id: UUID,
        kind: DecisionKind,
        review: Review,
        who: str,
        only: StationFilter,
    ) -> ChargeDetail:
        """Record a decision of a person on a charge at these stations, with the documents that follow from it; the
        charge as it is then.

        `connection`: of an open transaction, which commits at once. Raises NotFound, Conflict, BadQuery.
        """
        await lock(connection)
        row = await store.whole(connection, charge_id, only)
        if row is None:
            raise NotFound(f"no charge {charge_id}")
        if row["id"] != row["newest_id"]:
            raise Conflict(f"another version has taken its place: charge {row['newest_id']}; look at that one first")
        if row["status"] not in WAITING:
            raise Conflict(
                f"the charge is {row['status']}: only one that is {', '.join(WAITING)} is decided on. "
                "An invoice is corrected by POST /api/v1/billing/cancel or /api/v1/billing/invoices/{id}/credit"
            )
        draft, decision_id = self._released(row, kind, review), uuid4()
        released = Released(decision_id, f"corrected: {review.why}" if kind == "correct" else "", review.why)
        result_id = await self._poster.release(connection, draft, released, current_event_context())
        decision = _decision(row, kind, review, who, decision_id, result_id, self._clock)
        await store.add_decision(connection, decision)
        await record(
            connection,
            f"charge.{_DECIDED[kind]}",
            f"charge/{row['id']}",
            before={"status": row["status"], "reasons": list(row["reasons"]), "energy_uj": row["energy_uj"]},
            after={"charge": str(result_id), "status": draft.status, "energy_mwh": decision.energy_mwh},
            reason=review.why,
        )
        self._metrics.decisions.labels(kind).inc()
        found = await store.detail(connection, result_id)
        if found is None:
            raise AssertionError("it was written just now")
        return _detail(*found)

    def _released(self, row: Mapping[str, Any], kind: DecisionKind, review: Review) -> ChargeDraft:
        """The charge as decided. Raises Conflict, BadQuery."""
        before = msgspec.structs.replace(draft_of(row), reasons=(), reason="")
        if kind == "void":
            return msgspec.structs.replace(before, status=CdrStatus.VOID)
        if isinstance(review, Correction):
            before = corrected(before, row, review)
        else:
            before = msgspec.structs.replace(
                _with_lines(before, row), consumption=before.own_consumption, computed=None
            )
        if before.amount is None:
            raise Conflict("no tariff was in force, so that there is no amount to approve: void it")
        if not can_be_paid(before.amount.currency):
            raise Conflict(f"ISO 4217 has no currency {before.amount.currency}: nobody can pay in it; void it")
        return msgspec.structs.replace(before, status=self._rules.outcome_when_released(before.amount))


def _with_lines(draft: ChargeDraft, row: Mapping[str, Any]) -> ChargeDraft:
    """A charge that was recorded before lines were kept is priced again. Raises Conflict."""
    if draft.amount is None or row["lines"] is not None:
        return draft
    amount = reprice(tariff_of(row)[0], {**row, "subject_kind": row["kind"]}, draft.consumption).amount
    if amount.totals != draft.amount.totals:
        raise Conflict("what billing computed was recorded without its lines, by an earlier release: correct it")
    return msgspec.structs.replace(draft, amount=amount)


def _decision(
    row: Mapping[str, Any],
    kind: DecisionKind,
    review: Review,
    who: str,
    decision_id: UUID,
    result_id: UUID,
    clock: Clock,
) -> DecisionRecord:
    given: dict[str, Any] = dict.fromkeys(("energy_mwh", "started_at", "ended_at"))
    if isinstance(review, Correction):
        given = {
            "energy_mwh": milliwatt_hours(review.energy_wh),
            "started_at": review.started_at or row["started_at"],
            "ended_at": review.ended_at or row["ended_at"],
        }
    return DecisionRecord(
        id=decision_id,
        subject_id=row["subject_id"],
        cdr_id=row["id"],
        result_cdr_id=result_id,
        revision=row["revision"],
        decision=kind,
        status_before=row["status"],
        reasons_before=row["reasons"],
        who=who,
        why=review.why,
        decided_at=clock.now(),
        **given,
    )


def _charge(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: row[name] for name in _SAME}
    for name in _MICROS:
        micros = row[f"{name}_micros"]
        values[f"{name}_vat"] = None if micros is None else format_micros(micros)
    energy_wh = format_minor(row["energy_uj"] // UJ_PER_MWH, _MWH_DIGITS)
    reasons = list(row["reasons"])
    return {**values, "cdr_id": row["id"], "noted_at": row["created_at"], "energy_wh": energy_wh, "reasons": reasons}


def _detail(row: Mapping[str, Any], decisions: Sequence[Mapping[str, Any]]) -> ChargeDetail:
    return ChargeDetail(
        **_charge(row), invoice_id=row["invoice_id"], decisions=[_recorded_decision(one) for one in decisions]
    )


def _recorded_decision(row: Mapping[str, Any]) -> RecordedDecision:
    names = ("id", "decision", "revision", "status_before", "who", "why", "started_at", "ended_at", "decided_at")
    energy_mwh = row["energy_mwh"]
    return RecordedDecision(
        reasons_before=list(row["reasons_before"]),
        energy_wh=None if energy_mwh is None else format_minor(energy_mwh, _MWH_DIGITS),
        **{name: row[name] for name in names},
    )
