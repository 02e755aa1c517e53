"""From stored documents to answers. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from billing import documents
from billing.currency import format_micros, format_minor
from billing.invoices.models import Charge, Invoice, InvoiceDetail, InvoicePayment, Line
from billing.rating.json_io import format_plain, format_volume
from billing.rating.price import MICRO_DIGITS, UNITS, VAT_DIGITS

UJ_PER_MWH: Final = 3_600_000
MILLI_DIGITS: Final = 3
_QUANTITY_UNITS: Final = {"kWh": "mWh", "h": "ms"}


def invoice_of(invoice: documents.Document) -> Invoice:
    """A document as the API has it."""
    return Invoice(**_invoice(invoice))


def detail_of(
    invoice: documents.Document,
    cdr: Mapping[str, Any],
    lines: Iterable[documents.DocumentLine],
    payments: Iterable[InvoicePayment],
) -> InvoiceDetail:
    """A document, whole. `cdr`: its CDR's columns."""
    return InvoiceDetail(
        **_invoice(invoice),
        lines=[line_of(line) for line in lines],
        charge=Charge(
            cdr_id=invoice.cdr_id,
            energy_kwh=format_minor(cdr["energy_uj"] // UJ_PER_MWH, MICRO_DIGITS),
            **{
                name: cdr[name]
                for name in ("started_at", "ended_at", "end_reason", "connector_id", "device_session_id", "estimated")
            },
            **{name: cdr[name] for name in ("revision", "tariff_version", "time_zone")},
        ),
        payments=list(payments),
    )


def line_of(line: documents.DocumentLine) -> Line:
    """A line as the API has it."""
    unit = UNITS.get(line.dimension)
    return Line.model_validate(
        {
            "dimension": line.dimension,
            "element": line.element,
            "volume": None if unit is None else _volume(line.dimension, line.billed),
            "unit": unit,
            "quantity": None if unit is None else line.billed,
            "quantity_unit": None if unit is None else _QUANTITY_UNITS.get(unit, unit),
            "quantity_added_by_step": None if unit is None else line.billed - line.volume,
            "price": None if line.price_micros is None else format_plain(line.price_micros, MICRO_DIGITS),
            "vat_pct": None if line.vat_ppm is None else format_plain(line.vat_ppm, VAT_DIGITS),
            "amount_excl_vat": format_micros(line.excl_micros),
            "vat": format_micros(line.incl_micros - line.excl_micros),
            "amount_incl_vat": format_micros(line.incl_micros),
        }
    )


def payment_of(row: Mapping[str, Any], minor_digits: int) -> InvoicePayment:
    """A payment as the API has it."""
    names = ("id", "kind", "provider", "status", "error", "created_at", "changed_at")
    return InvoicePayment(amount=format_minor(row["amount_minor"], minor_digits), **{name: row[name] for name in names})


def _volume(dimension: str, volume: int) -> str:
    """Of a credit note it is that of the invoice, below 0."""
    return f"-{format_volume(dimension, -volume)}" if volume < 0 else format_volume(dimension, volume)


def _invoice(invoice: documents.Document) -> dict[str, Any]:
    same = ("id", "number", "kind", "status", "version", "session_id", "reservation_id", "driver_id", "station_id")
    return {
        **{name: getattr(invoice, name) for name in same},
        "currency": invoice.currency,
        "total_excl_vat": format_micros(invoice.total_excl_micros),
        "total_incl_vat": format_micros(invoice.total_incl_micros),
        "payable_excl_vat": format_minor(invoice.payable_excl_minor, invoice.minor_digits),
        "payable": format_minor(invoice.payable_minor, invoice.minor_digits),
        **{name: getattr(invoice, name) for name in ("rounding", "credits", "replaces", "reason", "issued_at")},
    }
