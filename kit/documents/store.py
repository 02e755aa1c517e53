"""Documents of JSON by collection and key: the interface, and what a document may be.

It is for what is computed and can be computed again: a `put` of several documents is no transaction, and none spans a
store and a service's tables. Two implementations under one contract suite: kit/documents/postgres.py, mongodb.py.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

# As JSON. MongoDB's bound is 16 MiB of BSON, where a digit and its comma in a list are 13 bytes.
DOCUMENT_BYTES_MAX: Final = 2 * 1024 * 1024
DOCUMENTS_MAX: Final = 100  # of one put or scan
KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")  # ASCII: both stores sort it by its bytes
PREFIX: Final = re.compile(r"[A-Za-z0-9._/-]{0,200}")
COLLECTION: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")  # MongoDB gives `.` and `$` in names a meaning
_DEPTH_MAX: Final = 20
_INT_MAX: Final = 2**63 - 1
_FLOAT_MAX: Final = 2.0**53  # JSONB writes larger ones as integers, whose last digits are not the float's
AFTER_ALL: Final = "\x7f"  # sorts behind every character of a key

Document = Mapping[str, Any]


class DocumentStore(Protocol):
    """Every method raises Unavailable where the server does not answer, ValueError for what no store takes."""

    async def put(self, collection: str, documents: Mapping[str, Document]) -> None:
        """Store up to DOCUMENTS_MAX documents by key, each in the place of an earlier one. Durable when it returns. If
        it fails, some of them may be stored."""

    async def get(self, collection: str, key: str) -> Document | None:
        """A document."""

    async def scan(
        self, collection: str, prefix: str = "", after: str = "", limit: int = DOCUMENTS_MAX
    ) -> Sequence[tuple[str, Document]]:
        """Up to `limit` documents whose keys begin so and come after that one, by key."""

    async def delete(self, collection: str, prefix: str) -> None:
        """Delete the documents whose keys begin so."""

    async def check_ready(self) -> None:
        """Raises Unavailable unless the server answers."""

    async def close(self) -> None:
        """Close its connections."""


def checked_collection(collection: str) -> str:
    """The name again. Raises ValueError."""
    if not COLLECTION.fullmatch(collection):
        raise ValueError(f"{collection!r} names no collection: write it as {COLLECTION.pattern}")
    return collection


def checked_key(key: str) -> str:
    """The key again. Raises ValueError."""
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key: write it as {KEY.pattern}")
    return key


def checked_prefix(prefix: str) -> str:
    """The beginning of keys again. Raises ValueError."""
    if not PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} begins no key: write it as {PREFIX.pattern}")
    return prefix


def checked_limit(limit: int) -> int:
    """The limit again. Raises ValueError."""
    if not 1 <= limit <= DOCUMENTS_MAX:
        raise ValueError(f"a limit is from 1 to {DOCUMENTS_MAX}, not {limit}")
    return limit


def encoded(documents: Mapping[str, Document]) -> dict[str, bytes]:
    """The documents as JSON, by key. Raises ValueError for what one of the stores could not give back as it was."""
    if len(documents) > DOCUMENTS_MAX:
        raise ValueError(f"{len(documents)} documents at once: put at most {DOCUMENTS_MAX}")
    found = {}
    for key, document in documents.items():
        checked_key(key)
        _check(document, key, 0)
        try:
            found[key] = msgspec.json.encode(document)
        except UnicodeEncodeError as error:
            raise ValueError(f"{key}: half of a surrogate pair is no text") from error
        if len(found[key]) > DOCUMENT_BYTES_MAX:
            raise ValueError(f"{key}: {len(found[key])} bytes of JSON: a document has at most {DOCUMENT_BYTES_MAX}")
    return found


def _check(value: object, key: str, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError(f"{key}: a document is at most {_DEPTH_MAX} levels deep")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError(f"{key}: PostgreSQL has no NUL in text")
    elif isinstance(value, int):
        if not -_INT_MAX <= value <= _INT_MAX:
            raise ValueError(f"{key}: {value} is beyond 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key}: JSON has no {value}")
        if abs(value) > _FLOAT_MAX:
            raise ValueError(f"{key}: {value} is beyond the integers of a float: write it as an integer or as text")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str) or not _FIELD.fullmatch(name):
                raise ValueError(f"{key}: {name!r} is no field's name: write it as {_FIELD.pattern}")
            _check(inner, key, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, key, depth + 1)
    else:
        raise ValueError(f"{key}: JSON has no {type(value).__name__}")
