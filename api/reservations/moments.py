"""Moments as events write them."""

from datetime import datetime

from kit.clock import parse_rfc3339
from kit.errors import Unprocessable


def moment_of(text: str) -> datetime:
    """The aware UTC datetime. Raises Unprocessable: no retry makes the event readable."""
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise Unprocessable(f"{text!r} is {error}") from error
