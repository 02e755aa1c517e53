"""The stored values of a CDR, as rating takes them. Pure."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from billing.invoicing.amounts import zone_of
from billing.invoicing.tariffs import parse_tariff
from schemas.events import Consumption
from schemas.tariff import Tariff

_COUNTS: Final = ("step_size", "min_duration", "max_duration")  # of a tariff, what is no amount: Wh or s, s, s


def tariff_of(cdr: Mapping[str, Any]) -> tuple[Tariff, ZoneInfo]:
    """The tariff and the zone that a CDR was priced by. Raises BadEvent."""
    return parse_tariff(cdr["tariff"]), zone_of(cdr["time_zone"])


def stream_consumption(cdr: Mapping[str, Any]) -> tuple[Consumption, ...]:
    """The consumption that the stream computed."""
    return msgspec.json.decode(cdr["consumption"], type=tuple[Consumption, ...])


def plain_tariff(cdr: Mapping[str, Any]) -> dict[str, object]:
    """The tariff's document, amounts and limits as decimal text, whole or not; seconds and steps stay integers."""
    document: dict[str, object] = json.loads(cdr["tariff"], parse_float=Decimal, object_hook=_plain_numbers)
    return document


def _plain_numbers(members: dict[str, object]) -> dict[str, object]:
    return {name: _plain(value) if name not in _COUNTS else value for name, value in members.items()}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if type(value) is int else value
