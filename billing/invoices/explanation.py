"""A derivation as the API presents it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from billing.currency import format_micros, format_minor, minor_digits, to_minor
from billing.documents import CdrStatus, Document, InvoiceKind
from billing.invoices.explain import plain_tariff
from billing.invoices.models import ComputedFrom, Explanation, LeftOut, Period, Rounding, Used
from billing.invoices.rendering import MILLI_DIGITS, line_of
from billing.invoicing.derivation import Derived
from billing.rating import IgnoredReading
from billing.rating.usage import Step
from billing.readings_source import StoredReadings
from kit.clock import from_ms, parse_rfc3339
from schemas.quality import names_of

PERIODS_MAX: Final = 10_000  # ~200 B each: 2 MB; nearly three hours of a reading a second
LEFT_OUT_MAX: Final = 10_000
_KWH_DIGITS: Final = 6


def explanation_of(
    invoice: Document,
    cdr: Mapping[str, Any],
    stored: StoredReadings,
    derived: Derived,
    differences: Sequence[str],
    *,
    computed_from: ComputedFrom,
    kin: Mapping[str, Any],
    current: Mapping[str, Any],
) -> Explanation:
    """`cdr`: the explained one's columns and its tariff's; `derived`: with the document's sign; `kin`: see the store;
    `current`: the newest CDR of the same subject."""
    steps = derived.usage.steps
    amount = derived.amount
    sign = -1 if amount.incl_micros < 0 else 1
    return Explanation(
        invoice_id=invoice.id,
        number=invoice.number,
        kind=invoice.kind,
        status=invoice.status,
        remark=_remark(invoice, kin, current),
        credits=kin["credits"],
        credited_by=kin["credited_by"],
        superseded_by=kin["superseded_by"],
        version=cdr["cdr_version"],
        computed_from=computed_from,
        agrees=not differences,
        differences=list(differences),
        tariff_version=cdr["tariff_version"],
        tariff=plain_tariff(cdr),
        time_zone=cdr["time_zone"],
        readings=len(stored.readings),
        periods=[_period(step) for step in steps[:PERIODS_MAX]],
        periods_left_out=max(len(steps) - PERIODS_MAX, 0),
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


def _remark(invoice: Document, kin: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    parts = []
    if kin["credits"] is not None:
        parts.append(f"credits {kin['credits']}")
    if kin["superseded_by"] is not None:
        parts.append(f"superseded by {kin['superseded_by']}: later readings changed it")
    elif kin["credited_by"] is not None:
        parts.append(f"cancelled by {kin['credited_by']}")
    elif invoice.kind is InvoiceKind.INVOICE and current["cdr_version"] != invoice.version:
        if current["cdr_status"] == CdrStatus.INVOICED:
            parts.append("later readings changed what was used, and not the amount: what they say is explained")
        else:
            parts.append(f"later readings are in {current['cdr_status']}: until that is settled, this document stands")
    return "; ".join(parts)


def _period(step: Step) -> Period:
    stretch = step.time or step.energy
    if stretch is None:
        raise ValueError("a step without a stretch")
    return Period.model_validate(
        {
            "start": from_ms(stretch.start_ms),
            "end": from_ms(stretch.end_ms),
            "kind": step.time.kind.name if step.time else None,
            "power_w": format_minor(stretch.power_mw, MILLI_DIGITS),
            "current_a": format_minor(stretch.current_ma, MILLI_DIGITS),
            "energy_kwh": format_minor(step.energy.energy_mwh if step.energy else 0, _KWH_DIGITS),
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
