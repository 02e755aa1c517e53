"""A reading as devices send it (WireReading), and the reasons and texts for items that are not one."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ingest.admission.field_names import meant_field
from schemas.identifiers import is_ci_string
from schemas.reading import (
    CONNECTOR_ID_MAX,
    DETAIL_QUANTITIES,
    DETAIL_TEXTS,
    ENERGY_EXPORT,
    QUANTITIES,
    SEQ_MAX,
    SESSION_EVENT_NAMES,
    SESSION_ID_CHARS_MAX,
    STATION_ID_CHARS_MAX,
    STATUS_NAMES,
)

EPOCH_MS_MAX: Final = SEQ_MAX  # an integer that every JSON parser keeps exactly; the valid range is far inside

# A Literal must be spelled out; a test compares them with STATUS_NAMES and SESSION_EVENT_NAMES.
StatusName = Literal[
    "Available",
    "Preparing",
    "Charging",
    "SuspendedEVSE",
    "SuspendedEV",
    "Finishing",
    "Reserved",
    "Unavailable",
    "Faulted",
]
SessionEventName = Literal["Started", "Updated", "Ended"]
_PRINTABLE: Final = {"pattern": "^[ -~]*$"}  # for the OpenAPI only: a pattern in Meta would run in Python
Counter = Annotated[int, Meta(ge=0, le=SEQ_MAX)]


def _bounds(name: str, description: str) -> Meta:
    _, _, lowest, highest = QUANTITIES[name]
    return Meta(ge=lowest, le=highest, description=description)


class WireReading(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """What a charger says of one connector at one moment, in the units people use.

    Decoding checks names, types and bounds; what is left to check is the characters of the ids, and `ts`.
    """

    station_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=STATION_ID_CHARS_MAX,
            description="OCPI CiString: printable ASCII, compared without case",
            extra_json_schema=_PRINTABLE,
        ),
    ]
    connector_id: Annotated[
        int, Meta(ge=0, le=CONNECTOR_ID_MAX, description="OCPP number; 0 is the charge point itself")
    ]
    ts: Annotated[
        Annotated[int, Meta(ge=-EPOCH_MS_MAX, le=EPOCH_MS_MAX)] | str,
        Meta(description="Event time: RFC 3339 with an offset or Z, or Unix epoch milliseconds"),
    ]
    session_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=SESSION_ID_CHARS_MAX, extra_json_schema=_PRINTABLE)] | None,
        Meta(description="The device's name of the charging session"),
    ] = None
    boot: Annotated[Counter | None, Meta(description="Counts the device's restarts; `seq` starts anew with each")] = (
        None
    )
    seq: Annotated[Counter | None, Meta(description="Counts the connector's readings; a re-send keeps its number")] = (
        None
    )
    energy_wh: Annotated[float, _bounds("energy_wh", "Meter register, Wh")] | None = None
    power_w: Annotated[float, _bounds("power_w", "W; negative: vehicle to grid")] | None = None
    voltage_v: Annotated[float, _bounds("voltage_v", "V")] | None = None
    current_a: Annotated[float, _bounds("current_a", "A")] | None = None
    temperature_c: Annotated[float, _bounds("temperature_c", "°C")] | None = None
    soc_pct: Annotated[float, _bounds("soc_pct", "State of charge, %")] | None = None
    status: StatusName | None = None
    session_event: SessionEventName | None = None


class DetailedReading(WireReading, gc=False, kw_only=True):
    """A reading with more than WireReading's fields, or without one that could not be. Made by `items.interpret`."""

    energy_export_mwh: int | None = None
    extra: str | None = None  # compact JSON object, sorted keys


FIELDS: Final = WireReading.__struct_fields__
DETAILS: Final = ("energy_export_wh", *DETAIL_QUANTITIES, *DETAIL_TEXTS)
KNOWN_FIELDS: Final = frozenset((*FIELDS, *DETAILS))
REQUIRED: Final = ("station_id", "connector_id", "ts")
IDENTITY: Final = frozenset({*REQUIRED, "boot", "seq"})  # where one of them cannot be, the reading is refused
# By field: the highest integer, the longest text, the codes of its names, the lowest and highest number.
INTEGER_MAX: Final = {"connector_id": CONNECTOR_ID_MAX, "boot": SEQ_MAX, "seq": SEQ_MAX}
TEXT_CHARS_MAX: Final = {"station_id": STATION_ID_CHARS_MAX, "session_id": SESSION_ID_CHARS_MAX}
NAME_CODES: Final[Mapping[str, Mapping[str, int]]] = {"status": STATUS_NAMES, "session_event": SESSION_EVENT_NAMES}
NUMBER_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    **{name: (lowest, highest) for name, (_, _, lowest, highest) in QUANTITIES.items()},
    "energy_export_wh": ENERGY_EXPORT[2:],
    **DETAIL_QUANTITIES,
}
_HINTS: Final = {
    "energy_kwh": "send energy_wh in watt-hours",
    "energy_mwh": "send energy_wh in watt-hours",
    "energy": "send energy_wh in watt-hours",
    "power_kw": "send power_w in watts",
    "power_mw": "send power_w in watts",
    "power": "send power_w in watts",
    "voltage_kv": "send voltage_v in volts",
    "voltage_mv": "send voltage_v in volts",
    "voltage": "send voltage_v in volts",
    "current_ma": "send current_a in amperes",
    "current": "send current_a in amperes",
    "temperature_f": "send temperature_c in degrees Celsius",
    "temperature_k": "send temperature_c in degrees Celsius",
    "temperature": "send temperature_c in degrees Celsius",
    "soc": "send soc_pct in percent",
    "timestamp": "send ts, RFC 3339 or epoch milliseconds",
    "time": "send ts, RFC 3339 or epoch milliseconds",
    "ts_ms": "send ts, RFC 3339 or epoch milliseconds",
}


