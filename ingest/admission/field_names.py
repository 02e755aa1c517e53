"""Which known field a misspelt one was meant to be. Pure.

Names of fields are much alike while their quantities are not: `energy_export_wh` is not `energy_wh`, `voltage_l4_v` not
`voltage_l1_v`, `soh_pct` not `soc_pct`. So a name is suggested only for another spelling of the same words.
"""

import re
from collections.abc import Iterable
from typing import Final

_NAME_CHARS_MAX: Final = 64  # no known name is near half as long
_EDITABLE_CHARS_MIN: Final = 4  # a shorter word is a unit, a phase or an abbreviation: one letter is another meaning
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def meant_field(name: str, known: Iterable[str]) -> str | None:
    """The known name that has the same words, but for case, separators, and one slip in one of them.

    A slip is a letter too many, too few, wrong, or two that changed places, in a word of at least four letters and no
    digits. None where no known name is so near, or several are.
    """
    if len(name) > _NAME_CHARS_MAX:
        return None
    words = [word for word in re.split(r"[\W_]+", _HUMP.sub("_", name).lower()) if word]
    joined = "".join(words)
    near = []
    for candidate in known:
        if candidate.replace("_", "") == joined:
            return candidate
        if _is_slip(words, candidate.split("_")):
            near.append(candidate)
    return near[0] if len(near) == 1 else None


def _is_slip(words: list[str], meant: list[str]) -> bool:
    if len(words) != len(meant):
        return False
    different = [(word, right) for word, right in zip(words, meant, strict=True) if word != right]
    return len(different) == 1 and _is_one_edit(*different[0])


def _is_one_edit(word: str, right: str) -> bool:
    if min(len(word), len(right)) < _EDITABLE_CHARS_MIN or not (word + right).isalpha():
        return False
    start = 0
    while start < min(len(word), len(right)) and word[start] == right[start]:
        start += 1
    left, other = word[start:], right[start:]
    swapped = other[1::-1] + other[2:] if len(other) > 1 else other
    return left[1:] == other[1:] or left[1:] == other or left == other[1:] or left == swapped
