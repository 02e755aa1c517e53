"""Notifications and their deliveries over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response

from api.notifications.callers import FORBIDDEN, DeliveriesReader, Reader, Sender, SubjectInQuery, subject_of
from api.notifications.components import PREFIX, Provided
from api.notifications.deliveries import examples
from api.notifications.deliveries.models import Announced, DeliveryPage, NewAnnouncement, NotificationPage, State
from api.notifications.deliveries.store import SCHEMA, DeliveryFilter
from api.notifications.kinds import Channel
from api.notifications.models import Subject
from kit.instants import Instant
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems

NOTIFICATIONS_MAX: Final = 200  # with five deliveries of 4 kB each: 4 MB
NOTIFICATIONS_DEFAULT: Final = 50
DELIVERIES_MAX: Final = 1_000  # ~500 B each
DELIVERIES_DEFAULT: Final = 100

router = APIRouter(prefix=PREFIX, tags=["notifications"], route_class=JsonRoute)


@router.get(
    "",
    summary="A recipient's notifications, newest first",
    response_model=NotificationPage,
    responses={**problems(FORBIDDEN), 200: example(examples.PAGE)},
)
async def notifications(
    own: Provided,
    caller: Reader,
    request: Request,
    subject: SubjectInQuery = None,
    limit: Annotated[int, Query(ge=1, le=NOTIFICATIONS_MAX, description="on a page")] = NOTIFICATIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """With their deliveries: what was sent, what waits and until when, and what was not sent and why."""
    page, key = await own.service.notifications(subject_of(caller, subject), limit, cursor)
    return _page(page, request, key)


@router.post(
    "",
    status_code=202,
    summary="Say something to recipients",
    response_model=Announced,
    responses={**problems({409: "The Idempotency-Key was used otherwise"}), 202: example(examples.ANNOUNCED)},
)
async def announce(
    own: Provided,
    operator: Sender,
    new: Annotated[NewAnnouncement, Body(openapi_examples={"maintenance": {"value": examples.ANNOUNCEMENT}})],
    once: Idempotent,
) -> Response:
    """Queued by their preferences. With an Idempotency-Key it is said once, however often this is repeated."""

    async def work(connection: Transaction) -> StoredResponse:
        announced = await own.service.announce(connection, new)
        return StoredResponse(202, announced.model_dump_json().encode())

    return await once.do(own.database, SCHEMA, work)


@router.get(
    "/deliveries",
    summary="The ledger of deliveries, newest first",
    response_model=DeliveryPage,
    responses={200: example(examples.DELIVERIES)},
)
async def deliveries(
    own: Provided,
    operator: DeliveriesReader,
    request: Request,
    state: Annotated[State | None, Query(description="default: all")] = None,
    channel: Annotated[Channel | None, Query(description="default: all")] = None,
    subject: Annotated[Subject | None, Query(description="default: all")] = None,
    start: Annotated[Instant | None, Query(alias="from", description="recorded then or later")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="recorded before")] = None,
    limit: Annotated[int, Query(ge=1, le=DELIVERIES_MAX, description="on a page")] = DELIVERIES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """The first page has the counts of all of that time, channel and subject: queued = sent + failed + suppressed +
    waiting, and what was suppressed by its reason."""
    selected = DeliveryFilter(state, channel, subject, start, end)
    page, key = await own.service.deliveries(selected, limit, cursor)
    return _page(page, request, key)


def _page(page: Any, request: Request, key: str | None) -> Response:
    following = next_url(request.url, key)
    body = page.model_copy(update={"next": following}).model_dump_json()
    return Response(body, headers=link_header(following), media_type=JSON)
