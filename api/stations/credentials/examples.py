"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

NEW_CREDENTIALS: Final[dict[str, Any]] = {
    "password": "correct-horse-battery",
    "certificate_subject": "DE-VS-0001",
}
CREDENTIALS: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "has_password": True,
    "certificate_subject": "DE-VS-0001",
    "changed_at": "2026-03-29T09:00:00Z",
    "changed_by": "operator/ops@example.com",
}
