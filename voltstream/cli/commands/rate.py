"""`voltstream rate`."""

from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel
from rich.table import Table

from api.pricing.documents.idle_elements import idle_elements
from billing.currency import format_micros
from billing.rating import ComponentUsage, RatedUsage, RatingError, rate_visit
from billing.rating.json_io import format_payable, format_plain, format_volume, rated_document, read_document
from billing.rating.local_time import local_text
from billing.rating.periods import WrittenUsage, usages_of
from billing.rating.price import MICRO_DIGITS, UNITS, VAT_DIGITS
from schemas.tariff import Tariff
from voltstream.cli.options import AsJson
from voltstream.cli.output import make_table, print_json, print_line, print_note, print_table
from voltstream.errors import WrongUsage

_BYTES_MAX = 16_000_000  # of a file; 10,000 periods are 1 MB
_SHOWN_DIGITS = 9  # of a value before it was rounded

_Model = TypeVar("_Model", bound=BaseModel)


def rate(
    tariff: Annotated[Path, typer.Option(metavar="TARIFF.json", help="an OCPI 2.2.1 Tariff", show_default=False)],
    usage: Annotated[Path, typer.Option(metavar="USAGE.json", help="start, time_zone, periods", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Price a session by a tariff, offline, and explain the price.

    USAGE is {"start": "2026-01-31T09:00:00+01:00", "time_zone": "Europe/Amsterdam", "periods": [{"kind": "CHARGING",
    "minutes": 60, "energy_kwh": "20", "current_a": null, "power_w": null}]}. Kinds are CHARGING, PARKING, RESERVATION
    and RESERVATION_EXPIRED; a start without an offset is local time. What of the tariff can never count is said.
    """
    agreed, written = _read(Tariff, tariff), _read(WrittenUsage, usage)
    for warning in idle_elements(agreed):
        print_note(f"{tariff}: {warning}")
    used, total = rate_visit(agreed, written.zone, *usages_of(written))
    if as_json:
        print_json(rated_document(total))
        return
    for table in (_periods(written), _consumption(written, used), _lines(total), _roundings(total)):
        if table.row_count:
            print_table(table)
            print_line("")
    print_line(_totals(total))


def _read(model: type[_Model], path: Path) -> _Model:
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise WrongUsage(f"{path}: is longer than {_BYTES_MAX} bytes")
        return read_document(model, path.read_bytes())
    except OSError as error:
        raise WrongUsage(f"{path}: cannot be read: {error.strerror}") from None
    except RatingError as error:
        raise WrongUsage(f"{path}: {error}") from None


def _periods(written: WrittenUsage) -> Table:
    table = make_table("Begins", "Kind", ">min", ">kWh", ">W", ">A", title=f"Periods, {written.time_zone}")
    for period, start_ms in zip(written.periods, written.starts_ms, strict=False):
        table.add_row(
            local_text(start_ms, written.zone),
            period.kind,
            format(period.minutes.normalize(), "f"),
            format_plain(period.energy_mwh, 6),
            format_plain(period.power_mw, 3),
            format_plain(period.current_ma, 3),
        )
    return table


def _consumption(written: WrittenUsage, used: list[ComponentUsage]) -> Table:
    table = make_table("Element", "Dimension", "Since", ">Used", "", title="Consumption")
    for one in used:
        volume, unit = format_volume(one.dimension, one.volume), UNITS[one.dimension]
        table.add_row(str(one.element), one.dimension, local_text(one.since_ms, written.zone), volume, unit)
    return table


def _lines(rated: RatedUsage) -> Table:
    table = make_table("Element", "Dimension", ">Billed", ">Price", ">excl. VAT", ">VAT %", ">VAT", title="Lines")
    for line in rated.lines:
        table.add_row(
            str(line.element),
            line.dimension,
            format_volume(line.dimension, line.volume),
            f"{format_plain(line.price_micros, MICRO_DIGITS)}/{line.unit}",
            format_micros(line.amount_excl_micros),
            "" if line.vat_millionths is None else format_plain(line.vat_millionths, VAT_DIGITS),
            format_micros(line.vat_micros),
        )
    for one in rated.adjustments:
        table.add_row("", one.bound, "", "", format_micros(one.amount_excl_micros), "", format_micros(one.vat_micros))
    return table


def _roundings(rated: RatedUsage) -> Table:
    table = make_table("Value", ">From", ">To", "", title="Roundings")
    for one in rated.roundings:
        shown = one.numerator * 10**_SHOWN_DIGITS // one.denominator
        table.add_row(one.what, format_plain(shown, _SHOWN_DIGITS), str(one.result), f"{one.unit}, {one.rule}")
    return table


def _totals(rated: RatedUsage) -> str:
    currency = rated.currency
    return (
        f"Total {format_micros(rated.total_excl_micros)} {currency} excl. VAT, "
        f"{format_micros(rated.total_incl_micros)} {currency} incl. VAT\n"
        f"To pay: {format_payable(rated)} {currency}"
    )
