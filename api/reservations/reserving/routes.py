"""Reservations over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response
from pydantic import StringConstraints

from api.reservations.callers import FORBIDDEN, Caller, Reader, driver_for
from api.reservations.components import PATH, Provided
from api.reservations.life.rule import ReservationState
from api.reservations.life.store import SCHEMA, ReservationFilter
from api.reservations.reserving import examples
from api.reservations.reserving.models import NewReservation, Reservation, ReservationDetails, ReservationPage
from api.reservations.reserving.responses import details_of, reservation_of
from kit.auth.stations import check_use
from kit.instants import Instant
from kit.messaging.outbox import Transaction
from kit.web.errors import Forbidden
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.problem import MEDIA_TYPE
from schemas.identifiers import PRINTABLE, DriverId, StationId

RESERVATIONS_MAX: Final = 1_000  # ~600 B each: 600 kB
RESERVATIONS_DEFAULT: Final = 100
_UNKNOWN: Final = {404: "No such reservation, or not yours"}
_TAKEN: Final[dict[str, Any]] = {
    "description": "It is taken then: `next_free` says when it is free. Or the driver may reserve no more",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": examples.TAKEN}},
}
IdInPath = Annotated[UUID, Path(openapi_examples={"reservation": {"value": examples.RESERVATION["id"]}})]
Reason = Annotated[
    str | None,
    StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE),
    Query(description="why, for the driver"),
]

router = APIRouter(prefix=PATH, tags=["reservations"], route_class=JsonRoute)


@router.get(
    "",
    name="many",  # part of the published operationId
    summary="Reservations, those that begin last first",
    response_model=ReservationPage,
    responses={**problems(FORBIDDEN), 200: example(examples.PAGE)},
)
async def list_reservations(
    reservations: Provided,
    caller: Reader,
    request: Request,
    station_id: Annotated[StationId | None, Query(description="only at this station")] = None,
    driver_id: Annotated[DriverId | None, Query(description="only of this driver; a driver has only their own")] = None,
    state: Annotated[ReservationState | None, Query(description="default: all")] = None,
    start: Annotated[Instant | None, Query(alias="from", description="that begin then or later")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="that begin before")] = None,
    limit: Annotated[int, Query(ge=1, le=RESERVATIONS_MAX, description="on a page")] = RESERVATIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """A driver's own; for operators a station's, a driver's, or all. Pages never repeat one, whatever is made
    meanwhile."""
    if caller.kind == "driver" and driver_id not in (None, caller.driver_id):
        raise Forbidden("a driver has only their own reservations; leave driver_id out")
    selected = ReservationFilter(caller.own_driver or driver_id, station_id, state, start, end, caller.only)
    found, key = await reservations.service.page(selected, limit, cursor)
    terms = reservations.service.terms()
    page = ReservationPage(reservations=[reservation_of(one, terms) for one in found], next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.post(
    "",
    status_code=201,
    summary="Reserve a connector or a bay",
    response_model=Reservation,
    responses={
        **problems({403: "Another driver's, or a station that the token is not for", 404: "No such place"}),
        201: example(examples.RESERVATION),
        409: _TAKEN,
    },
)
async def reserve(
    reservations: Provided,
    caller: Caller,
    new: Annotated[
        NewReservation,
        Body(
            openapi_examples={
                "connector": {"value": examples.NEW},
                "any of a plug, now": {"value": examples.NEW_OF_PLUG},
                "bay, held": {"value": examples.NEW_BAY},
            }
        ),
    ],
    once: Idempotent,
) -> Response:
    """For now or later. The place is kept free for some minutes before and after, which the driver may use. What is
    held is given back unless confirmed in time; anything else is confirmed."""
    driver_id = driver_for(caller, new.driver_id)
    if new.station_id is not None:
        await check_use(reservations.database, caller, new.station_id)

    async def work(connection: Transaction) -> StoredResponse:
        made = await reservations.service.reserve(connection, new, driver_id, caller.name, caller.bound)
        body = reservation_of(made, reservations.service.terms()).model_dump_json().encode()
        return StoredResponse(201, body, location=f"{PATH}/{made.id}")

    return await once.do(reservations.database, SCHEMA, work)


@router.get(
    "/{id}",
    name="one",  # part of the published operationId
    summary="A reservation",
    responses={**problems({**FORBIDDEN, **_UNKNOWN}), 200: example(examples.DETAILS)},
)
async def get_reservation(reservations: Provided, caller: Reader, id: IdInPath) -> ReservationDetails:
    """A driver sees only their own. With what standing there without charging costs, before it does, and from when on
    the vehicle stands there for too long."""
    found = await reservations.service.get(id, caller.own_driver, caller.only)
    fee = await reservations.parking.fee(reservations.database, found.place.station_id)
    stay = await reservations.parking.of_reservation(found)
    return details_of(found, reservations.service.terms(), fee, stay)


@router.post(
    "/{id}/confirm",
    summary="Confirm what is held",
    response_model=Reservation,
    responses={
        **problems({**FORBIDDEN, **_UNKNOWN, 409: "It was not confirmed in time, or is over"}),
        200: example(examples.RESERVATION),
    },
)
async def confirm(reservations: Provided, caller: Caller, id: IdInPath, once: Idempotent) -> Response:
    """Of one that is confirmed already, nothing changes."""

    async def work(connection: Transaction) -> StoredResponse:
        confirmed = await reservations.service.confirm(connection, id, caller.own_driver, caller.only)
        return StoredResponse(200, reservation_of(confirmed, reservations.service.terms()).model_dump_json().encode())

    return await once.do(reservations.database, SCHEMA, work)


@router.delete(
    "/{id}",
    summary="Cancel a reservation",
    responses={
        **problems({**FORBIDDEN, **_UNKNOWN, 409: "It is over: used, expired or a no-show"}),
        200: example(examples.CANCELLED),
    },
)
async def cancel(reservations: Provided, caller: Caller, id: IdInPath, reason: Reason = None) -> Reservation:
    """Free until `cancel_free_until`; a driver who cancels later is charged by the tariff's elements for reservations
    that expired. Of one that is cancelled already, nothing changes."""
    async with reservations.database.transaction() as connection:
        cancelled = await reservations.service.cancel(connection, id, caller.own_driver, caller.only, reason)
    return reservation_of(cancelled, reservations.service.terms())
