"""The words of a text, as a search compares them: folded, without accents. Pure."""

import re
import unicodedata
from typing import Final

WORDS_MAX: Final = 8  # of one question

_WORD: Final = re.compile(r"[^\W_]+")


def folded(text: str) -> list[str]:
    """Its words, of letters and digits, in lower case and without accents."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))
    return _WORD.findall(plain)


def words_of(*texts: str | None) -> str:
    """All their words, each after a space, so that ` begin` finds every word that begins so."""
    return "".join(f" {word}" for text in texts if text is not None for word in folded(text))


def pattern_of(word: str) -> str:
    """The LIKE pattern of texts that have a word that begins with this one. A word has no wildcards."""
    return f"% {word}%"
