"""Notifications and preferences over HTTP. Thin: parameters in, one call of the service, one response out.

A driver asks for themself; an operator for any subject, without one for their own.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import Response

from api.notifications.components import NotificationComponents
from api.notifications.deliveries import examples
from api.notifications.deliveries.models import (
    Announced,
    DeliveryPage,
    NewAnnouncement,
    NotificationPage,
    Preferences,
    State,
    StoredPreferences,
    Subject,
    WebhookSecret,
)
from api.notifications.deliveries.store import SCHEMA, DeliveryFilter
from api.notifications.kinds import Channel
from api.notifications.notices.consumers import driver_subject
from kit.auth.authenticator import require_kinds
from kit.auth.token_store import Principal
from kit.instants import Instant
from kit.messaging.outbox import Transaction
from kit.service import provided
from kit.web.errors import Forbidden
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems

PREFIX: Final = "/api/v1/notifications"
NOTIFICATIONS_MAX: Final = 200  # with five deliveries of 4 kB each: 4 MB
NOTIFICATIONS_DEFAULT: Final = 50
DELIVERIES_MAX: Final = 1_000  # ~500 B each
DELIVERIES_DEFAULT: Final = 100
_OTHERS: Final = {403: "The token is of another kind, or the subject is not the driver's own"}

Provided = Annotated[NotificationComponents, Depends(provided(NotificationComponents))]
Caller = Annotated[Principal, Depends(require_kinds("operator", "driver"))]
Operator = Annotated[Principal, Depends(require_kinds("operator"))]
SubjectInQuery = Annotated[Subject | None, Query(description="whose; default: the caller's own")]

router = APIRouter(prefix=PREFIX, tags=["notifications"])


@router.get(
    "",
    summary="A recipient's notifications, newest first",
    response_model=NotificationPage,
    responses={**problems(_OTHERS), 200: example(examples.PAGE)},
)
async def notifications(
    own: Provided,
    caller: Caller,
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
    operator: Operator,
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
    responses={**problems(), 200: example(examples.DELIVERIES)},
)
async def deliveries(
    own: Provided,
    operator: Operator,
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


@router.get(
    "/preferences",
    summary="How a recipient is notified",
    responses={**problems(_OTHERS), 200: example(examples.STORED_PREFERENCES)},
)
async def preferences(own: Provided, caller: Caller, subject: SubjectInQuery = None) -> StoredPreferences:
    """Addresses, modes by category and channel, quiet hours, language; and the modes that follow with the defaults."""
    return await own.service.preferences(subject_of(caller, subject))


@router.put(
    "/preferences",
    summary="Choose how to be notified",
    responses={**problems(_OTHERS), 200: example(examples.STORED_PREFERENCES)},
)
async def put_preferences(
    own: Provided,
    caller: Caller,
    body: Annotated[Preferences, Body(openapi_examples={"some": {"value": examples.PREFERENCES}})],
    subject: SubjectInQuery = None,
) -> StoredPreferences:
    """All of them are replaced; what is left out is the default. They hold for what comes, not for what waits."""
    return await own.service.put_preferences(subject_of(caller, subject), body, actor_of(caller))


@router.get(
    "/preferences/webhook-secret",
    summary="What webhooks are verified with",
    responses={**problems({**_OTHERS, 404: "Webhooks are not configured"}), 200: example(examples.SECRET)},
)
async def webhook_secret(own: Provided, caller: Caller, subject: SubjectInQuery = None) -> WebhookSecret:
    """The recipient's own secret, in the form of Standard Webhooks. The signature covers `webhook-id`,
    `webhook-timestamp` and the body; refuse timestamps that are minutes old, and ids that came before."""
    return WebhookSecret(secret=own.service.webhook_secret(subject_of(caller, subject)))


def subject_of(caller: Principal, subject: str | None) -> str:
    """Whose notifications are meant. Raises Forbidden."""
    if caller.kind == "operator":
        return subject or actor_of(caller)
    own = driver_subject(caller.driver_id)
    if subject not in (None, own):
        raise Forbidden("a driver has only their own notifications; leave subject out")
    return own


def actor_of(caller: Principal) -> str:
    """Who it is, as histories name them."""
    return f"{caller.kind}/{caller.subject or caller.token_id}"


def _page(page: Any, request: Request, key: str | None) -> Response:
    following = next_url(request.url, key)
    body = page.model_copy(update={"next": following}).model_dump_json()
    return Response(body, headers=link_header(following), media_type=JSON)
