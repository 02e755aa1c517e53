"""Settings of the sessions service."""

from schemas.settings import Lake


class SessionsSettings(Lake):
    """Where readings are that were moved."""


GROUP = SessionsSettings
