"""OCPI 2.2.1 CDRs (module CDRs) of documents: an invoice is a CDR, a credit note a Credit CDR of the same one.

Numbers are JSON numbers, exact: sums of the CDRs are sums of the documents. The parts of a charge are listed where each
component of the tariff was first used, with all that was used of it; components that take turns are not told apart by
turn. What nobody told voltstream is `#NA`, as OCPI has it for texts; of a location's position and of the connector's
kind, for which there is no such word, nothing is said.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from billing.documents import InvoiceKind
from billing.exports.store import Output, Snapshot
from billing.rating.price import MILLIONTHS, half_up
from kit.clock import format_rfc3339
from schemas.events import Consumption
from schemas.tariff import Dimension

NOT_AVAILABLE: Final = "#NA"
TARIFFS_MAX: Final = 1_000  # remembered while an export runs, ~2 kB each; and those of one more batch

MS_PER_H: Final = 3_600_000
REMARK_CHARS_MAX: Final = 255  # OCPI's bound

_MILLIONTH: Final = Decimal("0.000001")  # a mWh in kWh, a micro-unit in the currency's unit
_UJ_PER_MWH: Final = 3_600_000
_RESERVATION_TIME: Final = "RESERVATION_TIME"
_COSTS: Final[dict[str, str]] = {
    Dimension.FLAT: "total_fixed_cost",
    Dimension.ENERGY: "total_energy_cost",
    Dimension.TIME: "total_time_cost",
    Dimension.PARKING_TIME: "total_parking_cost",
}

_encoder: Final = msgspec.json.Encoder(decimal_format="number")
_decode_consumption: Final = msgspec.json.Decoder(list[Consumption]).decode
_decode_lines: Final = msgspec.json.Decoder(list[tuple[str, int, int, int]]).decode


class Party(NamedTuple):
    """Who the CDRs are of."""

    country_code: str  # ISO 3166-1 alpha-2
    party_id: str  # of eMI3


class Tariff(NamedTuple):
    """A tariff as CDRs list it."""

    id: str
    document: msgspec.Raw


async def write_cdrs(books: Snapshot, party: Party, output: Output) -> None:
    """A JSON array of CDRs, in the order of the documents' numbers."""
    tariffs: dict[UUID, Tariff] = {}
    before = b"[\n"
    async for rows in books.cdr_rows():
        if len(tariffs) > TARIFFS_MAX:
            tariffs.clear()
        for version, heard_at in {(row["tariff_version"], row["tariff_heard_at"]) for row in rows}:
            if version is not None and version not in tariffs:
                tariffs[version] = _tariff(version, await books.tariff(version), party, heard_at)
        cdrs = [_encoder.encode(cdr_of(row, party, tariffs.get(row["tariff_version"]))) for row in rows]
        await output(before + b",\n".join(cdrs))
        before = b",\n"
    await output(b"[]\n" if before == b"[\n" else b"\n]\n")


def cdr_of(row: Mapping[str, Any], party: Party, tariff: Tariff | None) -> dict[str, Any]:
    """A document's CDR. Of a Credit CDR only `total_cost` is below 0: the rest is the original's."""
    credit = row["kind"] == InvoiceKind.CREDIT_NOTE
    sign = -1 if credit else 1
    lines = _decode_lines(row["lines"]) if row["lines"] else []
    cdr = {
        **party._asdict(),
        "id": f"{row['cdr_id']}-C" if credit else row["cdr_id"],
        "start_date_time": row["started_at"],
        "end_date_time": row["ended_at"],
        "session_id": row["session_id"],
        "cdr_token": _token(row["driver_id"], party),
        # A driver known by name asked for the session; nobody was asked about one who only plugged in.
        "auth_method": "WHITELIST" if row["driver_id"] is None else "COMMAND",
        "cdr_location": _location(row),
        "currency": row["currency"],
        "tariffs": [] if tariff is None else [tariff.document],
        "charging_periods": _periods(row, tariff),
        "total_cost": _price(row["total_excl_micros"], row["total_incl_micros"]),
        **_totals(row, lines, sign),
        "remark": _remark(row),
        "invoice_reference_id": row["number"],
        "credit": True if credit else None,
        "credit_reference_id": row["cdr_id"] if credit else None,
        "last_updated": row["issued_at"],
    }
    return {name: value for name, value in cdr.items() if value is not None}


