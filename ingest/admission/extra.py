"""Builds `extra`: what a reading has beside its columns, as a compact JSON object with sorted keys.

Numbers keep the digits that were sent. The text is valid for every database: without NUL, halves of surrogate pairs and
numbers that no decimal type holds. Pure.
"""

import json
import re
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

from schemas.reading import EXTRA_BYTES_MAX, EXTRA_DROPPED, EXTRA_UNKNOWN_MAX

NAME_CHARS_MAX: Final = 64  # of an unknown field
_DEPTH_MAX: Final = 16  # of a value; no device nests deeper, and each level is a Python call
_RAW_BYTES_MAX: Final = 4 * EXTRA_BYTES_MAX  # of a value as sent, blanks included
# Other numbers become strings: a decimal type of 80 digits holds these.
_PLAIN_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,39})(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_NUL_FREE: Final = str.maketrans("\0", "\ufffd")
_MEMBERS_EMPTY: Final = len("{}") + len(f',"{EXTRA_DROPPED}":{{}}')
_KEYS_KNOWN_MAX: Final = 4_096  # names of fields, ~200 B each


class TooDeep(Exception):
    """A value is nested deeper than is kept."""


class _Number(str):
    """The digits of a number."""

    __slots__ = ()


class Extra:
    """The members of one reading's `extra`, within its bounds."""

    def __init__(self) -> None:
        self._members: dict[str, str] = {}
        self._dropped: dict[str, str] = {}
        self._unknown = 0
        self._bytes = _MEMBERS_EMPTY

    def add(self, name: str, text: str) -> bool:
        """Add a known field with its compact JSON; False if there is no room for it."""
        return self._put(self._members, name, text)

    def add_dropped(self, name: str, text: str) -> bool:
        """Keep the compact JSON of a value that was dropped; False if there is no room for it."""
        return self._put(self._dropped, name, text)

    def add_unknown(self, name: str, text: str) -> bool:
        """Add an unknown field; False if there is no room for it."""
        if self._unknown == EXTRA_UNKNOWN_MAX or not self._put(self._members, name, text):
            return False
        self._unknown += 1
        return True

    def text(self) -> str | None:
        """The JSON object; None without members."""
        members = self._members
        if self._dropped:
            members = members | {EXTRA_DROPPED: _object(self._dropped)}
        return _object(members) if members else None

    def _put(self, members: dict[str, str], name: str, text: str) -> bool:
        size = len(_key(name)) + 1 + (len(text) if text.isascii() else len(text.encode()))
        if self._bytes + size > EXTRA_BYTES_MAX:
            return False
        self._bytes += size
        members[name] = text
        return True


def is_name(name: str) -> bool:
    """Whether an unknown field's name can be a key of `extra`."""
    return 1 <= len(name) <= NAME_CHARS_MAX and name.isprintable()


def compact(value: object, raw: str) -> str | None:
    """Canonical JSON of a decoded value whose JSON text is `raw`; None if it is far too large. Raises TooDeep."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return _number(raw)
    if len(raw) > _RAW_BYTES_MAX:
        return None
    try:
        return _written(json.loads(raw, parse_int=_Number, parse_float=_Number), _DEPTH_MAX)
    except RecursionError:
        raise TooDeep from None


def is_plain_number(digits: str) -> bool:
    """Whether it is a JSON number that every decimal type holds."""
    return _PLAIN_NUMBER.fullmatch(digits) is not None


def quoted(text: str) -> str:
    """A JSON string; NUL, which databases do not store, becomes U+FFFD."""
    return encode_basestring(text.translate(_NUL_FREE) if "\0" in text else text)


@lru_cache(_KEYS_KNOWN_MAX)
def _key(name: str) -> bytes:
    """A member's name and the colon."""
    return f"{quoted(name)}:".encode()


def _number(digits: str) -> str:
    return digits if is_plain_number(digits) else quoted(digits)


def _written(value: object, depth: int) -> str:
    if isinstance(value, _Number):
        return _number(value)
    if isinstance(value, dict | list):
        if depth == 0:
            raise TooDeep
        if isinstance(value, list):
            return f"[{','.join([_written(item, depth - 1) for item in value])}]"
        return _object({name.translate(_NUL_FREE): _written(item, depth - 1) for name, item in value.items()})
    return compact(value, "") or ""


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join([f"{quoted(name)}:{members[name]}" for name in sorted(members)]) + "}"
