"""OpenAPI documentation of the gateway: request bodies and responses, with an example of each."""

import json
from typing import Any, Final

import msgspec

from ingest.admission import WireReading
from ingest.admission.items import DROPPED_LISTED_MAX, UNKNOWN_LISTED_MAX
from ingest.admission.wire import DETAILS, NUMBER_BOUNDS
from schemas.reading import BAY, BAY_CHARS_MAX, DETAIL_TEXTS, OCCUPIED

DESCRIPTION: Final = """
Takes one reading, an array, NDJSON or an Arrow IPC stream, and answers **202** once every item is durable.

Items are judged one by one. `accepted` counts the readings that passed; each other item is listed in `quarantined`
with its index, a reason code and how to fix it, and is kept in quarantine in its raw form. Sending a reading again is
safe: the same `(station_id, connector_id, boot, seq)`, or `ts` and payload without `seq`, is counted once.

A **field** that cannot be (a sentinel such as a state of charge of 65535 or a register of -1, another type) costs
that field and not the reading: it is listed in `dropped`, and its raw value is kept with the reading. An item is
refused only if its identity cannot be: `station_id`, `connector_id`, `ts`, `boot`, `seq`. A reading of which only its
identity is left is accepted, as one that was sent with nothing else is. Numbers may be strings of digits. Fields that
are not known here are kept with the reading, up to 32 of them and 4 KiB, and named in `unknown_fields`. With
**`strict=true`** an item with any of this is refused.

An item with `bay` and `occupied` is the **event of a parking bay's sensor**: it needs `station_id`, `ts`, `bay` and
`occupied`, and no `connector_id`. It is counted once by these four. A sensor that says the same again may. An event has
no number and measures nothing (`boot`, `seq`, `temperature_c` and their like are `dropped`); from a reading that does
measure something, or of a connector, `bay` and `occupied` are dropped. A bay need not be registered yet.

A charger whose client certificate a trusted proxy passes on needs no token: it posts for its own station.

What is not JSON in one item of an array or one line of NDJSON (`NaN`, half of a surrogate pair, too deep nesting) costs
that item alone. A byte order mark is ignored.

A *single* JSON object that is no valid reading is kept in quarantine too, but answered with **422**.
After a **503** send the whole request again after `Retry-After` seconds: nothing is lost, nothing counts twice.

Arrow columns are named as the JSON fields, in the same units (integers, floats, strings, booleans, timestamps with a
time zone; no dictionaries, no compressed buffers: use Content-Encoding). Columns that are not known here, at most 64,
are kept as fields are; `station_id`, `connector_id`, `ts`, `boot` and `seq` must have their types.
""".strip()

STRICT: Final = (
    "For those who build devices: refuse every reading that has an unknown field, a value that cannot be, or a value "
    "of another type than the schema says."
)

_READING: Final = {
    "station_id": "CP-00042",
    "connector_id": 1,
    "session_id": "S-7781",
    "boot": 3,
    "seq": 1204,
    "ts": "2026-11-22T13:17:47.250Z",
    "energy_wh": 1204331.25,
    "power_w": 11040.5,
    "voltage_v": 231.2,
    "current_a": 15.9,
    "temperature_c": 31.5,
    "soc_pct": 62.5,
    "status": "Charging",
    "session_event": "Updated",
}
_VEHICLE_TO_GRID: Final = {
    "station_id": "CP-00042",
    "connector_id": 1,
    "ts": "2026-11-22T13:18:47.250Z",
    "energy_wh": "1204331.25",
    "energy_export_wh": 2250.5,
    "power_export_w": 5000,
    "voltage_l1_v": 231.2,
    "current_l1_a": -7.2,
    "frequency_hz": 50.01,
    "id_tag": "04E1AB22",
    "fan_rpm": 900,
}
_MINIMAL: Final = {"station_id": "CP-00042", "connector_id": 2, "ts": 1795353467250, "status": "Available"}
_OCCUPIED: Final = {"station_id": "CP-00042", "ts": "2026-11-22T13:17:49.500Z", "bay": "B7", "occupied": True}
_DESCRIPTIONS: Final = {
    "energy_export_wh": "Meter register of exported energy (vehicle to grid), Wh",
    "power_export_w": "Exported power, W; subtracted from power_w, unless that is negative already",
    **{f"power_l{phase}_w": "Of the phase, W; without power_w their sum is the power" for phase in (1, 2, 3)},
    "power_offered_w": "Most that the station offers to the vehicle, W",
    "current_offered_a": "Most that the station offers to the vehicle, A",
    "power_factor": "1 is all active; negative: export",
    "frequency_hz": "Of the mains, Hz",
    "reactive_power_var": "var; negative: export",
    "reactive_energy_varh": "Register of imported reactive energy, varh",
    "reactive_energy_export_varh": "Register of exported reactive energy, varh",
    "error_code": "OCPP errorCode",
    "vendor_error_code": "OCPP vendorErrorCode",
    "stop_reason": "OCPP reason of the end of a transaction",
    "id_tag": "Who charges, as the card or app has it. Personal: it is never logged",
}


