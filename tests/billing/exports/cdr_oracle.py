"""CDRs, document by document: the definition that the export by columns is compared with."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from billing.exports.ocpi import Party
from billing.rating.price import MILLIONTHS, half_up
from kit.clock import format_rfc3339, to_ms

Row = Mapping[str, Any]
MILLIONTH = Decimal("0.000001")
MS_PER_H = 3_600_000
UJ_PER_MWH = 3_600_000
COSTS = {
    "FLAT": "total_fixed_cost",
    "ENERGY": "total_energy_cost",
    "TIME": "total_time_cost",
    "PARKING_TIME": "total_parking_cost",
}
DOCUMENTS = """
SELECT i.*, c.started_at, c.ended_at, c.end_reason, c.estimated, c.connector_id, c.energy_uj, c.consumption,
       c.tariff_version, t.tariff::text AS tariff, t.heard_at,
       (SELECT coalesce(json_agg(l ORDER BY l.line), '[]') FROM billing.invoice_line AS l WHERE l.invoice_id = i.id) AS lines
FROM billing.invoice AS i JOIN billing.cdr AS c ON c.id = i.cdr_id
LEFT JOIN billing.tariff_version AS t ON t.version = c.tariff_version ORDER BY i.year, i.sequence
"""  # noqa: E501  # SQL as it is read


def read(body: bytes) -> list[dict[str, Any]]:
    """A file's CDRs, numbers as they are written."""
    cdrs: list[dict[str, Any]] = json.loads(body, parse_float=Decimal)
    return cdrs


def expected(url: str, party: Party) -> list[dict[str, Any]]:
    """The CDRs of all documents."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return [cdr_of(row, party) for row in connection.execute(DOCUMENTS).fetchall()]


def cdr_of(row: Row, party: Party) -> dict[str, Any]:
    """A document's CDR. Of a Credit CDR only `total_cost` is below 0: the rest is the original's."""
    credit, cdr_id, driver_id = row["kind"] == "credit_note", str(row["cdr_id"]), row["driver_id"]
    tariff = tariff_of(row, party)
    cdr = {
        **party._asdict(),
        "id": f"{cdr_id}-C" if credit else cdr_id,
        "start_date_time": format_rfc3339(row["started_at"]),
        "end_date_time": format_rfc3339(row["ended_at"]),
        "session_id": None if row["session_id"] is None else str(row["session_id"]),
        "cdr_token": token_of(driver_id, party),
        "auth_method": "WHITELIST" if driver_id is None else "COMMAND",
        "cdr_location": location_of(row),
        "currency": row["currency"],
        "tariffs": [] if tariff is None else [tariff],
        "charging_periods": periods_of(row, tariff),
        "total_cost": price(row["total_excl_micros"], row["total_incl_micros"]),
        **totals_of(row, -1 if credit else 1),
        "remark": remark_of(row),
        "invoice_reference_id": row["number"],
        "credit": True if credit else None,
        "credit_reference_id": cdr_id if credit else None,
        "last_updated": format_rfc3339(row["issued_at"]),
    }
    return {name: value for name, value in cdr.items() if value is not None}


def totals_of(row: Row, sign: int) -> dict[str, Any]:
    costs: dict[str, tuple[int, int]] = {}
    parking_ms = 0
    for line in row["lines"]:
        name = COSTS.get(line["dimension"])
        if name is None:  # an adjustment to the least or most price: it is in the total only
            continue
        if row["session_id"] is None:
            name = "total_reservation_cost"
        excl, incl = costs.get(name, (0, 0))
        costs[name] = (excl + sign * line["excl_micros"], incl + sign * line["incl_micros"])
        if line["dimension"] == "PARKING_TIME":
            parking_ms += sign * line["volume"]
    return {
        "total_energy": row["energy_uj"] // UJ_PER_MWH * MILLIONTH,
        "total_time": hours(to_ms(row["ended_at"]) - to_ms(row["started_at"])),
        "total_parking_time": hours(parking_ms) if parking_ms else None,
        **{name: price(excl, incl) for name, (excl, incl) in costs.items()},
    }


def periods_of(row: Row, tariff: Row | None) -> list[dict[str, Any]]:
    """By the moments at which components were first used. The first one begins with the charge."""
    reserved = row["session_id"] is None
    began = format_rfc3339(row["started_at"])
    periods: dict[str, list[dict[str, Any]]] = {began: []}
    for used in sorted(row["consumption"], key=lambda used: used["since"]):
        dimensions = periods.setdefault(max(used["since"], began), [])
        if used["dimension"] == "ENERGY":
            dimensions.append({"type": "ENERGY", "volume": used["volume"] * MILLIONTH})
        elif used["dimension"] != "FLAT":  # which has no dimension in a CDR
            kind = "RESERVATION_TIME" if reserved else used["dimension"]
            dimensions.append({"type": kind, "volume": hours(used["volume"])})
    nothing = {"type": "RESERVATION_TIME" if reserved else "ENERGY", "volume": 0}
    priced = {} if tariff is None else {"tariff_id": tariff["id"]}
    return [
        {"start_date_time": moment, "dimensions": dimensions or [nothing], **priced}
        for moment, dimensions in periods.items()
        if dimensions or moment == began
    ]


def token_of(driver_id: str | None, party: Party) -> dict[str, str]:
    uid = "#NA" if driver_id is None else driver_id
    return {**party._asdict(), "uid": uid, "type": "OTHER" if driver_id is None else "APP_USER", "contract_id": uid}


def location_of(row: Row) -> dict[str, str]:
    connector = "#NA" if row["connector_id"] is None else str(row["connector_id"])
    place = {"id": row["station_id"], "address": "#NA", "city": "#NA", "country": "#NA"}
    return {**place, "evse_uid": row["station_id"], "evse_id": row["station_id"], "connector_id": connector}


def remark_of(row: Row) -> str:
    said = [row["reason"], f"ended: {row['end_reason']}", "estimated" if row["estimated"] else ""]
    return "; ".join(filter(None, said))[:255]


def tariff_of(row: Row, party: Party) -> dict[str, Any] | None:
    """As it was published; what OCPI requires and it had not is filled in."""
    if row["tariff"] is None:
        return None
    published = json.loads(row["tariff"], parse_float=Decimal)
    id_ = str(published.get("id") or row["tariff_version"])
    return {**party._asdict(), "last_updated": format_rfc3339(row["heard_at"]), **published, "id": id_}


def price(excl_micros: int, incl_micros: int) -> dict[str, Decimal]:
    return {"excl_vat": excl_micros * MILLIONTH, "incl_vat": incl_micros * MILLIONTH}


def hours(duration_ms: int) -> Decimal:
    """Rounded half up to the millionth: 3.6 ms."""
    return half_up(duration_ms * MILLIONTHS, MS_PER_H) * MILLIONTH


def unordered(cdrs: Sequence[Row]) -> list[dict[str, Any]]:
    """With the dimensions of a period in one order: they have none."""
    return [
        {
            **cdr,
            "charging_periods": [
                {**period, "dimensions": sorted(period["dimensions"], key=lambda one: (one["type"], one["volume"]))}
                for period in cdr["charging_periods"]
            ],
        }
        for cdr in cdrs
    ]
