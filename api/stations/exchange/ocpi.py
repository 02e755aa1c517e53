"""Stations as Locations of OCPI 2.2.1 (module Locations), one Location a station. Pure.

What OCPI requires and is not known keeps a station or a connector out of the file: nothing is made up. What OCPI has no
room for (site, group, organisation, bays, site power, the main meter) stays as it is when a file is read; what a
Location says and a station has no room for is named (`not_taken`).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from api.stations.exchange.connector_numbers import Plug, numbers_of
from api.stations.exchange.models import Wanted, check_id, upper_id
from api.stations.registry.models import EVSE_ID, Connector, Station, StationDocument, StationFacts
from api.stations.status.codes import CODES
from kit.clock import format_rfc3339
from kit.validation import explain_error
from schemas.reading import MAIN_METER

# OCPI Status of each of ours; anything else is UNKNOWN.
_IN_USE: Final = ("Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing")
_STATUSES: Final = {CODES[name]: "CHARGING" for name in _IN_USE} | {
    CODES["Available"]: "AVAILABLE",
    CODES["Reserved"]: "RESERVED",
    CODES["Unavailable"]: "INOPERATIVE",
    CODES["Faulted"]: "OUTOFORDER",
}
_PRECEDENCE: Final = ("CHARGING", "RESERVED", "AVAILABLE", "OUTOFORDER", "INOPERATIVE", "UNKNOWN")
_SAME: Final = (
    *("operator", "suboperator", "owner", "parking_type", "charging_when_closed", "images", "directions"),
    *("related_locations", "energy_mix", "publish_allowed_to"),
)
_MORE: Final = ("name", "address", "city", "postal_code", "country", "time_zone", "facilities")
_NEEDED: Final = ("address", "city", "country", "latitude", "longitude", "time_zone")
_PLUG_NEEDED: Final = ("standard", "format", "power_type", "voltage_v_max", "current_a_max", "evse_id")
_END: Final = "24:00"
_REASON_CHARS_MAX: Final = 200
# What is kept, and what an export says anew; of anything else the import says that it is not kept.
_KEPT: Final = {*_MORE, *_SAME, "coordinates", "opening_times", "evses"}
_OURS: Final = {"country_code", "party_id", "id", "publish", "last_updated"}
_OF_EVSES: Final = {"uid", "evse_id", "status", "connectors", "parking_restrictions", "last_updated"}
_OF_CONNECTORS: Final = {"id", "standard", "format", "power_type", "max_voltage", "max_amperage"} | {
    *("max_electric_power", "tariff_ids", "last_updated"),
}
_NOT_TAKEN_MAX: Final = 20
_NAME_CHARS_MAX: Final = 64


def fits(connector: Connector) -> bool:
    """Whether OCPI can say all that it has to of the connector."""
    return connector.connector_id != MAIN_METER and all(getattr(connector, name) is not None for name in _PLUG_NEEDED)


def location(station: Station, statuses: Mapping[int, int]) -> dict[str, Any] | None:
    """The Location; None: facts are missing. `statuses`: numbers of statuses, by connectors."""
    connectors = [one for one in station.connectors if fits(one)]
    if not connectors or any(getattr(station, name) is None for name in _NEEDED):
        return None
    evse_id = (connectors[0].evse_id or "").replace("*", "")
    facts = station.model_dump(mode="json", exclude_none=True)
    found: dict[str, Any] = {
        "country_code": evse_id[:2],
        "party_id": evse_id[2:5],
        "id": station.station_id,
        "publish": True,
        **{name: facts[name] for name in (*_MORE, *_SAME) if name in facts and facts[name] != []},
        "coordinates": {"latitude": facts["latitude"], "longitude": facts["longitude"]},
        "evses": [
            _evse(station, list(plugs), statuses)
            for _, plugs in itertools.groupby(sorted(connectors, key=_by_evse), key=lambda one: one.evse_id)
        ],
        "last_updated": format_rfc3339(station.changed_at),
    }
    if station.opening_hours is not None:
        found["opening_times"] = _ends(facts["opening_hours"], _END, "00:00")
    return found


def read(document: Any, known: Mapping[str, Station]) -> list[Wanted]:
    """The stations of a list of Locations, or of OCPI's response with one. Raises ValueError."""
    return [_wanted(number, one, known) for number, one in enumerate(locations_of(document), 1)]


