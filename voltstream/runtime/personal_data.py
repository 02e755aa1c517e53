"""What the relay holds of drivers."""

from typing import Final

from kit.personal_data import PersonalData, in_standard_tables

PERSONAL_DATA: Final = (
    PersonalData(
        "dead_letters",
        "events that no consumer could handle",
        ("events.dead_letter.body", "events.dead_letter.headers", "events.dead_letter.error"),
        "pseudonym",
        retention="events.dead_letter_retention",
    ),
    *in_standard_tables("events"),
)
