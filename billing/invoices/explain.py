"""Which CDR explains a document, and that CDR's stored values as rating takes them. Pure."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from billing.documents import VALID, CdrStatus, Document, InvoiceKind
from billing.invoicing.amounts import zone_of
from billing.invoicing.tariffs import parse_tariff
from schemas.events import Consumption
from schemas.tariff import Tariff

_COUNTS: Final = ("step_size", "min_duration", "max_duration")  # of a tariff, what is no amount: Wh or s, s, s


def explaining_cdr(
    own: Mapping[str, Any], current: Mapping[str, Any] | None, document: Document
) -> Mapping[str, Any] | None:
    """The CDR that follows from the readings as they are now, if the document is to agree with it; None: the readings
    give a newer CDR, and the document agrees with its own. `own`, `current`: of the document, of its subject."""
    if own["cdr_current"] or current is None:
        return own
    valid = document.kind is InvoiceKind.INVOICE and document.status in VALID
    return current if valid and current["cdr_status"] == CdrStatus.INVOICED else None


def tariff_of(cdr: Mapping[str, Any]) -> tuple[Tariff, ZoneInfo]:
    """The tariff and the zone that a CDR was priced by. Raises BadEvent."""
    return parse_tariff(cdr["tariff"]), zone_of(cdr["time_zone"])


def stored_consumption(cdr: Mapping[str, Any]) -> tuple[Consumption, ...]:
    """The consumption by the stream."""
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
