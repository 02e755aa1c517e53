"""Texts of others in CSV: a spreadsheet takes one that begins with certain signs for a formula and executes it.

An apostrophe before it makes it text (OWASP, CSV injection). Texts that have apostrophes before such a sign by
themselves get another one, so that what was written can be read again.
"""

import re
from typing import Final

FORMULA: Final = "'*[=+@\t\r\n＝＋－＠-]"  # a regular expression; also the wide signs
"""How a text begins that gets an apostrophe: a regular expression, of Python and of PostgreSQL."""
_FORMULA: Final = re.compile(FORMULA)


def as_text(value: str) -> str:
    """The cell of a text."""
    return f"'{value}" if _FORMULA.match(value) else value


def text_of(cell: str) -> str:
    """The text of a cell that `as_text` made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
