"""Errors of the privacy service.

ServiceError (kit/web/errors.py)
└── Conflict 409
    └── StillOpen 409: something of the driver goes on; `open` lists it
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kit.web.errors import Conflict

SHOWN_MAX = 100  # ~100 B each


class StillOpen(Conflict):
    """The driver cannot be erased yet."""

    def __init__(self, matters: Sequence[tuple[str, str]]) -> None:
        """`matters`: (kind, what)."""
        more = f", and {len(matters) - 1} more, see open" if len(matters) > 1 else ""
        super().__init__(f"nothing was erased: {matters[0][1]}{more}. End, pay or decide it, and ask again")
        self._open = [{"kind": kind, "what": what} for kind, what in matters[:SHOWN_MAX]]

    @property
    def extensions(self) -> Mapping[str, Any]:
        """What is open."""
        return {"open": self._open}
