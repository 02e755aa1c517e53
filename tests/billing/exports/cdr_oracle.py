"""CDRs, document by document: the definition that the export by columns is compared with."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import psycopg
from psycopg.rows import dict_row

from billing.exports.ocpi import Party
from billing.rating.price import MILLIONTHS, half_up
from kit.clock import format_rfc3339, to_ms

Row = Mapping[str, Any]
MILLIONTH = Decimal("0.000001")
MS_PER_H = 3_600_000
DRIVERS = UUID("5d0b1c52-8a0e-4d0b-9d0f-3c5a6b1e7f21")
EVSES = UUID("0b2f3c0e-0d5c-4ad5-9d43-1f0c6a9a55e7")
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


@dataclass(frozen=True)
class Expected:
    """What an export has to hold."""

    cdrs: list[dict[str, Any]]
    left_out: dict[str, list[str]]  # number -> what is missing


def expected(url: str, party: Party) -> Expected:
    """The CDRs of all documents, and those that have none."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        registry: dict[str, dict[str, Any]] = {}
        for row in connection.execute("SELECT * FROM stations.station"):
            registry[row["station_id"]] = {**row, "connectors": {}}
        for row in connection.execute("SELECT * FROM stations.connector ORDER BY connector_id"):
            registry[row["station_id"]]["connectors"][row["connector_id"]] = row
        found = Expected([], {})
        for row in connection.execute(DOCUMENTS).fetchall():
            missing = missing_of(row, registry)
            if missing:
                found.left_out[row["number"]] = missing
            else:
                found.cdrs.append(cdr_of(row, registry[row["station_id"]], party))
        return found


def connector_of(row: Row, station: Row) -> Row | None:
    """The charge's connector; of a reservation that names none, the station's first."""
    named: Row | None = station["connectors"].get(row["connector_id"])
    if row["connector_id"] is None and row["session_id"] is None:
        return next((one for number, one in station["connectors"].items() if number > 0), None)
    return named


def missing_of(row: Row, registry: Mapping[str, Row]) -> list[str]:
    """What a CdrLocation has to have and the registry has not."""
    station = registry.get(row["station_id"])
    if station is None:
        return ["station"]
    missing = []
    if not row["station_id"] or not row["station_id"].isascii() or not row["station_id"].isprintable():
        missing.append("station_id")
    missing += [name for name in ("address", "city", "country") if station[name] is None]
    missing += ["coordinates"] if station["latitude_udeg"] is None else []
    connector = connector_of(row, station)
    if connector is None:
        return [*missing, "connector"]
    needed = ["standard", "format", "power_type"] + (["evse_id"] if row["connector_id"] is not None else [])
    return missing + [name for name in needed if connector[name] is None]


def cdr_of(row: Row, station: Row, party: Party) -> dict[str, Any]:
    """A document's CDR. Of a Credit CDR only `total_cost` is below 0: the rest is the original's."""
    credit, cdr_id, driver_id = row["kind"] == "credit_note", str(row["cdr_id"]), row["driver_id"]
    tariff = tariff_of(row, party)
    cdr = {
        **party._asdict(),
        "id": f"{cdr_id}-C" if credit else cdr_id,
        "start_date_time": format_rfc3339(row["started_at"]),
        "end_date_time": format_rfc3339(row["ended_at"]),
        "session_id": None if row["session_id"] is None else str(row["session_id"]),
        "cdr_token": token_of(row, party),
        "auth_method": "WHITELIST" if driver_id is None else "COMMAND",
        "cdr_location": location_of(row, station),
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


def token_of(row: Row, party: Party) -> dict[str, str]:
    driver_id = row["driver_id"]
    if driver_id is None:
        uid, kind = str(row["session_id"] or row["cdr_id"]), "AD_HOC_USER"
    else:
        fits = re.fullmatch(r"[ -~]{1,36}", driver_id) and driver_id != "#NA"
        uid, kind = driver_id if fits else str(uuid5(DRIVERS, driver_id)), "APP_USER"
    return {**party._asdict(), "uid": uid, "type": kind, "contract_id": uid}


def location_of(row: Row, station: Row) -> dict[str, Any]:
    connector = connector_of(row, station)
    assert connector is not None
    known = row["connector_id"] is not None
    evse_id = connector["evse_id"] if known else "#NA"
    place = {
        "id": row["station_id"],
        **{name: station[name] for name in ("name", "address", "city", "postal_code", "country")},
        "coordinates": {axis: f"{station[f'{axis}_udeg'] * MILLIONTH:.6f}" for axis in ("latitude", "longitude")},
        "evse_uid": evse_id if len(evse_id) <= 36 else str(uuid5(EVSES, evse_id)),
        "evse_id": evse_id,
        "connector_id": str(row["connector_id"]) if known else "#NA",
        "connector_standard": connector["standard"],
        "connector_format": connector["format"],
        "connector_power_type": connector["power_type"],
    }
    return {name: value for name, value in place.items() if value is not None}


def remark_of(row: Row) -> str:
    said = [row["reason"], f"ended: {row['end_reason']}", "estimated" if row["estimated"] else ""]
    return printed("; ".join(filter(None, said))[:255])


def printed(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def tariff_of(row: Row, party: Party) -> dict[str, Any] | None:
    """As it was published, moments in UTC; what OCPI requires and it had not is filled in, what it has no value for is
    left out."""
    if row["tariff"] is None:
        return None
    published = json.loads(row["tariff"], parse_float=Decimal)
    tariff = {**party._asdict(), **{name: value for name, value in published.items() if value is not None}}
    tariff["id"] = published.get("id") or str(row["tariff_version"])
    for name in ("start_date_time", "end_date_time", "last_updated"):
        if name in tariff:
            tariff[name] = format_rfc3339(datetime.fromisoformat(tariff[name]))
    tariff.setdefault("last_updated", format_rfc3339(row["heard_at"]))
    if "\t" in tariff.get("tariff_alt_url", ""):
        del tariff["tariff_alt_url"]
    for text in tariff.get("tariff_alt_text", []):
        text["text"] = printed(text["text"])
    mix = tariff.pop("energy_mix", None)
    if mix is not None and not any(one["source"] == "TIDES" for one in mix.get("energy_sources", [])):
        named = {name: printed(value) for name, value in mix.items() if isinstance(value, str)}
        tariff["energy_mix"] = {name: value for name, value in {**mix, **named}.items() if value is not None}
    return tariff


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
