"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

from api.notifications.kinds import CHANNELS, DEFAULT_MODES, KINDS

_NOW: Final = "2026-03-29T09:00:00Z"
_EDITOR: Final = "operator/6f1d2f0e-8a3f-4f0e-9c1e-2b6f6f1f7d11"
PREFERENCES: Final[dict[str, Any]] = {
    "language": "de",
    "time_zone": "Europe/Berlin",
    "quiet": {"from": "22:00", "until": "07:00"},
    "digest_at": "08:00",
    "addresses": {"email": "driver@example.com", "push": "fcm-registration-token"},
    "modes": {"sessions": {"push": "off", "email": "digest"}},
}
_MODES: Final[dict[str, Any]] = {
    category: {channel: modes.get(channel, "off") for channel in CHANNELS} for category, modes in DEFAULT_MODES.items()
}
STORED_PREFERENCES: Final[dict[str, Any]] = {
    **PREFERENCES,
    "addresses": {**dict.fromkeys(CHANNELS), **PREFERENCES["addresses"]},
    "subject": "driver/D1",
    "effective": {**_MODES, "sessions": {**_MODES["sessions"], "push": "off", "email": "digest"}},
    "gone": {},
    "updated_at": _NOW,
    "updated_by": "driver/D1",
}
SECRET: Final[dict[str, Any]] = {"secret": "whsec_bm90IGEgc2VjcmV0LCBvbmx5IGFuIGV4YW1wbGUu"}  # an example
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
_SOURCE: Final[dict[str, Any]] = {
    "title": "Your receipt {{ number }}",
    "body": "{{ total_micros | money(currency) }}: thank you!",
    "html": None,
}
NEW_TEMPLATE: Final[dict[str, Any]] = {**_SOURCE, "version": 0}
EDITED_TEMPLATE: Final[dict[str, Any]] = {
    **_SOURCE,
    "kind": "invoice",
    "channel": "email",
    "language": "en",
    "source": "edited",
    "version": 1,
    "error": None,
    "variables": dict(KINDS["invoice"].sample),
    "updated_at": _NOW,
    "updated_by": _EDITOR,
}
TEMPLATE: Final[dict[str, Any]] = {
    **EDITED_TEMPLATE,
    "source": "built-in",
    "version": 0,
    "updated_at": None,
    "updated_by": None,
}
TEMPLATES: Final[dict[str, Any]] = {
    "kinds": list(KINDS),
    "channels": list(CHANNELS),
    "built_in_languages": ["en", "de"],
    "edited": [
        {
            "kind": "invoice",
            "channel": "email",
            "language": "en",
            "version": 1,
            "error": None,
            "updated_at": _NOW,
            "updated_by": _EDITOR,
        }
    ],
}
PREVIEW_REQUEST: Final[dict[str, Any]] = {"template": _SOURCE, "variables": {"number": "2026-000043"}}
PREVIEW: Final[dict[str, Any]] = {
    "title": "Your receipt 2026-000043",
    "body": "12.34 EUR: thank you!",
    "html": "<!doctype html>…",
}
