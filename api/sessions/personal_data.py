"""What the sessions service holds of drivers."""

from typing import Final

from kit.personal_data import PersonalData, in_standard_tables

PERSONAL_DATA: Final = (
    PersonalData(
        "charging_requests",
        "requests to start and stop, with the sessions that came of them",
        (
            "sessions.request.driver_id",
            "sessions.request.requested_by",
            "sessions.request.stop_requested_by",
            "sessions.stop.requested_by",
        ),
        "pseudonym",
        retention="sessions.driver_retention",
    ),
    *in_standard_tables("sessions"),
)
