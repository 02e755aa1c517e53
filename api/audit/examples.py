"""Examples for the OpenAPI document."""

from typing import Any, Final

PAGE: Final[dict[str, Any]] = {
    "entries": [
        {
            "id": 4711,
            "at": "2026-03-29T09:00:00.120000Z",
            "recorded_at": "2026-03-29T09:00:00.121337Z",
            "action": "setting.changed",
            "actor": "operator/7f4df7a5-5f0b-4b0c-9f6e-3f5f6a2c1b00",
            "role": "operator",
            "token": "stored",
            "token_id": "7f4df7a5-5f0b-4b0c-9f6e-3f5f6a2c1b00",
            "method": "POST",
            "endpoint": "/api/v1/config",
            "status": None,
            "correlation_id": "5d1f0c2ab7be4a0f9a3f9a2c5d1e7b11",
            "address": "192.0.2.10",
            "duration_us": None,
            "requests": 1,
            "entity": "setting/billing.settle_time",
            "before": None,
            "after": {"value": 120},
            "reason": "late readings of the new site",
        }
    ],
    "next": None,
}
