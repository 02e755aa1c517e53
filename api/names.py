"""Names that several services take in requests."""

from typing import Annotated

from pydantic import StringConstraints

from kit.patterns import worded

GroupName = Annotated[
    str,
    StringConstraints(
        pattern=worded(
            r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            "1 to 64 letters, digits, points, dashes and underscores, of which the first is a letter or a digit",
        )
    ),
]
"""Of stations with one tariff."""