TS_INVALID: Final = "ts is no time; send RFC 3339 such as 2026-11-22T13:17:47.250Z, or epoch milliseconds"


class Fault(NamedTuple):
    """Why an item is refused: a code for programs, and one sentence for people that says what to do."""

    reason: str
    detail: str


def unknown_field(name: str) -> Fault:
    """The fault of an unknown field, with the name that was probably meant."""
    hint = _HINTS.get(name.lower())
    if hint is None:
        near = meant_field(name, (*FIELDS, *DETAILS))
        hint = f"did you mean {near}?" if near else f"known fields are {', '.join((*FIELDS, *DETAILS))}"
    return Fault("unknown_field", f"unknown field {ascii(name[:64])[1:-1]}; {hint}")


def text_fault(name: str, text: str) -> Fault | None:
    """A station id or session id is a CiString: printable ASCII, of bounded length (NUL would break the database)."""
    highest = TEXT_CHARS_MAX[name]
    if is_ci_string(text, highest):
        return None
    return Fault(f"{name}_invalid", f"{name} must be 1 to {highest} printable ASCII characters")


def shape_fault(item: object) -> Fault | None:
    """The first fault of a decoded JSON value as a reading, by the letter: unknown fields and other types are faults.

    The range of `ts` and the token's stations are not checked.
    """
    if not isinstance(item, Mapping):
        return not_an_object(item)
    for name in item:
        if name not in KNOWN_FIELDS:
            return unknown_field(str(name))
    fault = missing_fault(item)
    if fault is not None:
        return fault
    for name, value in item.items():
        fault = None if value is None else value_fault(name, value)
        if fault is not None:
            return fault
    return None


def not_an_object(item: object) -> Fault:
    """The fault of a value that is no JSON object."""
    return Fault("not_an_object", f"a reading must be an object, this is {kind_of(item)}")


def missing_fault(item: Mapping[str, object]) -> Fault | None:
    """The fault of a reading without one of the fields that every reading needs."""
    for name in REQUIRED:
        if item.get(name) is None:
            return Fault("missing_field", f"{name} is missing; every reading needs {', '.join(REQUIRED)}")
    return None


def value_fault(name: str, value: object) -> Fault | None:
    """The fault of the value of a known field."""
    if name in NUMBER_BOUNDS:
        return _number_fault(name, value)
    if name in INTEGER_MAX:
        return _integer_fault(name, value, INTEGER_MAX[name])
    if name == "ts":
        if isinstance(value, str):
            return Fault("ts_invalid", TS_INVALID) if value.isdigit() else None
        if isinstance(value, float):
            return Fault("ts_invalid", "ts as a number must be a whole number of epoch milliseconds, without a point")
        return _integer_fault(name, value, EPOCH_MS_MAX, -EPOCH_MS_MAX)
    if not isinstance(value, str):
        return Fault("wrong_type", f"{name} must be a string, this is {kind_of(value)}")
    if name in TEXT_CHARS_MAX:
        return text_fault(name, value)
    if name in DETAIL_TEXTS:
        return _detail_text_fault(name, value)
    if value in NAME_CODES[name]:
        return None
    return Fault(f"{name}_unknown", f"unknown {name} {value[:64]!a}; send one of {', '.join(NAME_CODES[name])}")


def _integer_fault(name: str, value: object, highest: int, lowest: int = 0) -> Fault | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return Fault("wrong_type", f"{name} must be an integer, this is {kind_of(value)}")
    if lowest <= value <= highest:
        return None
    return Fault("out_of_range", f"{name} must be {lowest} to {highest}")


def _number_fault(name: str, value: object) -> Fault | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Fault("wrong_type", f"{name} must be a number, this is {kind_of(value)}")
    lowest, highest = NUMBER_BOUNDS[name]
    if value != value or value in (float("inf"), float("-inf")):
        return Fault("not_finite", f"{name} is not a finite number; leave it out where there is none")
    if lowest <= value <= highest:
        return None
    return Fault("absurd", f"{name} must be {lowest:.0f} to {highest:.0f}; check its unit")


def _detail_text_fault(name: str, text: str) -> Fault | None:
    highest = DETAIL_TEXTS[name]
    if len(text) <= highest and text.isprintable():
        return None
    return Fault("text_invalid", f"{name} must be at most {highest} printable characters")


def kind_of(value: object) -> str:
    """The JSON type of a decoded value, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
