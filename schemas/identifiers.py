"""Types of identifiers in HTTP requests: text of bounded length without control characters."""

from typing import Annotated, Final

from pydantic import AfterValidator, StringConstraints

from schemas.reading import SESSION_ID_CHARS_MAX, STATION_ID_CHARS_MAX

PRINTABLE: Final = r"^[^\x00-\x1f\x7f]+$"  # PostgreSQL has no NUL in text, and no identifier has the other ones
DRIVER_ID_CHARS_MAX: Final = 64
RESERVATION_ID_CHARS_MAX: Final = 64  # OCPI CiString(36); room for prefixes


def _checked_driver_id(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("a driver's id has printable characters only, and no space at either end")
    return text


StationId = Annotated[
    str, StringConstraints(min_length=1, max_length=STATION_ID_CHARS_MAX, pattern=PRINTABLE, to_upper=True)
]
"""A station's id in upper case, because it is compared without case."""
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=SESSION_ID_CHARS_MAX, pattern=PRINTABLE)]
"""A session's id as a device gave it."""
DriverId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=DRIVER_ID_CHARS_MAX, pattern=PRINTABLE),
    AfterValidator(_checked_driver_id),
]
"""A driver's id: the subject of the driver's token."""
ReservationId = Annotated[str, StringConstraints(min_length=1, max_length=RESERVATION_ID_CHARS_MAX, pattern=PRINTABLE)]
