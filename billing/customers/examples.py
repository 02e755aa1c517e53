"""Examples of the answers for OpenAPI. Tests hold them to the models."""

from typing import Any, Final

NEW_CUSTOMER: Final[dict[str, Any]] = {
    "name": "Hafenlogistik GmbH",
    "address": {
        "lines": ["Sandtorkai 1", "Abteilung Fuhrpark"],
        "postal_code": "20457",
        "city": "Hamburg",
        "country": "DE",
    },
    "tax_id": "DE123456789",
    "email": "invoices@example.org",
    "reference": "cost centre 4711",
    "electronic_address": {"scheme": "9930", "id": "DE123456789"},
    "driver_ids": ["driver-42", "driver-43"],
    "billing": "monthly",
    "time_zone": "Europe/Berlin",
    "payment_days": 30,
    "payment_terms": None,
}
CUSTOMER: Final[dict[str, Any]] = {
    **NEW_CUSTOMER,
    "id": "9b2de8a4-8d7e-4c0c-8d61-52d0c6b7a1f3",
    "version": 1,
    "created_at": "2026-03-01T08:00:00Z",
    "changed_at": "2026-03-01T08:00:00Z",
}
PAGE: Final[dict[str, Any]] = {"customers": [CUSTOMER], "next": None}
