"""Chargers' credentials over HTTP."""

from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends

from api.parameters import StationInPath
from api.stations.components import PATH, Provided
from api.stations.credentials import examples
from api.stations.credentials.models import Credentials, NewCredentials
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems

_NONE: Final = {404: "The station is not registered, or has no credentials"}

_TAKEN: Final = {409: "Another station has the certificate_subject"}

_CHANGES: Final = Depends(require_scope("credentials:write"))

router = APIRouter(prefix=PATH, tags=["stations"], route_class=JsonRoute)


@router.put(
    "/{station_id}/credentials",
    summary="Set a charger's credentials",
    responses={**problems(_NONE | _TAKEN), 200: example(examples.CREDENTIALS)},
)
async def put_credentials(
    stations: Provided,
    station_id: StationInPath,
    body: Annotated[NewCredentials, Body(openapi_examples={"both": {"value": examples.NEW_CREDENTIALS}})],
    operator: Annotated[Principal, _CHANGES],
) -> Credentials:
    """In place of whatever it had. The password is stored hashed and shown to nobody.

    With a client certificate of that common name, and no token, a charger behind a trusted proxy posts its readings.
    """
    return await stations.credentials.put(station_id, body, operator)


@router.get(
    "/{station_id}/credentials",
    summary="Which credentials a charger has",
    dependencies=[Depends(require_scope("credentials:read"))],
    responses={**problems(_NONE), 200: example(examples.CREDENTIALS)},
)
async def get_credentials(stations: Provided, station_id: StationInPath) -> Credentials:
    """Not the password."""
    return await stations.credentials.credentials(station_id)


@router.delete(
    "/{station_id}/credentials",
    status_code=204,
    summary="Take a charger's credentials away",
    dependencies=[_CHANGES],
    responses=problems(_NONE),
)
async def delete_credentials(stations: Provided, station_id: StationInPath) -> None:
    """It cannot connect with them any more. A station that is retired loses them too."""
    await stations.credentials.delete(station_id)
