"""Reads tariffs and usages from JSON exactly, and writes the rated result as JSON."""

import json
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from billing.currency import format_micros, format_minor, minor_digits, to_minor
from billing.rating.errors import BadDocument
from billing.rating.price import (
    MICRO_DIGITS,
    MILLIONTHS,
    VAT_DIGITS,
    VOLUME_PER_UNIT,
    Adjustment,
    PriceLine,
    RatedUsage,
    half_up,
)
from kit.spelling import nearest_name
from schemas.tariff import Dimension

_MESSAGES: Final = {"model_type": "must be an object: {...}", "missing": "is missing"}

_Model = TypeVar("_Model", bound=BaseModel)


def read_document(model: type[_Model], text: str | bytes) -> _Model:
    """A document of this model. Raises BadDocument with the path of the first mistake, and how to fix it."""
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise BadDocument("is nested too deeply") from None
    except ValueError as error:  # also of bytes that are no text
        raise BadDocument(f"is not JSON: {error}") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BadDocument(_first_mistake(error, model)) from None


def rated_document(rated: RatedUsage) -> dict[str, Any]:
    """Amounts are decimal strings of whole micro-units; the one to pay is of whole coins, as invoices are. Hours are
    rounded to six digits; `quantity` is exact."""
    return {
        "currency": rated.currency,
        "total_excl_vat": format_micros(rated.total_excl_micros),
        "total_incl_vat": format_micros(rated.total_incl_micros),
        "payable": format_payable(rated),
        "lines": [_line(line) for line in rated.lines] + [_adjustment(one) for one in rated.adjustments],
    }


def format_payable(rated: RatedUsage) -> str:
    """What is to be paid, incl. VAT, rounded half up to the currency's smallest coin: `6.24`, `66`."""
    return format_minor(to_minor(rated.total_incl_micros, rated.currency), minor_digits(rated.currency))


def format_volume(dimension: str, volume: int) -> str:
    """kWh or h with six digits; a number for FLAT."""
    if dimension == Dimension.FLAT:
        return str(volume)
    return format_minor(half_up(volume * MILLIONTHS, VOLUME_PER_UNIT[dimension]), MICRO_DIGITS)


def format_plain(value: int, digits: int) -> str:
    """A whole number of 10**digits-th parts, without zeros at the end: `0.25`, `10`."""
    text = format_minor(value, digits)
    return text.rstrip("0").rstrip(".") if digits else text


def _line(line: PriceLine) -> dict[str, Any]:
    vat_pct = None if line.vat_millionths is None else format_plain(line.vat_millionths, VAT_DIGITS)
    return {
        "dimension": str(line.dimension),
        "element": line.element,
        "volume": format_volume(line.dimension, line.volume),
        "unit": line.unit,
        "quantity": line.volume,
        "quantity_unit": {"kWh": "mWh", "h": "ms"}.get(line.unit, line.unit),
        "quantity_added_by_step": line.added,
        "price": format_plain(line.price_micros, MICRO_DIGITS),
        "amount_excl_vat": format_micros(line.amount_excl_micros),
        "vat_pct": vat_pct,
        "vat": format_micros(line.vat_micros),
    }


def _adjustment(adjustment: Adjustment) -> dict[str, Any]:
    nothing = ("element", "volume", "unit", "quantity", "quantity_unit", "quantity_added_by_step", "price", "vat_pct")
    return {
        "dimension": adjustment.bound,
        **dict.fromkeys(nothing),
        "amount_excl_vat": format_micros(adjustment.amount_excl_micros),
        "vat": format_micros(adjustment.vat_micros),
    }


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice in one object")
    return document


def _first_mistake(error: ValidationError, model: type[BaseModel]) -> str:
    found = error.errors(include_url=False, include_context=False)
    # The most misleading first: a field that is misspelt is often missing as well.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if first["type"] == "extra_forbidden":
        near = nearest_name(str(first["loc"][-1]), _field_names(model))
        return f"{path}: there is no such field" + (f"; did you mean {near}?" if near else "") + more
    message = _MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{path}: {message}{more}" if path else f"{message}{more}"


def _field_names(model: type[BaseModel]) -> set[str]:
    """Of the model and of those inside it."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}
