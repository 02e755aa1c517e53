"""Examples of the answers for OpenAPI. Tests hold them to the models."""

from typing import Any, Final

CHARGE: Final[dict[str, Any]] = {
    "id": "e13894ec-18be-4046-a9e8-4bdfc8e16baf",
    "cdr_id": "e13894ec-18be-4046-a9e8-4bdfc8e16baf",
    "status": "held",
    "reasons": ["register_leapt"],
    "reason": "",
    "kind": "session",
    "session_id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
    "reservation_id": None,
    "driver_id": "driver-42",
    "station_id": "DE-VS-0001",
    "started_at": "2026-03-29T07:41:00Z",
    "ended_at": "2026-03-29T09:12:30Z",
    "energy_wh": "5043.383",
    "version": 1,
    "revision": 1,
    "tariff_version": "11111111-1111-4111-8111-111111111111",
    "currency": "EUR",
    "total_excl_vat": "2.163206",
    "total_incl_vat": "2.571279",
    "stream_excl_vat": "2.163206",
    "stream_incl_vat": "2.571279",
    "noted_at": "2026-03-29T09:12:34Z",
    "due_at": None,
}
PAGE: Final[dict[str, Any]] = {"charges": [CHARGE], "next": None}
DETAIL: Final[dict[str, Any]] = {
    **CHARGE,
    "id": "5b1c7c55-4a7e-4c8b-9a2b-0d2f0a6f3f10",
    "cdr_id": "5b1c7c55-4a7e-4c8b-9a2b-0d2f0a6f3f10",
    "status": "invoiced",
    "reasons": [],
    "version": 2,
    "invoice_id": "4f1c2b7e-9a58-4a53-b1f0-7b0d5f3c6e21",
    "decisions": [
        {
            "id": "0b0f1d0e-6f39-4a52-8a4e-2f6a4f0b9a77",
            "decision": "approve",
            "revision": 1,
            "status_before": "held",
            "reasons_before": ["register_leapt"],
            "who": "finance/jane",
            "why": "meter was read on site",
            "energy_wh": None,
            "started_at": None,
            "ended_at": None,
            "decided_at": "2026-03-30T08:00:00Z",
        }
    ],
}
