"""Where the services meet HTTP: what their errors become, and the parameters and answers they share."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query
from pydantic import StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.errors import Ambiguous, ApiError, BadQuery, Conflict, NotAcceptable, NotFound
from api.paging import CURSOR_CHARS_MAX
from kit.validation import PRINTABLE
from kit.web.problem import Problem, problem_response
from schemas.reading import SESSION_ID_CHARS_MAX, STATION_ID_CHARS_MAX

_STATUSES: Final[Mapping[type[ApiError], int]] = {
    NotFound: 404,
    Ambiguous: 409,
    Conflict: 409,
    BadQuery: 422,
    NotAcceptable: 406,
}

StationId = Annotated[
    str, StringConstraints(min_length=1, max_length=STATION_ID_CHARS_MAX, pattern=PRINTABLE, to_upper=True)
]
"""A station's id, upper-cased: it is compared without case."""
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=SESSION_ID_CHARS_MAX, pattern=PRINTABLE)]
"""A session's id as a device gave it."""

StationInPath = Annotated[StationId, Path(openapi_examples={"station": {"value": "DE-VS-0001"}})]
CursorInQuery = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, description="where the last page ended, from its `next`; leave it out to begin"),
]
# Of every operation of operators; kit describes the bodies.
OPERATOR_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "No token, or one that is unknown or revoked"},
    403: {"description": "A device's token: this is for operators"},
    422: {"description": "A parameter is wrong; the detail says which and how to put it right"},
    503: {"description": "Database or live view do not answer, or a bound is reached; see Retry-After"},
}


def problems(more: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """OPERATOR_PROBLEMS and those, with their descriptions."""
    return {**OPERATOR_PROBLEMS, **{status: {"description": text} for status, text in more.items()}}


def install_errors(app: FastAPI) -> None:
    """Make the services' errors problem documents."""
    app.add_exception_handler(ApiError, _on_api_error)


async def _on_api_error(_: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
    extensions = {"candidates": error.candidates} if isinstance(error, Ambiguous) else {}
    return problem_response(Problem(status, str(error), extensions=extensions))
