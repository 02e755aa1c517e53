"""Validation of identifiers that are formatted into SQL: a schema cannot be a query parameter."""

import re
from typing import Final

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def checked_name(name: str) -> str:
    """The name itself. Raises ValueError if it would need quoting; names come from code, never from users."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a schema")
    return name