def _reading_schema() -> dict[str, Any]:
    """WireReading's schema with the fields that are kept in `extra`, and any others."""
    schema: dict[str, Any] = dict(msgspec.json.schema(WireReading)["$defs"]["WireReading"])
    properties = dict(schema["properties"])
    for name in DETAILS:
        kind: dict[str, Any] = {"maxLength": DETAIL_TEXTS[name]} if name in DETAIL_TEXTS else {}
        if name in NUMBER_BOUNDS:
            kind["minimum"], kind["maximum"] = NUMBER_BOUNDS[name]
        described = _DESCRIPTIONS.get(name, f"Of the phase, {name.rpartition('_')[2].upper()}")
        type_name = "number" if name in NUMBER_BOUNDS else "string"
        properties[name] = {"anyOf": [{"type": type_name, **kind}, {"type": "null"}], "default": None}
        properties[name]["description"] = described
    return schema | {"properties": properties, "additionalProperties": True}


def _bay_schema(reading: dict[str, Any]) -> dict[str, Any]:
    """Of a bay's event, with what it shares with a reading."""
    own = {
        BAY: {"type": "string", "minLength": 1, "maxLength": BAY_CHARS_MAX, "description": "As the station names it"},
        OCCUPIED: {"type": "boolean", "description": "Whether a vehicle stands in it"},
    }
    shared = {name: reading["properties"][name] for name in ("station_id", "ts")}
    title, required = "BayEvent", ["station_id", "ts", BAY, OCCUPIED]
    return {"title": title, "type": "object", "properties": {**shared, **own}, "required": required}


_SCHEMA: Final = _reading_schema()
_ITEM: Final = {"anyOf": [_SCHEMA, _bay_schema(_SCHEMA)]}
_NDJSON: Final = "\n".join(json.dumps(reading) for reading in (_READING, _MINIMAL, _OCCUPIED))

REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"anyOf": [*_ITEM["anyOf"], {"type": "array", "items": _ITEM}]},
            "examples": {
                "one": {"summary": "One reading", "value": _READING},
                "many": {"summary": "Several readings", "value": [_READING, _MINIMAL]},
                "bay": {"summary": "A parking bay's sensor", "value": _OCCUPIED},
                "v2g": {"summary": "Vehicle to grid, with details and an unknown field", "value": _VEHICLE_TO_GRID},
            },
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One reading a line, as in application/json"},
            "examples": {"lines": {"summary": "Three lines", "value": _NDJSON}},
        },
        "application/vnd.apache.arrow.stream": {
            "schema": {"type": "string", "format": "binary", "description": "Arrow IPC stream, columns as the fields"},
            "examples": {
                "stream": {
                    "summary": "An Arrow IPC stream of no rows, from its end-of-stream mark",
                    "externalValue": "https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format",
                }
            },
        },
    },
}

