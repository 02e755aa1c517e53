"""Keyset paging (see kit/paging), with the services' error."""

from api.errors import BadQuery
from kit.web.paging import (
    CURSOR_CHARS_MAX,
    AnyCursor,
    Cursor,
    Int16,
    Int64,
    Micros,
    encode_cursor,
    from_micros,
    link_header,
    next_url,
    to_micros,
)
from kit.web.paging import decode_cursor as _decode_cursor

__all__ = [
    "CURSOR_CHARS_MAX",
    "Cursor",
    "Int16",
    "Int64",
    "Micros",
    "decode_cursor",
    "encode_cursor",
    "from_micros",
    "link_header",
    "next_url",
    "to_micros",
]


def decode_cursor(text: str, kind: type[AnyCursor]) -> AnyCursor:
    """The key again. Raises BadQuery where the text is not a cursor of this kind of page."""
    try:
        return _decode_cursor(text, kind)
    except ValueError as error:
        raise BadQuery(str(error)) from error
