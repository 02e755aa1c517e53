"""Errors of the services. What HTTP makes of them is decided in api/edge.py alone.

ApiError
├── NotFound: nothing is known by that name
├── Ambiguous: several things are known by that name; `candidates` lists them
├── Conflict: what is there forbids it; the message says what would have to change
├── BadQuery: the question cannot be answered as put; the message says how to put it
└── NotAcceptable: none of the formats asked for is offered; the message names those that are
"""

from collections.abc import Sequence


class ApiError(Exception):
    """Root of the services' errors. The message is a sentence for the caller and says the mend."""


class NotFound(ApiError):
    """Nothing is known by that name."""


class Ambiguous(ApiError):
    """Several things are known by that name."""

    def __init__(self, message: str, candidates: Sequence[dict[str, object]]) -> None:
        super().__init__(message)
        self.candidates = list(candidates)


class Conflict(ApiError):
    """What is there forbids it."""


class BadQuery(ApiError):
    """The question cannot be answered as put."""


class NotAcceptable(ApiError):
    """None of the formats asked for is offered."""
