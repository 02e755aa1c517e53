"""Factors of CO2e over HTTP. Before those of analytics, whose `/{metric}` would take the path."""

from typing import Annotated, Final

from fastapi import APIRouter, Body, Path
from fastapi.responses import Response

from api.reporting.co2 import examples
from api.reporting.co2.models import FactorTable, FactorVersions, NewFactors
from api.reporting.co2.service import VERSIONS_MAX
from api.reporting.components import Provided
from api.reporting.parameters import FactorsEditor, FactorsReader
from api.reporting.schema import SCHEMA
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems

PATH: Final = "/api/v1/analytics/co2-factors"
_REFUSED: Final = {409: f"There are {VERSIONS_MAX} versions, or the Idempotency-Key was used for another request"}

router = APIRouter(prefix=PATH, tags=["analytics"], route_class=JsonRoute)


@router.get("", summary="Versions of CO2 factors", responses={200: example(examples.VERSIONS)})
async def versions(reporting: Provided, _: FactorsReader) -> FactorVersions:
    """Newest first. Hours of a year are computed with the newest version that is for it."""
    async with reporting.database.transaction() as connection:
        return await reporting.co2.versions(connection)


@router.get(
    "/{version}",
    summary="A version of CO2 factors, with its rows",
    responses={**problems({404: "No such version"}), 200: example(examples.TABLE)},
)
async def table(
    reporting: Provided,
    _: FactorsReader,
    version: Annotated[int, Path(ge=1, le=VERSIONS_MAX, openapi_examples={"version": {"value": 1}})],
) -> FactorTable:
    """Grams of CO2e per kWh of delivered energy, by the country of the station and the year."""
    async with reporting.database.transaction() as connection:
        return await reporting.co2.table(connection, version)


@router.post(
    "",
    status_code=201,
    summary="Publish a new version of CO2 factors",
    response_model=FactorTable,
    responses={**problems(_REFUSED), 201: example(examples.TABLE)},
)
async def publish(
    reporting: Provided,
    new: Annotated[NewFactors, Body(openapi_examples={"new": {"value": examples.NEW}})],
    operator: FactorsEditor,
    once: Idempotent,
) -> Response:
    """Hours of its years are computed again, some at a time; `pending_hours` of metric `co2` says how many wait.
    Versions are never changed or deleted: publish another one to correct one."""

    async def work(connection: Transaction) -> StoredResponse:
        made = await reporting.co2.publish(connection, new, operator.name)
        return StoredResponse(201, made.model_dump_json().encode(), location=f"{PATH}/{made.version}")

    return await once.do(reporting.database, SCHEMA, work)
