"""Settings of the sessions service."""

from typing import Final

from pydantic import Field

from kit.config.adjustable import adjustable
from schemas.settings import Lake

REMOTE_START: Final = "sessions.remote_start"


class SessionsSettings(Lake):
    """Who may ask which station to charge, and where readings are that were moved."""

    remote_start: bool = Field(
        True,
        description="whether drivers and operators (roles driver, operator) may ask a station to charge",
        json_schema_extra=adjustable(REMOTE_START, flag=True),
    )
    # Three years: after them nobody can claim anything of a session, as a rule.
    session_driver_retention_days: int = Field(
        1_096,
        ge=31,
        le=36_500,
        description="after so many days a request that is over, and the session that came of it, are nobody's",
        json_schema_extra=adjustable("sessions.driver_retention", unit="d"),
    )


GROUP = SessionsSettings
