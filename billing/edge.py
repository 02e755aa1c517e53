"""Where billing meets HTTP: what its errors become, who may ask, and the parameters and answers its routes share."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, FastAPI, Query
from pydantic import BeforeValidator, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from billing.errors import (
    BadEvent,
    BadRequest,
    BadSignature,
    BillingError,
    Conflict,
    Declined,
    Forbidden,
    NotFound,
    NoToken,
    ProviderFailed,
    SourceFailed,
)
from kit.auth.authenticator import require_kinds
from kit.auth.token_store import SUBJECT_CHARS_MAX, Principal
from kit.web.paging import CURSOR_CHARS_MAX
from kit.web.problem import Problem, problem_response
from schemas.reading import STATION_ID_CHARS_MAX

_STATUSES: Final[Mapping[type[BillingError], int]] = {
    NotFound: 404,
    BadRequest: 422,
    Forbidden: 403,
    Conflict: 409,
    Declined: 402,
    NoToken: 401,  # before its base
    BadSignature: 403,
    ProviderFailed: 502,
    SourceFailed: 502,
    BadEvent: 500,  # of what is stored already: nothing that the caller could mend
}
_PRINTABLE: Final = r"^[^\x00-\x1f\x7f]+$"  # PostgreSQL has no NUL in text

NUMBER: Final = re.compile(r"([0-9]{4})-([0-9]{7,15})", re.ASCII)
"""Of a document, as it stands on it: year and sequence."""


def _no_number(value: object) -> object:
    """An id as it is. Raises ValueError."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        raise ValueError(f"{value} is a number and no id: find the document by /api/v1/billing/invoices?number={value}")
    return value


DocumentId = Annotated[UUID, BeforeValidator(_no_number)]
"""In a path."""
StationId = Annotated[
    str, StringConstraints(min_length=1, max_length=STATION_ID_CHARS_MAX, pattern=_PRINTABLE, to_upper=True)
]
DriverId = Annotated[str, StringConstraints(min_length=1, max_length=SUBJECT_CHARS_MAX, pattern=_PRINTABLE)]
ReservationId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PRINTABLE)]
CursorInQuery = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, description="where the last page ended, from its `next`; leave it out to begin"),
]

Reader = Annotated[Principal, Depends(require_kinds("finance", "operator", "driver"))]
"""Who may see documents: finance and operators all, a driver their own."""
Payer = Annotated[Principal, Depends(require_kinds("finance", "driver"))]
"""Who may have money moved: finance any, a driver what they owe."""
Office = Annotated[Principal, Depends(require_kinds("finance", "operator"))]
"""Who may see what is of all drivers together."""
Finance = Annotated[Principal, Depends(require_kinds("finance"))]
"""Who may cancel."""


def only_of(principal: Principal) -> str | None:
    """The driver whose documents alone this one may see; None: all."""
    return principal.driver_id if principal.kind == "driver" else None


_PROBLEMS: Final[Mapping[int, str]] = {
    401: "No token, or one that is unknown or revoked",
    403: "A token of a kind that may not do this",
    422: "Something in the request is wrong; the detail says what and how to put it right",
    503: "The database or a dependency does not answer; see Retry-After",
}


def problems(more: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The problems of every operation and those, with their descriptions."""
    return {status: {"description": text} for status, text in {**_PROBLEMS, **more}.items()}


def example(value: Any) -> dict[str, Any]:
    """A response's content with an example."""
    return {"content": {"application/json": {"example": value}}}


def install_errors(app: FastAPI) -> None:
    """Make billing's errors problem documents."""
    app.add_exception_handler(BillingError, _on_billing_error)


async def _on_billing_error(_: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
    headers = {"WWW-Authenticate": 'Bearer realm="voltstream"'} if status == HTTPStatus.UNAUTHORIZED else {}
    extensions = {"code": error.code} if isinstance(error, Declined) and error.code else {}
    return problem_response(Problem(status, str(error), headers=headers, extensions=extensions))
