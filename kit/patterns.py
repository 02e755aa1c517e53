"""Patterns of texts in requests, each with the words that a refusal says in its place.

Group = Annotated[str, StringConstraints(pattern=worded(r"^[A-Za-z0-9._-]+$", "letters, digits, points and dashes"))]
"""

from typing import Final

_WORDS: Final[dict[str, str]] = {}


def worded(pattern: str, words: str) -> str:
    """The pattern. `words`: what a refusal says after "write". Raises ValueError where the pattern has other words."""
    if _WORDS.setdefault(pattern, words) != words:
        raise ValueError(f"{pattern} has other words already: {_WORDS[pattern]}")
    return pattern


def words_of(pattern: str) -> str | None:
    """The words of a pattern, where it has any."""
    return _WORDS.get(pattern)
