"""Personal data over HTTP. Thin: parameters in, one call of the service, one response out."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response, StreamingResponse

from api.privacy import examples
from api.privacy.components import Privacy
from api.privacy.models import Erasure, PersonalDataExport
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.service import provided
from kit.web.errors import NotFound
from kit.web.json_body import JsonRoute
from kit.web.parameters import JSON, example, problems
from schemas.identifiers import DriverId

PATH: Final = "/api/v1/privacy/{subject:path}"  # an id may have a slash
_NOT_YOURS: Final = {404: "The token is another driver's"}

Provided = Annotated[Privacy, Depends(provided(Privacy))]
Reader = Annotated[Principal, Depends(require_scope("privacy:read"))]
Eraser = Annotated[Principal, Depends(require_scope("privacy:erase"))]
Subject = Annotated[
    DriverId,
    Path(
        description="a driver's id, percent-encoded but for slashes",
        openapi_examples={"a driver": {"value": "driver-42"}},
    ),
]

router = APIRouter(tags=["privacy"], route_class=JsonRoute)


@router.get(
    PATH,
    summary="All that is held of a driver",
    response_model=PersonalDataExport,
    responses={**problems(_NOT_YOURS), 200: example(examples.EXPORT)},
)
async def export(privacy: Provided, caller: Reader, subject: Subject) -> Response:
    """Of all services, as of one moment, also what would stay after an erasure. A driver gets their own, an
    administrator anybody's. Readings of sessions are not in it: /api/v1/sessions/{id}/readings has them. If it fails
    midway, the connection is cut. The audit says that somebody asked."""
    chunks = privacy.service.export(_own(caller, subject))
    first = await anext(chunks)  # with what fails before, it is no 200
    return StreamingResponse(_chained(first, chunks), media_type=JSON)


@router.delete(
    PATH,
    summary="Erase a driver",
    responses={
        **problems({**_NOT_YOURS, 409: "A session, reservation, charge or invoice is open: `open` says what"}),
        200: example(examples.ERASURE),
    },
)
async def erase(privacy: Provided, caller: Eraser, subject: Subject) -> Erasure:
    """In all services at once, or not at all: notifications, preferences, tokens and the customer are deleted; of other
    records nobody can tell any more whose they are. What the law wants kept stays as it was, and the answer says what,
    why and until when. What comes afterwards is new, as of a new driver. To repeat it changes nothing."""
    return await privacy.service.erase(_own(caller, subject))


def _own(caller: Principal, subject: str) -> str:
    """The subject, if the caller may ask for it. Raises NotFound."""
    if caller.own_driver not in (None, subject):
        raise NotFound("a driver has only their own data; take your own id, the subject of your token")
    return subject


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
