"""`POST /api/v1/telemetry/quarantine/replay`."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from ingest.reingest.components import SCHEMA, Reingest
from ingest.reingest.models import EXAMPLE, ReplayAnswer, ReplayRequest
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.messaging.outbox import Transaction
from kit.service import provided
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems

PATH: Final = "/api/v1/telemetry/quarantine/replay"

Provided = Annotated[Reingest, Depends(provided(Reingest))]
Operator = Annotated[Principal, Depends(require_scope("telemetry:write", heeds_stations=True))]
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **problems({409: "The Idempotency-Key was used for another request"}),
    200: example(EXAMPLE),
}

router = APIRouter(tags=["telemetry"], route_class=JsonRoute)


@router.post(
    PATH,
    summary="Take items of the quarantine after all",
    response_model=ReplayAnswer,
    responses=_RESPONSES,
)
async def replay(reingest: Provided, body: ReplayRequest, operator: Operator, once: Idempotent) -> Response:
    """Items that wait, the oldest first, are judged by the rules of this moment: what was refused because a clock was
    wrong, or the token one of other stations, can be a reading now. Whoever replays vouches for it and is named in the
    item.

    What passes is accepted, counted and stored as if it came now, and the item says when and by whom it was replayed; a
    reading that is stored already is a duplicate. What is refused again stays as it is. A frame that was kept whole is
    replayed with all its items where it can be read now; those that are refused are in quarantine by themselves then.

    A token for some stations replays what is known to be theirs, and no frames that were kept whole; one for an
    organisation replays nothing.

    At most 1,000 items and 8 MiB a request; `next` says where to go on. After a 503 nothing is marked: repeat the
    request. A dry run only reads, and is not stored by its key.
    """
    if body.dry_run:
        async with reingest.database.snapshot() as snapshot:
            return _response(await reingest.service.replay(snapshot, body, operator)).response()

    async def work(transaction: Transaction) -> StoredResponse:
        return _response(await reingest.service.replay(transaction, body, operator))

    return await once.do(reingest.database, SCHEMA, work)


def _response(answer: ReplayAnswer) -> StoredResponse:
    return StoredResponse(200, answer.model_dump_json().encode())