_ACCEPTED_SCHEMA: Final[dict[str, Any]] = {
    "title": "Taken",
    "type": "object",
    "required": ["accepted", "quarantined"],
    "additionalProperties": False,
    "properties": {
        "accepted": {"type": "integer", "minimum": 0, "description": "Readings that passed, durable now"},
        "quarantined": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "reason", "detail"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0, "description": "In the request, from 0"},
                    "reason": {"type": "string", "description": "Code, for programs"},
                    "detail": {"type": "string", "description": "One sentence that says how to fix it"},
                },
            },
        },
        "dropped": {
            "type": "array",
            "maxItems": DROPPED_LISTED_MAX,
            "description": "Fields that cannot be and that accepted readings go without; left out if there are none",
            "items": {
                "type": "object",
                "required": ["index", "field", "reason"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0, "description": "Of the item in the request, from 0"},
                    "field": {"type": "string"},
                    "reason": {"type": "string", "description": "Code, for programs"},
                },
            },
        },
        "dropped_omitted": {
            "type": "integer",
            "minimum": 1,
            "description": "How many more there are than `dropped` lists; left out if it lists all",
        },
        "unknown_fields": {
            "type": "array",
            "maxItems": UNKNOWN_LISTED_MAX,
            "items": {"type": "string"},
            "description": "Names of unknown fields that were kept, each once; left out if there are none",
        },
    },
}
_MISSING_FIELD: Final = {
    "index": 1,
    "reason": "missing_field",
    "detail": "ts is missing; every reading needs station_id, connector_id, ts",
}
_WITH_REMARKS: Final = {
    "accepted": 2,
    "quarantined": [],
    "dropped": [{"index": 1, "field": "soc_pct", "reason": "absurd"}],
    "unknown_fields": ["fan_rpm"],
}


def _problem(status: int, title: str, detail: str, description: str, **more: Any) -> dict[str, Any]:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    document["correlation_id"] = "0f6b1c9a4d5e47a8b2c3d4e5f6a7b8c9"
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": document}
    return {"description": description, "content": {"application/problem+json": content}}


def _with_retry_after(response: dict[str, Any]) -> dict[str, Any]:
    header = {"description": "Seconds to wait before sending the same again", "schema": {"type": "integer"}}
    return {**response, "headers": {"Retry-After": header}}


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "description": "All items are durable, as readings or in quarantine",
        "content": {
            "application/json": {
                "schema": _ACCEPTED_SCHEMA,
                "examples": {
                    "all": {"summary": "All passed", "value": {"accepted": 100, "quarantined": []}},
                    "some": {"summary": "One did not", "value": {"accepted": 1, "quarantined": [_MISSING_FIELD]}},
                    "remarks": {"summary": "A field was dropped, one is unknown", "value": _WITH_REMARKS},
                },
            }
        },
    },
    400: _problem(
        400,
        "Bad Request",
        "the body is not JSON, at byte 17; send an object, an array of objects, or NDJSON",
        "The body cannot be read at all; nothing of it was taken",
        position=17,
    ),
    401: _problem(401, "Unauthorized", "a token is needed: Authorization: Bearer <token>", "No valid token"),
    403: _problem(
        403,
        "Forbidden",
        "this token is not bound to station CP-00042; use the token of that station",
        "A token of the wrong kind, or bound to none of these stations; nothing was taken",
        reason="station_forbidden",
    ),
    413: _problem(
        413,
        "Content Too Large",
        "the body inflates to more than 67108864 bytes; send the readings in smaller batches",
        "Too many bytes, as sent or inflated, or too many readings; nothing was taken",
    ),
    415: _problem(
        415,
        "Unsupported Media Type",
        "this Content-Encoding is not read; send gzip, zstd or identity",
        "A content type or encoding that is not read",
    ),
    422: _problem(
        422,
        "Unprocessable Content",
        "ts is missing; every reading needs station_id, connector_id, ts",
        "The single object is no valid reading and is kept in quarantine; or a query parameter is not understood",
        reason="missing_field",
    ),
    429: _with_retry_after(
        _problem(
            429,
            "Too Many Requests",
            "the bound of 50000 refused items an hour of this token is reached: mend them: ts is missing",
            "The token has sent more than it may: requests, readings, refused items, stations or weeks that are new; "
            "nothing was taken",
            reason="quarantine_limited",
        )
    ),
    503: _with_retry_after(
        _problem(
            503,
            "Service Unavailable",
            "2000 records (134217728 bytes) wait to become durable: the bound is reached",
            "Overloaded, or a broker or database does not answer; send the same again",
        )
    ),
}
