"""Types of identifiers in HTTP requests: text of bounded length without control characters."""

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, StringConstraints, TypeAdapter, ValidationError

from schemas.reading import SESSION_ID_CHARS_MAX, STATION_ID_CHARS_MAX

PRINTABLE: Final = r"^[^\x00-\x1f\x7f]+$"  # PostgreSQL has no NUL in text, and no identifier has the other ones
DRIVER_ID_CHARS_MAX: Final = 64
RESERVATION_ID_CHARS_MAX: Final = 64  # OCPI CiString(36); room for prefixes


def _checked_driver_id(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("a driver's id has printable characters only, and no space at either end")
    return text


def is_ci_string(text: str, chars_max: int) -> bool:
    """Whether it is an OCPI CiString: printable ASCII, of bounded length. So readings name stations and sessions."""
    return 1 <= len(text) <= chars_max and text.isascii() and text.isprintable()


def _checked_station_id(value: object) -> object:
    if isinstance(value, str):
        if not is_ci_string(value, STATION_ID_CHARS_MAX):
            raise ValueError(
                f"a station's id has 1 to {STATION_ID_CHARS_MAX} printable ASCII characters, as in its readings"
            )
        if value != value.strip():
            raise ValueError("a station's id has no space at either end")
    return value


def _without_slash(value: object) -> object:
    if isinstance(value, str) and "/" in value:
        raise ValueError(SLASH)
    return value


SLASH: Final = "a station's id in the registry has no slash, because it stands in paths: write another character"
KnownStationId = Annotated[
    str, StringConstraints(min_length=1, max_length=STATION_ID_CHARS_MAX, pattern=PRINTABLE, to_upper=True)
]
"""A station's id in upper case, because it is compared without case. Of a station that is stored: earlier releases took
other characters than ASCII, too."""
StationId = Annotated[KnownStationId, BeforeValidator(_checked_station_id)]
"""The same by the rule of readings: with another id a station could never send any. Without spaces at its ends, which
nobody sees."""
NewStationId = Annotated[StationId, BeforeValidator(_without_slash)]
"""The same of a station to be registered."""
_NEW_STATION_ID: Final[TypeAdapter[str]] = TypeAdapter(NewStationId)
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=SESSION_ID_CHARS_MAX, pattern=PRINTABLE)]
"""A session's id as a device gave it."""
DriverId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=DRIVER_ID_CHARS_MAX, pattern=PRINTABLE),
    AfterValidator(_checked_driver_id),
]
"""A driver's id: the subject of the driver's token."""
ReservationId = Annotated[str, StringConstraints(min_length=1, max_length=RESERVATION_ID_CHARS_MAX, pattern=PRINTABLE)]


def new_station_id(text: str) -> str:
    """The NewStationId of a text that is no field of a model. Raises ValueError, which says why it is none."""
    try:
        return _NEW_STATION_ID.validate_python(text)
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["ctx"]["error"])) from None
