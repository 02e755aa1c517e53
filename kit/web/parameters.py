"""Parts of routes that every service needs: the cursor parameter, and descriptions of responses for OpenAPI."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Query

from kit.web.paging import CURSOR_CHARS_MAX

JSON: Final = "application/json"

CursorInQuery = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, description="where the last page ended, from its `next`; leave it out to begin"),
]

# Of every operation that wants a token; kit/web/problem.py describes the bodies.
_PROBLEMS: Final[Mapping[int, str]] = {
    401: "No token, or one that is unknown or revoked",
    403: "A token of a kind that may not do this",
    422: "Something in the request is wrong; the detail says what and how to put it right",
    503: "A dependency does not answer, or a bound is reached; see Retry-After",
}


def problems(more: Mapping[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation: the problems that every operation has, and those in `more`, by status."""
    return {status: {"description": text} for status, text in {**_PROBLEMS, **(more or {})}.items()}


def example(value: Any) -> dict[str, Any]:
    """The content of a JSON response, with an example."""
    return {"content": {JSON: {"example": value}}}
