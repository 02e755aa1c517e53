"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

from api.notifications.kinds import CHANNELS, KINDS

_NOW: Final = "2026-03-29T09:00:00Z"
_EDITOR: Final = "operator/6f1d2f0e-8a3f-4f0e-9c1e-2b6f6f1f7d11"
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
