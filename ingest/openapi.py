"""OpenAPI documentation of the gateway: request bodies and responses, with an example of each."""

import json
from typing import Any, Final

import msgspec

from ingest.admission import WireReading

DESCRIPTION: Final = """
Takes one reading, an array, NDJSON or an Arrow IPC stream, and answers **202** once every item is durable.

Items are judged one by one. `accepted` counts the readings that passed; each other item is listed in `quarantined`
with its index, a reason code and how to fix it, and is kept in quarantine in its raw form. Sending a reading again is
safe: the same `(station_id, connector_id, boot, seq)`, or `ts` without `seq`, is counted once.

A *single* JSON object that is no valid reading is kept in quarantine too, but answered with **422**.
After a **503** send the whole request again after `Retry-After` seconds: nothing is lost, nothing counts twice.

Arrow columns are named as the JSON fields, in the same units (integers, floats, strings, timestamps with a time zone;
no dictionaries, no compressed buffers: use Content-Encoding).
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
_MINIMAL: Final = {"station_id": "CP-00042", "connector_id": 2, "ts": 1795353467250, "status": "Available"}
_SCHEMA: Final[dict[str, Any]] = msgspec.json.schema(WireReading)["$defs"]["WireReading"]
_NDJSON: Final = "\n".join(json.dumps(reading) for reading in (_READING, _MINIMAL))

REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"oneOf": [_SCHEMA, {"type": "array", "items": _SCHEMA}]},
            "examples": {
                "one": {"summary": "One reading", "value": _READING},
                "many": {"summary": "Several readings", "value": [_READING, _MINIMAL]},
            },
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One reading a line, as in application/json"},
            "examples": {"lines": {"summary": "Two lines", "value": _NDJSON}},
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
    },
}
_UNKNOWN_FIELD: Final = {
    "index": 1,
    "reason": "unknown_field",
    "detail": "unknown field energy_kwh; send energy_wh in watt-hours",
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
                    "some": {"summary": "One did not", "value": {"accepted": 1, "quarantined": [_UNKNOWN_FIELD]}},
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
        "unknown field energy_kwh; send energy_wh in watt-hours",
        "The single object is no valid reading; it is kept in quarantine",
        reason="unknown_field",
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
