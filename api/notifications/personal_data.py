"""What the notifications service holds of drivers."""

from typing import Final

from kit.personal_data import PersonalData, in_standard_tables

PERSONAL_DATA: Final = (
    PersonalData(
        "preferences",
        "addresses, language and choices of who is notified",
        (
            "notifications.recipient.subject",
            "notifications.recipient.language",
            "notifications.recipient.time_zone",
            "notifications.recipient.addresses",
            "notifications.recipient.modes",
            "notifications.recipient.gone",
            "notifications.recipient.updated_by",
        ),
        "deleted",
        retention="once the driver is erased",
    ),
    PersonalData(
        "notifications",
        "notifications, and their deliveries with address and text",
        (
            "notifications.notification.subject",
            "notifications.notification.context",
            "notifications.delivery.address",
            "notifications.delivery.language",
            "notifications.delivery.title",
            "notifications.delivery.body",
            "notifications.delivery.html",
            "notifications.delivery.reason",
            "notifications.delivery.receipt",
        ),
        "deleted",
        retention="notifications.retention",
    ),
    PersonalData(
        "session_drivers",
        "whose a session is, as the services that are told so keep it",
        ("notifications.session.driver_id",),
        "removed",
        retention="7 days",
    ),
    *in_standard_tables("notifications"),
)