def _totals(row: Mapping[str, Any], lines: Sequence[tuple[str, int, int, int]], sign: int) -> dict[str, Any]:
    costs: dict[str, tuple[int, int]] = {}
    parking_ms = 0
    for dimension, excl_micros, incl_micros, volume in lines:
        name = _COSTS.get(dimension)
        if name is None:  # an adjustment to the least or most price: it is in the total only
            continue
        if row["session_id"] is None:
            name = "total_reservation_cost"
        excl, incl = costs.get(name, (0, 0))
        costs[name] = (excl + sign * excl_micros, incl + sign * incl_micros)
        if dimension == Dimension.PARKING_TIME:
            parking_ms += sign * volume
    return {
        "total_energy": Decimal(row["energy_uj"] // _UJ_PER_MWH) * _MILLIONTH,
        "total_time": _hours(row["duration_ms"]),
        "total_parking_time": _hours(parking_ms) if parking_ms else None,
        **{name: _price(excl, incl) for name, (excl, incl) in costs.items()},
    }


def _periods(row: Mapping[str, Any], tariff: Tariff | None) -> list[dict[str, Any]]:
    """By the moments at which components were first used. The first one begins with the charge."""
    reserved = row["session_id"] is None
    began: str = row["started_at"]
    periods: dict[str, list[dict[str, Any]]] = {began: []}
    for used in sorted(_decode_consumption(row["consumption"]), key=lambda used: used.since):
        dimensions = periods.setdefault(max(used.since, began), [])
        if used.dimension == Dimension.ENERGY:
            dimensions.append({"type": used.dimension, "volume": Decimal(used.volume) * _MILLIONTH})
        elif used.dimension != Dimension.FLAT:  # which has no dimension in a CDR
            kind = _RESERVATION_TIME if reserved else used.dimension
            dimensions.append({"type": kind, "volume": _hours(used.volume)})
    nothing = {"type": _RESERVATION_TIME if reserved else str(Dimension.ENERGY), "volume": 0}
    priced = {} if tariff is None else {"tariff_id": tariff.id}
    return [
        {"start_date_time": moment, "dimensions": dimensions or [nothing], **priced}
        for moment, dimensions in periods.items()
        if dimensions or moment == began
    ]


def _token(driver_id: str | None, party: Party) -> dict[str, str]:
    uid = NOT_AVAILABLE if driver_id is None else driver_id
    return {**party._asdict(), "uid": uid, "type": "OTHER" if driver_id is None else "APP_USER", "contract_id": uid}


def _location(row: Mapping[str, Any]) -> dict[str, str]:
    connector = NOT_AVAILABLE if row["connector_id"] is None else str(row["connector_id"])
    place = {"id": row["station_id"], "address": NOT_AVAILABLE, "city": NOT_AVAILABLE, "country": NOT_AVAILABLE}
    return {**place, "evse_uid": row["station_id"], "evse_id": row["station_id"], "connector_id": connector}


def _remark(row: Mapping[str, Any]) -> str:
    said = [row["reason"], f"ended: {row['end_reason']}", "estimated" if row["estimated"] else ""]
    return "; ".join(filter(None, said))[:REMARK_CHARS_MAX]


def _price(excl_micros: int, incl_micros: int) -> dict[str, Decimal]:
    return {"excl_vat": Decimal(excl_micros) * _MILLIONTH, "incl_vat": Decimal(incl_micros) * _MILLIONTH}


def _hours(duration_ms: int) -> Decimal:
    """Rounded half up to the millionth: 3.6 ms."""
    return Decimal(half_up(duration_ms * MILLIONTHS, MS_PER_H)) * _MILLIONTH


def _tariff(version: UUID, text: str, party: Party, heard_at: datetime) -> Tariff:
    """As it was published; what OCPI requires and it had not is filled in."""
    published = json.loads(text, parse_float=Decimal)
    id_ = str(published.get("id") or version)
    filled = {**party._asdict(), "id": id_, "last_updated": format_rfc3339(heard_at)}
    return Tariff(id_, msgspec.Raw(_encoder.encode({**filled, **published, "id": id_})))
