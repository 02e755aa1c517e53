"""Examples for the OpenAPI document."""

from typing import Any, Final

EXPORT: Final[dict[str, Any]] = {
    "subject": "driver-42",
    "exported_at": "2026-03-29T09:00:00Z",
    "data": [
        {
            "service": "reservations",
            "kind": "reservations",
            "summary": "reservations of connectors and bays",
            "records": [
                {
                    "id": "7b1d3c9e-6a52-4f6e-9d55-0e5a4c1f2b77",
                    "driver_id": "driver-42",
                    "station_id": "DE-VS-0001",
                    "connector_id": 1,
                    "starts_at": "2026-03-28T17:00:00+00:00",
                    "ends_at": "2026-03-28T18:00:00+00:00",
                    "state": "used",
                }
            ],
        }
    ],
}
ERASURE: Final[dict[str, Any]] = {
    "subject": "driver-42",
    "erased_at": "2026-03-29T09:00:00Z",
    "erased": [
        {"kind": "reservations", "summary": "reservations of connectors and bays", "records": 1},
        {"kind": "tokens", "summary": "access tokens, of which only hashes are stored", "records": 2},
    ],
    "kept": [
        {
            "kind": "documents",
            "summary": "invoices and credit notes, with the charges that they rest on, buyers and payments",
            "reason": "the law on taxes wants documents, and what they rest on, kept as they were issued",
            "until": "2037-01-01",
        }
    ],
}
