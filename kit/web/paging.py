"""Keyset paging: a cursor holds the key of the last row seen, and the next page starts behind it.

Rows that arrive meanwhile may stand on later pages; what was seen is never repeated, however much is inserted.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Annotated, Final, TypeVar

import msgspec
from starlette.datastructures import URL

from kit.clock import EPOCH
from kit.web.errors import BadQuery

CURSOR_CHARS_MAX: Final = 240  # the longest key, of a tag and a station id of 36 characters, is 150 bytes: 200 here
_MICROSECOND: Final = timedelta(microseconds=1)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")  # no key has them, and PostgreSQL has no NUL in text

Int16 = Annotated[int, msgspec.Meta(ge=-(2**15), lt=2**15)]
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Micros = Annotated[int, msgspec.Meta(ge=0, lt=10_413_792_000_000_000)]  # µs since the Unix epoch, before the year 2300


class Cursor(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of the keys, one subclass per kind of page; the tag tells the kinds apart."""


AnyCursor = TypeVar("AnyCursor", bound=Cursor)


def encode_cursor(key: Cursor) -> str:
    """The key as opaque text, safe in a URL."""
    return urlsafe_b64encode(msgspec.msgpack.encode(key)).rstrip(b"=").decode()


def decode_cursor(text: str, kind: type[AnyCursor]) -> AnyCursor:
    """The key again. Raises BadQuery where the text is not a cursor of this kind of page."""
    try:
        key = msgspec.msgpack.decode(urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)), type=kind)
    except (ValueError, RecursionError) as error:
        raise _not_one() from error
    if any(isinstance(part, str) and _CONTROL.search(part) for part in msgspec.structs.astuple(key)):
        raise _not_one()
    return key


def _not_one() -> BadQuery:
    return BadQuery("cursor is not one of this query; follow the `next` of its last page, or leave it out")


def to_micros(instant: datetime) -> int:
    """µs since the Unix epoch, exactly."""
    return (instant - EPOCH) // _MICROSECOND


def from_micros(instant_us: int) -> datetime:
    """The aware UTC datetime of µs since the Unix epoch."""
    return EPOCH + timedelta(microseconds=instant_us)


def next_url(url: URL, cursor: str | None, **fixed: str) -> str | None:
    """The next page's address, relative to the host: this one's, with `fixed` query parameters and the cursor set."""
    if cursor is None:
        return None
    following = url.include_query_params(**fixed, cursor=cursor)
    return f"{following.path}?{following.query}"


def link_header(following: str | None) -> dict[str, str]:
    """The `Link` header (RFC 8288) of a page with that `next`."""
    return {} if following is None else {"Link": f'<{following}>; rel="next"'}
