"""Explains a document: selects the CDR to recompute, and presents its derivation as the API does. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from billing.currency import format_micros, format_minor, minor_digits, to_minor
from billing.documents import VALID, CdrStatus, Document, InvoiceKind
from billing.invoices.models import ComputedFrom, Explanation, LeftOut, Period, Rounding, Used
from billing.invoices.rendering import MILLI_DIGITS, line_of
from billing.invoices.stored_cdr import plain_tariff
from billing.invoicing.derivation import Derived
from billing.rating import IgnoredReading
from billing.rating.usage import UsageInterval
from billing.readings_source import StoredReadings
from kit.clock import from_ms, parse_rfc3339
from schemas.quality import names_of

PERIODS_MAX: Final = 10_000  # ~200 B each: 2 MB; nearly three hours of a reading a second
LEFT_OUT_MAX: Final = 10_000
_KWH_DIGITS: Final = 6


def select_cdr_for_explanation(
    own: Mapping[str, Any], current: Mapping[str, Any] | None, document: Document
) -> Mapping[str, Any] | None:
    """Returns the CDR to recompute from the current readings, or None if the document belongs to an older CDR. `own`,
    `current`: the document's CDR and its subject's newest."""
    if own["cdr_current"] or current is None:
        return own
    valid = document.kind is InvoiceKind.INVOICE and document.status in VALID
    return current if valid and current["cdr_status"] == CdrStatus.INVOICED else None


def explanation_of(
    invoice: Document,
    cdr: Mapping[str, Any],
    stored: StoredReadings,
    derived: Derived,
    differences: Sequence[str],
    *,
    computed_from: ComputedFrom,
    related: Mapping[str, Any],
    current: Mapping[str, Any],
) -> Explanation:
    """`cdr`: the explained one's columns and its tariff's; `derived`: with the document's sign; `related`: the
    documents that it credits or that replace it; `current`: the newest CDR of the same subject."""
    intervals = derived.usage.intervals
    amount = derived.amount
    sign = -1 if amount.incl_micros < 0 else 1
    return Explanation(
        invoice_id=invoice.id,
        number=invoice.number,
        kind=invoice.kind,
        status=invoice.status,
        remark=_remark(invoice, related, current),
        credits=related["credits"],
        credited_by=related["credited_by"],
        superseded_by=related["superseded_by"],
        version=cdr["cdr_version"],
        computed_from=computed_from,
        agrees=not differences,
        differences=list(differences),
        tariff_version=cdr["tariff_version"],
        tariff=plain_tariff(cdr),
        time_zone=cdr["time_zone"],
        readings=len(stored.readings),
        periods=[_period(interval) for interval in intervals[:PERIODS_MAX]],
        periods_left_out=max(len(intervals) - PERIODS_MAX, 0),
        left_out=sorted((_left_out(stored, one) for one in derived.left_out), key=lambda one: one.ts)[:LEFT_OUT_MAX],
        consumption=[
            Used(
                element=used.element,
                dimension=used.dimension,
                volume=used.volume,
                since=parse_rfc3339(used.since),
                step_size=used.last,
            )
            for used in derived.consumption
        ],
        lines=[line_of(line) for line in amount.lines],
        roundings=[
            Rounding(
                what=one.what,
                numerator=str(one.numerator),
                denominator=str(one.denominator),
                result=str(one.result),
                unit=one.unit,
                rule="up" if one.rule == "up" else "half up",
            )
            for one in derived.roundings
        ],
        currency=amount.currency,
        total_excl_vat=format_micros(amount.excl_micros),
        total_incl_vat=format_micros(amount.incl_micros),
        payable=format_minor(
            sign * to_minor(sign * amount.incl_micros, amount.currency), minor_digits(amount.currency)
        ),
    )


def _remark(invoice: Document, related: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    parts = []
    if related["credits"] is not None:
        parts.append(f"credits {related['credits']}")
    if related["superseded_by"] is not None:
        parts.append(f"superseded by {related['superseded_by']}: later readings changed it")
    elif related["credited_by"] is not None:
        parts.append(f"cancelled by {related['credited_by']}")
    elif invoice.kind is InvoiceKind.INVOICE and current["cdr_version"] != invoice.version:
        if current["cdr_status"] == CdrStatus.INVOICED:
            parts.append("later readings changed what was used, and not the amount: what they say is explained")
        else:
            parts.append(f"later readings are in {current['cdr_status']}: until that is settled, this document stands")
    return "; ".join(parts)


def _period(interval: UsageInterval) -> Period:
    stretch = interval.time or interval.energy
    if stretch is None:
        raise ValueError("an interval without a stretch")
    return Period.model_validate(
        {
            "start": from_ms(stretch.start_ms),
            "end": from_ms(stretch.end_ms),
            "kind": interval.time.kind.name if interval.time else None,
            "power_w": format_minor(stretch.power_mw, MILLI_DIGITS),
            "current_a": format_minor(stretch.current_ma, MILLI_DIGITS),
            "energy_kwh": format_minor(interval.energy.energy_mwh if interval.energy else 0, _KWH_DIGITS),
        }
    )


def _left_out(stored: StoredReadings, one: IgnoredReading) -> LeftOut:
    reading = stored.readings[one.index]
    return LeftOut(
        ts=from_ms(reading.ts_ms),
        seq=reading.seq,
        reason=one.reason,
        energy_kwh=None if reading.energy_mwh is None else format_minor(reading.energy_mwh, _KWH_DIGITS),
        power_w=None if reading.power_mw is None else format_minor(reading.power_mw, MILLI_DIGITS),
        flags=names_of(stored.flags[one.index]),
    )
