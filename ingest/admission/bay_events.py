"""Events of parking bays' sensors among the items of a request (docs/adr/0020). Pure.

An item with `bay` and `occupied` that measures nothing is one: a reading of the station itself, connector 0. Its
identity is the station, the bay, the moment and what it says, so that a station's sensors need no common numbers.
"""

from collections.abc import Mapping
from typing import Final

from ingest.admission.wire import KNOWN_FIELDS, Fault, kind_of, unknown_field
from schemas.reading import BAY, BAY_CHARS_MAX, MAIN_METER, OCCUPIED

BAY_FIELDS: Final = frozenset({BAY, OCCUPIED})
APART: Final = "bay_apart"  # why the two are dropped from a reading that measures something
NOT_OF_BAY: Final = "not_of_bay"  # why another field is dropped from an event
# What only a meter or a connector says. A reading with one of them is none of a bay, which no watt-hour may cost.
_METERED: Final = frozenset(
    {
        *("energy_wh", "energy_export_wh", "power_w", "power_export_w", "power_l1_w", "power_l2_w", "power_l3_w"),
        *("session_id", "session_event", "status"),
    }
)
_OWN: Final = frozenset({"station_id", "connector_id", "ts"})
_REQUIRED: Final = ("station_id", "ts")
# Columns that an event does without: it has no number of its own, and a sensor's temperature is not the station's.
OTHER_COLUMNS: Final = ("boot", "seq", "voltage_v", "current_a", "temperature_c", "soc_pct")
_TRUTH: Final = {"true": True, "false": False}


def names_bay(fields: Mapping[str, object]) -> bool:
    """Whether an item says of a bay whether it is occupied."""
    return fields.get(BAY) is not None and fields.get(OCCUPIED) is not None


def is_bay_event(fields: Mapping[str, object]) -> bool:
    """Whether an item is a bay's event and no reading."""
    if not names_bay(fields):
        return False
    connector = fields.get("connector_id")
    of_station = connector is None or connector == str(MAIN_METER)
    of_station = of_station or (type(connector) is int and connector == MAIN_METER)
    return of_station and all(fields.get(name) is None for name in _METERED)


def occupied_of(value: object) -> bool | None:
    """What the field says; None: it is no truth value."""
    if isinstance(value, str):
        return _TRUTH.get(value.strip(" ").lower())
    return value if isinstance(value, bool) else None


def event_fault(fields: Mapping[str, object]) -> Fault | None:
    """The fault of an event: of what it needs, without the values of `station_id` and `ts`."""
    for name in _REQUIRED:
        if fields.get(name) is None:
            return Fault("missing_field", f"{name} is missing; a bay's event needs station_id, ts, bay and occupied")
    bay, occupied = fields[BAY], fields[OCCUPIED]
    if not isinstance(bay, str):
        return Fault("wrong_type", f"bay must be a string, this is {kind_of(bay)}")
    if not (1 <= len(bay) <= BAY_CHARS_MAX and bay.isprintable() and bay == bay.strip()):
        return Fault(
            "bay_invalid",
            f"bay must be 1 to {BAY_CHARS_MAX} printable characters without spaces at its ends, as registered",
        )
    if occupied_of(occupied) is None:
        return Fault("wrong_type", f"occupied must be true or false, this is {kind_of(occupied)}")
    return None


def strict_fault(fields: Mapping[str, object]) -> Fault | None:
    """By the letter: other fields and other types are faults."""
    for name, value in fields.items():
        if name in _OWN or name in BAY_FIELDS:
            continue
        if name not in KNOWN_FIELDS:
            return unknown_field(name)
        if value is not None:
            return Fault(NOT_OF_BAY, f"{name} is not of a bay: send a bay's event and the reading apart")
    if isinstance(fields[OCCUPIED], str):
        return Fault("wrong_type", "occupied must be true or false, this is a string")
    return event_fault(fields)