def locations_of(document: Any) -> list[Any]:
    """The list of Locations. Raises ValueError."""
    found = document.get("data") if isinstance(document, dict) else document
    if not isinstance(found, list):
        raise ValueError("write a list of OCPI Locations, or OCPI's response with one as `data`")
    return found


def station_id_of(one: Any) -> str:
    """The id of a Location; empty where it has none."""
    found = one.get("id") if isinstance(one, dict) else None
    return upper_id(found) if isinstance(found, str) else ""


def _wanted(number: int, one: Any, known: Mapping[str, Station]) -> Wanted:
    station_id = station_id_of(one)
    try:
        check_id("id", station_id)
    except ValueError as error:
        return Wanted(number, station_id, None, str(error))
    try:
        if one.get("publish") is False:
            raise ValueError("publish: is false, and all stations here are published: leave the Location out")
        if one.get("publish") not in (None, True):
            raise ValueError("publish: write true, or leave it out")
        document = StationDocument.model_validate(_document(one, known.get(station_id)))
        return Wanted(number, station_id, document, not_taken=_not_taken(one))
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"]))
        says = explain_error(first, StationDocument)
        return Wanted(number, station_id, None, f"{place}: {says}" if place else says)
    except ValueError as error:
        return Wanted(number, station_id, None, str(error)[:_REASON_CHARS_MAX])


def _document(one: Mapping[str, Any], known: Station | None) -> dict[str, Any]:
    said = {*_MORE, *_SAME, "latitude", "longitude", "opening_hours"}
    facts = {} if known is None else known.model_dump(include=set(StationFacts.model_fields) - said)
    facts |= {name: one[name] for name in (*_MORE, *_SAME) if one.get(name) is not None}
    coordinates = one.get("coordinates")
    if coordinates is not None:
        facts |= {name: _object(coordinates, "coordinates").get(name) for name in ("latitude", "longitude")}
    if one.get("opening_times") is not None:
        facts["opening_hours"] = _ends(_known_hours(_object(one["opening_times"], "opening_times")), "00:00", _END)
    plugs, found = _connectors(_list(one, "evses", ""))
    before = [] if known is None else known.connectors
    numbers = numbers_of(plugs, before)
    kept = [plug for plug in before if not fits(plug) and plug.connector_id not in numbers]
    facts["connectors"] = [
        *(plug.model_dump(exclude={"station_id", "changed_at"}) for plug in kept),
        *({**plug, "connector_id": number} for plug, number in zip(found, numbers, strict=True)),
    ]
    return facts


