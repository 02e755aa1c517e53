"""Tariff documents: which can be published, how they are stored, and the first tariff. Pure."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from kit.instants import EARLIEST, LATEST
from kit.web.json_body import DIGITS_MAX, stays_small
from schemas.currency import CURRENCIES
from schemas.tariff import Price, Tariff

DEFAULT_TIME_ZONE: Final = "Europe/Amsterdam"

_encoder: Final = msgspec.json.Encoder(decimal_format="number")


def document_of(tariff: Tariff) -> bytes:
    """The tariff as JSON without the fields that were not given; numbers keep their digits."""
    return _encoder.encode(tariff.model_dump(exclude_unset=True, exclude_none=True))


def checked_tariff(tariff: Tariff) -> Tariff:
    """The tariff. Raises ValueError, with the path, where it contradicts itself or cannot be stored."""
    moments = {"start_date_time": tariff.start_date_time, "end_date_time": tariff.end_date_time}
    for name, moment in moments.items():
        if moment is not None and not EARLIEST <= moment < LATEST:
            raise ValueError(f"{name} is outside the years 1970 to 2199")
    if tariff.start_date_time and tariff.end_date_time and tariff.start_date_time >= tariff.end_date_time:
        raise ValueError("end_date_time is not after start_date_time: it would never apply")
    if tariff.currency not in CURRENCIES:
        raise ValueError(f"currency: ISO 4217 has no {tariff.currency} to pay in; write one like EUR")
    _check_bounds(tariff.min_price, tariff.max_price)
    for path, value in _leaves(tariff.model_dump(), ""):
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{path} has a NUL character, which no text may have")
        if isinstance(value, Decimal) and not stays_small(value):
            raise ValueError(f"{path} has more than {DIGITS_MAX} digits")
    return tariff


def _check_bounds(low: Price | None, high: Price | None) -> None:
    if low is None or high is None:
        return
    for name in ("excl_vat", "incl_vat"):
        least, most = getattr(low, name), getattr(high, name)
        if least is not None and most is not None and least > most:
            raise ValueError(f"max_price/{name} is below min_price/{name}, {least}: raise the one or lower the other")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        children: Iterator[tuple[object, Any]] = iter(value.items())
    elif isinstance(value, list):
        children = iter(enumerate(value))
    else:
        yield path, value
        return
    for name, child in children:
        yield from _leaves(child, f"{path}/{name}".lstrip("/"))


def default_tariff(now: datetime) -> Tariff:
    """Energy by day and by night, and parking from the time by which most vehicles have finished charging."""
    day_and_night = [
        {
            "price_components": [_component("ENERGY", "0.29", 1)],
            "restrictions": {"start_time": "21:00", "end_time": "07:00"},
        },
        {"price_components": [_component("PARKING_TIME", "6.00", 60)], "restrictions": {"min_duration": 4 * 3_600}},
        {"price_components": [_component("ENERGY", "0.39", 1)]},
    ]
    return Tariff.model_validate(
        {
            "country_code": "NL",
            "party_id": "VOL",
            "id": "DEFAULT",
            "currency": "EUR",
            "type": "REGULAR",
            "elements": day_and_night,
            "last_updated": now,
        }
    )


def _component(dimension: str, price: str, step_size: int) -> dict[str, object]:
    return {"type": dimension, "price": Decimal(price), "vat": Decimal(21), "step_size": step_size}
