"""Examples of the answers for OpenAPI. Tests hold them to the models."""

from typing import Any, Final

PAGE: Final[dict[str, Any]] = {
    "charges": [
        {
            "cdr_id": "e13894ec-18be-4046-a9e8-4bdfc8e16baf",
            "status": "drift",
            "kind": "session",
            "session_id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
            "reservation_id": None,
            "driver_id": "driver-42",
            "station_id": "DE-VS-0001",
            "started_at": "2026-03-29T07:41:00Z",
            "ended_at": "2026-03-29T09:12:30Z",
            "version": 1,
            "revision": 1,
            "tariff_version": "11111111-1111-4111-8111-111111111111",
            "currency": "EUR",
            "total_excl_vat": "2.163206",
            "total_incl_vat": "2.571279",
            "stream_excl_vat": "2.163207",
            "stream_incl_vat": "2.571279",
            "noted_at": "2026-03-29T09:12:34Z",
        }
    ],
    "next": None,
}
