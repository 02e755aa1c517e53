"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

_NOW: Final = "2026-03-29T09:00:00Z"
_DELIVERY: Final[dict[str, Any]] = {
    "id": "0f8b1c7e-6a0c-5b57-8f5e-50f7c1f6a001",
    "channel": "email",
    "state": "queued",
    "reason": None,
    "title": "Maintenance",
    "text": "On Sunday night the site is closed.",
    "attempts": 0,
    "digest": False,
    "due_at": _NOW,
    "finished_at": None,
}
_NOTIFICATION: Final[dict[str, Any]] = {
    "id": "5f0c9b4e-8f7c-5d56-9b44-0a63a4a6a3a1",
    "kind": "announcement",
    "category": "announcements",
    "created_at": _NOW,
    "deliveries": [_DELIVERY],
}
PAGE: Final[dict[str, Any]] = {"notifications": [_NOTIFICATION], "next": None}
ANNOUNCEMENT: Final[dict[str, Any]] = {
    "subjects": ["driver/D1"],
    "title": "Maintenance",
    "text": "On Sunday night the site is closed.",
}
ANNOUNCED: Final[dict[str, Any]] = {"notifications": {"driver/D1": _NOTIFICATION}}
_COUNTS: Final[dict[str, Any]] = {"queued": 1, "sent": 0, "failed": 0, "suppressed": 1, "waiting": 0}
DELIVERIES: Final[dict[str, Any]] = {
    "counts": {**_COUNTS, "by_channel": {"push": _COUNTS}, "suppressed_by_reason": {"no address": 1}},
    "deliveries": [
        {
            "id": _DELIVERY["id"],
            "notification_id": _NOTIFICATION["id"],
            "event_id": "9a0c9b4e-8f7c-4d56-9b44-0a63a4a6a3a1",
            "kind": "session_started",
            "subject": "driver/D1",
            "channel": "push",
            "state": "suppressed",
            "reason": "no address",
            "attempts": 0,
            "digest_id": None,
            "created_at": _NOW,
            "due_at": None,
            "finished_at": _NOW,
        }
    ],
    "next": None,
}