def _not_taken(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields with a value that are not kept, by their names."""
    evses = one.get("evses") or []
    plugs = [
        plug for evse in evses for plug in (evse.get("connectors") or [] if evse.get("status") != "REMOVED" else [])
    ]
    levels = (("", [one], _KEPT | _OURS), ("evses/", evses, _OF_EVSES), ("evses/connectors/", plugs, _OF_CONNECTORS))
    found = {
        f"{above}{name[:_NAME_CHARS_MAX]}": None
        for above, objects, taken in levels
        for of in objects
        if isinstance(of, dict)
        for name, value in of.items()
        if name not in taken and value not in (None, [], "")
    }
    return tuple(found)[:_NOT_TAKEN_MAX]


def _connectors(evses: Sequence[Any]) -> tuple[list[Plug], list[dict[str, Any]]]:
    """The connectors of EVSEs that are not removed, and the facts of each. Raises ValueError."""
    plugs, found = [], []
    for place, evse in enumerate(evses):
        at = f"evses/{place}"
        if _object(evse, at).get("status") == "REMOVED":
            continue
        evse_id = _evse_id(evse)
        for number, plug in enumerate(_list(evse, "connectors", at)):
            id_ = _object(plug, f"{at}/connectors/{number}").get("id")
            if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
                raise ValueError(f'{at}/connectors/{number}/id: write the connector\'s id, like "1"')
            kind = {name: plug.get(name) for name in ("standard", "format", "power_type")}
            plugs.append(Plug(place, evse_id, str(id_), (kind["standard"], kind["format"], kind["power_type"])))
            found.append(
                {
                    **kind,
                    "evse_id": evse_id if evse_id is not None else evse.get("evse_id"),
                    "voltage_v_max": plug.get("max_voltage"),
                    "current_a_max": plug.get("max_amperage"),
                    "rated_power_w": plug.get("max_electric_power"),
                    "tariff_ids": plug.get("tariff_ids") or [],
                }
            )
    return plugs, found


def _evse_id(evse: Mapping[str, Any]) -> str | None:
    """Its EVSE id; without one its uid, where that is written as an EVSE id is."""
    evse_id, uid = evse.get("evse_id"), evse.get("uid")
    if isinstance(evse_id, str):
        return evse_id.upper()
    return uid.upper() if evse_id is None and isinstance(uid, str) and EVSE_ID.fullmatch(uid.upper()) else None


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: write a JSON object, as OCPI 2.2.1 has it")
    return value


def _list(of: Mapping[str, Any], name: str, place: str) -> list[Any]:
    found = of.get(name)
    if found is not None and not isinstance(found, list):
        raise ValueError(f"{f'{place}/{name}'.lstrip('/')}: write a list, as OCPI 2.2.1 has it")
    return found or []


def _evse(station: Station, plugs: list[Connector], statuses: Mapping[int, int]) -> dict[str, Any]:
    numbers = {one.connector_id for one in plugs}
    shown = {_STATUSES.get(statuses.get(number, 0), "UNKNOWN") for number in numbers}
    restrictions = {one for bay in station.bays if numbers & set(bay.connectors) for one in bay.restrictions}
    return {
        "uid": plugs[0].evse_id,
        "evse_id": plugs[0].evse_id,
        "status": next(one for one in _PRECEDENCE if one in shown),
        "connectors": [_connector(one) for one in plugs],
        **({"parking_restrictions": sorted(restrictions)} if restrictions else {}),
        "last_updated": _last(one.changed_at for one in plugs),
    }


def _connector(plug: Connector) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": str(plug.connector_id),
        "standard": plug.standard,
        "format": plug.format,
        "power_type": plug.power_type,
        "max_voltage": plug.voltage_v_max,
        "max_amperage": plug.current_a_max,
    }
    if plug.rated_power_w is not None:
        found["max_electric_power"] = plug.rated_power_w
    if plug.tariff_ids:
        found["tariff_ids"] = plug.tariff_ids
    return {**found, "last_updated": format_rfc3339(plug.changed_at)}


def _known_hours(hours: Mapping[str, Any]) -> dict[str, Any]:
    names = ("twentyfourseven", "regular_hours", "exceptional_openings", "exceptional_closings")
    return {name: hours[name] for name in names if hours.get(name) is not None}


def _ends(hours: Mapping[str, Any], before: str, after: str) -> dict[str, Any]:
    """With the end of the day written the other way: OCPI has no 24:00."""
    regular = []
    for number, one in enumerate(_list(hours, "regular_hours", "opening_times")):
        ends = _object(one, f"opening_times/regular_hours/{number}").get("period_end")
        regular.append({**one, "period_end": after if ends == before else ends})
    return {**hours, "regular_hours": regular}


def _by_evse(plug: Connector) -> tuple[str, int]:
    return plug.evse_id or "", plug.connector_id


def _last(moments: Iterable[datetime]) -> str:
    return format_rfc3339(max(moments))
