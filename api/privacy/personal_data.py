"""What is held of drivers in the schemas that no service owns, and in that of the privacy service."""

from typing import Final

from kit.personal_data import PersonalData, in_standard_tables

PERSONAL_DATA: Final = (
    PersonalData(
        "tokens",
        "access tokens, of which only hashes are stored",
        ("access.token.subject", "access.token.label"),
        "deleted",
        retention="once the driver is erased",
    ),
    PersonalData(
        "token_revocations",
        "revocations of all signed tokens of a driver",
        ("access.signed_token_revocation.subject",),
        "stays",
        stays="without it tokens would be accepted again that were revoked",
    ),
    PersonalData(
        "audit_entries",
        "what the driver did, and what was done with the driver's tokens",
        (
            "audit.entry.actor",
            "audit.entry.entity",
            "audit.entry.address",
            "audit.entry.before",
            "audit.entry.after",
            "audit.entry.reason",
        ),
        "stays",
        stays="who did what must be proved, and the chain of hashes lets no entry be changed",
        retention="audit.retention",
        retention_unit="y",
    ),
    *in_standard_tables("privacy"),
)
