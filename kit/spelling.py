"""Spelling suggestions: the known name nearest to a misspelt one. Pure; the only user of difflib."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

SIMILARITY_MIN: Final = 0.6  # of difflib's ratio, 0 to 1; its default
_STRICT: Final = 0.75  # where the known names are many and much alike, as settings are
_NAME_CHARS_MAX: Final = 64  # the comparison takes quadratic time
_NAMES_SHOWN_MAX: Final = 30  # of models and settings alike


def nearest_name(name: str, known: Collection[str], similarity_min: float = SIMILARITY_MIN) -> str | None:
    """The known name most similar to `name`; None where none is similar enough."""
    close = get_close_matches(name[:_NAME_CHARS_MAX], known, n=1, cutoff=similarity_min)
    return close[0] if close else None


def did_you_mean(name: str, known: Collection[str]) -> str:
    """End of a sentence that says that `name` is unknown: suggests the nearest known name, or lists them all."""
    if near := nearest_name(name, known, _STRICT):
        return f"; did you mean {near}?"
    return f"; there are: {', '.join(sorted(known)[:_NAMES_SHOWN_MAX])}" if known else "; leave it out"
