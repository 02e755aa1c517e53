"""The places of charges as OCPI's CdrLocation, once for each connector. Pure."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import pyarrow as pa
import pyarrow.compute as pc

from billing.exports.export_batches import DocumentBatch
from kit.columnar_json import Texts, concatenate, json_of

NOT_AVAILABLE: Final = "#NA"  # OCPI allows it for a reservation that became no session
_UDEG_DIGITS: Final = 6
_SEPARATOR: Final = "|"
_EVSE_UID_CHARS_MAX: Final = 36
_NAMESPACE: Final = UUID("0b2f3c0e-0d5c-4ad5-9d43-1f0c6a9a55e7")


class Place(NamedTuple):
    """Where a charge was. A reservation may be of a station, without a connector."""

    station_id: str
    connector_id: int | None
    reserved: bool  # it is a reservation's, and no session's


def places(documents: DocumentBatch) -> Any:
    """Of each document, its place as a key for `place_of`: a pyarrow.DictionaryArray."""
    connector = pc.fill_null(documents.texts("connector_id"), "")
    reserved = pc.if_else(pa.array(documents.missing("session_id")), "R", "S")
    return concatenate((reserved, connector, _SEPARATOR, documents.texts("station_id"))).dictionary_encode()


def place_of(key: str) -> Place:
    """The place of a key."""
    kind_and_connector, _, station_id = key.partition(_SEPARATOR)
    connector = kind_and_connector[1:]
    return Place(station_id, int(connector) if connector else None, kind_and_connector[0] == "R")


def location_json(place: Place, facts: Mapping[str, Any]) -> str:
    """The CdrLocation of a place that lacks no fact; `facts` as the store reads them."""
    evse_id = facts["evse_id"] if place.connector_id is not None else NOT_AVAILABLE
    location = {
        "id": place.station_id,
        "name": facts["name"],
        "address": facts["address"],
        "city": facts["city"],
        "postal_code": facts["postal_code"],
        "country": facts["country"],
        "coordinates": {
            "latitude": _degrees(facts["latitude_udeg"]),
            "longitude": _degrees(facts["longitude_udeg"]),
        },
        "evse_uid": evse_id if len(evse_id) <= _EVSE_UID_CHARS_MAX else str(uuid5(_NAMESPACE, evse_id)),
        "evse_id": evse_id,
        "connector_id": NOT_AVAILABLE if place.connector_id is None else str(place.connector_id),
        "connector_standard": facts["standard"],
        "connector_format": facts["format"],
        "connector_power_type": facts["power_type"],
    }
    return json_of({name: value for name, value in location.items() if value is not None})


def locations_of(texts: list[str | None], places: Any) -> Texts:
    """Of each document its location: null where a fact is missing. `texts`: of the dictionary of `places`."""
    return pa.DictionaryArray.from_arrays(places.indices, pa.array(texts, pa.string()))


def _degrees(udeg: int) -> str:
    """With six decimals: the whole text of a latitude fits OCPI's ten characters."""
    digits = f"{abs(udeg):0{_UDEG_DIGITS + 1}d}"
    return f"{'-' if udeg < 0 else ''}{digits[:-_UDEG_DIGITS]}.{digits[-_UDEG_DIGITS:]}"
