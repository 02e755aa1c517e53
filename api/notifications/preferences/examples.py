"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

from api.notifications.kinds import CHANNELS, DEFAULT_MODES

_NOW: Final = "2026-03-29T09:00:00Z"
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
