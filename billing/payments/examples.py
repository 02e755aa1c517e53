"""Examples of the answers for OpenAPI. Tests hold them to the models."""

from typing import Any, Final

PAYMENT: Final[dict[str, Any]] = {
    "id": "9b1f7a52-4c0e-5d2f-8a36-2d1c0b9a8f7e",
    "invoice_id": "4f1c2b7e-9a58-4a53-b1f0-7b0d5f3c6e21",
    "kind": "charge",
    "provider": "stripe",
    "reference": "pi_3PxVolt2eZvKYlo2C1a2b3c4",
    "status": "pending",
    "currency": "EUR",
    "amount": "7.77",
    "error": "",
    "created_at": "2026-03-29T09:20:00Z",
    "changed_at": "2026-03-29T09:20:00Z",
}
DETAIL: Final[dict[str, Any]] = {**PAYMENT, "client_secret": "pi_3PxVolt2eZvKYlo2C1a2b3c4_secret_x"}
WEBHOOK_RESULT: Final[dict[str, Any]] = {"outcome": "applied"}
MESSAGE: Final[dict[str, Any]] = {
    "payment_id": "9b1f7a52-4c0e-5d2f-8a36-2d1c0b9a8f7e",
    "status": "succeeded",
    "note": "bank statement 17, page 2",
}
