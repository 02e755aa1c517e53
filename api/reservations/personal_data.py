"""What the reservations service holds of drivers."""

from typing import Final

from kit.personal_data import PersonalData, in_standard_tables

PERSONAL_DATA: Final = (
    PersonalData(
        "reservations",
        "reservations of connectors and bays",
        ("reservations.reservation.driver_id", "reservations.reservation.created_by"),
        "pseudonym",
        retention="reservations.driver_retention",
    ),
    PersonalData(
        "waiting_list",
        "waiting for a connector at a site",
        ("reservations.waiting.driver_id",),
        "pseudonym",
        retention="reservations.waiting_retention",
    ),
    PersonalData(
        "session_drivers",
        "whose a session is, as the services that are told so keep it",
        ("reservations.session_driver.driver_id",),
        "removed",
        retention="30 days",
    ),
    *in_standard_tables("reservations"),
)
