"""Waiting lists over HTTP. Thin: parameters in, one call of the service, one response out."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final
from uuid import UUID, uuid4

from fastapi import APIRouter, Body, Path, Query
from fastapi.responses import Response

from api.reservations.callers import FORBIDDEN, LineCaller, LineReader, check_line, driver_for
from api.reservations.components import PATH, Provided, ReservationsComponents
from api.reservations.life.store import SCHEMA
from api.reservations.reserving.models import Name
from api.reservations.reserving.responses import reservation_of
from api.reservations.waiting import examples
from api.reservations.waiting.models import NewWaiting, Waiting, WaitingLine
from api.reservations.waiting.service import InLine
from api.reservations.waiting.store import Entry
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery
from kit.web.idempotency import Idempotent, RequestIdentity, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems

WAITING: Final = f"{PATH}/waiting"
_UNKNOWN: Final = {404: "No such entry, or not yours"}
_CHANGING: Final = {**FORBIDDEN, **_UNKNOWN, 409: "It is no longer in the line, or nothing is offered to it"}
IdInPath = Annotated[UUID, Path(openapi_examples={"entry": {"value": examples.WAITING["id"]}})]

router = APIRouter(prefix=WAITING, tags=["reservations"], route_class=JsonRoute)


@router.get("", summary="Who waits", responses={**problems(FORBIDDEN), 200: example(examples.LINE)})
async def line(
    reservations: Provided,
    caller: LineReader,
    site: Annotated[Name | None, Query(description="operators: the line of this site")] = None,
) -> WaitingLine:
    """A driver's own entries, newest first; for operators the line of a site, in order."""
    driver_id = caller.own_driver
    if driver_id is None and site is None:
        raise BadQuery("query/site: an operator names the site")
    if driver_id is None:
        assert site is not None  # noqa: S101  # as above
        found = await reservations.waiting.line(site)
    else:
        own = await reservations.waiting.of_driver(driver_id)
        found = [one for one in own if site in (None, one.entry.site)]
    return WaitingLine(waiting=[_waiting(one, reservations) for one in found])


@router.post(
    "",
    status_code=201,
    summary="Join the line of a site",
    response_model=Waiting,
    responses={
        **problems(
            {
                403: "Another driver, or a token for some stations",
                404: "The site has no such connector that is in order",
                409: "The driver is in the line already, or it is too long",
            }
        ),
        201: example(examples.WAITING),
    },
)
async def join(
    reservations: Provided,
    caller: LineCaller,
    new: Annotated[NewWaiting, Body(openapi_examples={"fast": {"value": examples.NEW_WAITING}})],
    once: Idempotent,
) -> Response:
    """Drivers are served in the order in which they joined. A connector that becomes free is offered for some minutes
    to the first whom it suits: a held reservation, which `reservation.created.v1` tells of."""
    check_line(caller)
    entry = Entry(
        id=uuid4(),
        number=0,
        site=new.site,
        driver_id=driver_for(caller, new.driver_id),
        standard=new.standard,
        power_w_min=new.power_w_min,
        duration_s=new.duration_s,
        joined_at=reservations.clock.now(),
        state="waiting",
        skipped_until=None,
        reservation_id=None,
    )

    async def work(connection: Transaction) -> StoredResponse:
        joined = await reservations.waiting.join(connection, entry)
        body = _waiting(joined, reservations).model_dump_json().encode()
        return StoredResponse(201, body, location=f"{WAITING}/{entry.id}")

    return await once.do(reservations.database, SCHEMA, work)


@router.get(
    "/{id}",
    summary="A driver's place in the line",
    responses={**problems({**FORBIDDEN, **_UNKNOWN}), 200: example(examples.WAITING)},
)
async def see(reservations: Provided, caller: LineReader, id: IdInPath) -> Waiting:
    """With the estimated wait, and what is offered. A driver sees only their own."""
    return _waiting(await reservations.waiting.see(id, caller.own_driver), reservations)


@router.post(
    "/{id}/accept",
    summary="Accept what is offered",
    response_model=Waiting,
    responses={**problems(_CHANGING), 200: example(examples.ACCEPTED)},
)
async def accept(reservations: Provided, caller: LineCaller, id: IdInPath, once: Idempotent) -> Response:
    """Confirms the held reservation. Again, nothing."""
    return await _once(reservations, once, lambda on: reservations.waiting.accept(on, id, caller.own_driver))


@router.post(
    "/{id}/skip",
    summary="Let others be served first",
    response_model=Waiting,
    responses={**problems(_CHANGING), 200: example(examples.WAITING)},
)
async def skip(reservations: Provided, caller: LineCaller, id: IdInPath, once: Idempotent) -> Response:
    """For as long as an offer lasts. The place in the line is kept; what was offered goes to the next."""
    return await _once(reservations, once, lambda on: reservations.waiting.skip(on, id, caller.own_driver))


@router.delete("/{id}", summary="Leave the line", responses={**problems(_CHANGING), 200: example(examples.LEFT)})
async def leave(reservations: Provided, caller: LineCaller, id: IdInPath) -> Waiting:
    """What was offered goes to the next. Again, nothing."""
    async with reservations.database.transaction() as connection:
        left = await reservations.waiting.leave(connection, id, caller.own_driver)
    return _waiting(left, reservations)


async def _once(
    reservations: ReservationsComponents,
    once: RequestIdentity,
    change: Callable[[Transaction], Awaitable[InLine]],
) -> Response:
    async def work(connection: Transaction) -> StoredResponse:
        body = _waiting(await change(connection), reservations).model_dump_json().encode()
        return StoredResponse(200, body)

    return await once.do(reservations.database, SCHEMA, work)


def _waiting(one: InLine, reservations: ReservationsComponents) -> Waiting:
    names = ("id", "site", "driver_id", "standard", "power_w_min", "duration_s", "joined_at", "state", "skipped_until")
    wait, terms = one.estimated_wait, reservations.service.terms()
    return Waiting.model_validate(
        {
            **{name: getattr(one.entry, name) for name in names},
            "position": one.position,
            "estimated_wait_s": None if wait is None else round(wait.total_seconds()),
            "offer": None if one.offer is None else reservation_of(one.offer, terms),
        }
    )
