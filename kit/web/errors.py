"""Errors of services that carry their HTTP status. The app makes problem documents of them.

ServiceError
├── BadQuery 422: the query is invalid; the message says how to correct it
├── NotFound 404: there is no such resource, or it is not the caller's
├── Forbidden 403: the token is valid but lacks the right
├── Conflict 409: the resource's state forbids it; the message says what would have to change
│   └── Ambiguous 409: several resources have that name; `candidates` lists them
└── NotAcceptable 406: none of the requested formats is available; the message lists those that are
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ServiceError(Exception):
    """Root. The message is a sentence for the caller that says how to fix it."""

    status: ClassVar[int] = 500

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the response."""
        return {}

    @property
    def extensions(self) -> Mapping[str, Any]:
        """Further members of the problem document."""
        return {}


class BadQuery(ServiceError):
    """The question cannot be answered as put."""

    status = 422


class NotFound(ServiceError):
    """Nothing is known by that name."""

    status = 404


class Forbidden(ServiceError):
    """The token is valid and may not do that."""

    status = 403


class Conflict(ServiceError):
    """The resource's state forbids it."""

    status = 409


class Ambiguous(Conflict):
    """Several things are known by that name."""

    def __init__(self, message: str, candidates: Sequence[dict[str, object]]) -> None:
        super().__init__(message)
        self.candidates = list(candidates)

    @property
    def extensions(self) -> Mapping[str, Any]:
        """The candidates."""
        return {"candidates": self.candidates}


class NotAcceptable(ServiceError):
    """None of the requested formats is available."""

    status = 406
