"""Errors over HTTP: every error response is an RFC 9457 problem document.

Routes raise `Problem`. Its `detail` says what is wrong and what to do about it, and nothing of internals.
"""

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kit.errors import Overloaded, Unavailable
from kit.observability.logs import correlation_id, get_logger
from kit.validation import explain_error
from kit.web.errors import ServiceError

MEDIA_TYPE: Final = "application/problem+json"
_MEDIA_TYPE_LINE: Final = f"content-type: {MEDIA_TYPE}\r\n".encode()
ERRORS_SHOWN_MAX: Final = 100  # of one body's validation errors: enough to see the pattern, ~10 kB at most
INTERNAL: Final = "an error on our side; it is logged under the correlation id"
_RETRY_AFTER_S: Final = 1  # a broker or database that restarts is back within seconds

_log = get_logger(__name__)


class Problem(HTTPException):
    """An HTTP error as a route raises it; extra members (`extensions`) go into the document as they are. It is answered
    `delay_s` later.

    An HTTPException, because FastAPI takes every other exception for a body that cannot be parsed while it reads one.
    """

    headers: dict[str, str]

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str = "",
        type_: str = "about:blank",
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.delay_s = delay_s
        self.status = status
        self.title = title or title_of(status)
        self.type = type_
        self.extensions = dict(extensions or {})

    def __str__(self) -> str:
        return self.detail


def title_of(status: int) -> str:
    """The standard phrase of a status code."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def invalid(errors: Sequence[Mapping[str, str]], found: int) -> Problem:
    """A 422 with `errors`, each a `location` and a `detail`: the first ones of `found` errors in all."""
    detail = "{location}: {detail}".format_map(errors[0])
    if found > 1:
        detail += f" (and {found - 1} more, see errors)"
    return Problem(422, detail, extensions={"errors": errors})


def unavailable(error: Exception) -> Problem:
    """The problem of a dependency that does not answer. Only the log names it."""
    _log.warning("dependency_unavailable", error=str(error))
    headers = {"Retry-After": str(_RETRY_AFTER_S)}
    return Problem(503, "a dependency does not answer; try again", headers=headers)


def problem_response(problem: Problem) -> Response:
    """The response of a problem, with the correlation id of the request."""
    return Response(_document(problem, correlation_id.get()), problem.status, problem.headers, MEDIA_TYPE)


def problem_as_sent(problem: Problem, own_id: str) -> tuple[bytes, bytes]:
    """The headers, each as a line, and the body of the same response, without a Response: a refusal has to be cheap."""
    body = _document(problem, own_id)
    lines = "".join([f"{name.lower()}: {value}\r\n" for name, value in problem.headers.items()])
    return b"%bcontent-length: %d\r\n%b" % (lines.encode("latin-1"), len(body), _MEDIA_TYPE_LINE), body


def _document(problem: Problem, own_id: str) -> bytes:
    document = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "correlation_id": own_id,
        **problem.extensions,
    }
    return msgspec.json.encode(document)


def install_problems(app: FastAPI) -> None:
    """Make every error of `app` a problem document. `kit.web.openapi` describes them."""
    for kind in (Problem, ServiceError, Unavailable, Overloaded):
        app.add_exception_handler(kind, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation)


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error of a route is answered with; None where it is an error of ours."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ServiceError):
        return Problem(error.status, str(error), headers=error.headers, extensions=error.extensions)
    if isinstance(error, Unavailable):
        return unavailable(error)
    if isinstance(error, Overloaded):
        return Problem(503, str(error), headers={"Retry-After": str(error.retry_after_s)})
    return None


async def _on_error(_: Request, error: Exception) -> Response:
    problem = problem_of(error)
    assert problem is not None  # noqa: S101  # Starlette hands a handler only what it was registered for
    if problem.delay_s:
        await asyncio.sleep(problem.delay_s)
    return problem_response(problem)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as above
    details = {
        404: f"there is nothing at {request.url.path}",
        405: f"{request.method} is not allowed here; see the Allow header",
    }
    standard = error.detail == title_of(error.status_code)
    detail = details.get(error.status_code, error.detail) if standard else error.detail
    return problem_response(Problem(error.status_code, str(detail), headers=error.headers))


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as above
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        reason = next(item for item in found if item["type"] == "json_invalid").get("ctx", {}).get("error", "")
        return problem_response(Problem(400, f"the body is not JSON: {reason}" if reason else "the body is not JSON"))
    if any(item["loc"] == ("body",) for item in found) and not _is_json(request.headers.get("content-type", "")):
        said = request.headers.get("content-type", "")[:100]
        sent = f"{said!a} is not JSON" if said else "there is no Content-Type"
        problem = Problem(422, f"the body is not read, because {sent}: send the header Content-Type: application/json")
        return problem_response(problem)
    body_field = getattr(request.scope.get("route"), "body_field", None)
    body = body_field.field_info.annotation if body_field is not None else None
    # Never the input itself: it may be large, or a secret.
    errors = [
        {"location": "/".join(str(part) for part in item["loc"]), "detail": explain_error(item, body)}
        for item in found[:ERRORS_SHOWN_MAX]
    ]
    return problem_response(invalid(errors or [{"location": "request", "detail": "invalid"}], len(found)))


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
