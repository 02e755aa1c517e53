"""Groups, and stations without a tariff, over HTTP."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from api.names import GroupName
from api.pricing import examples
from api.pricing.components import PricingComponents
from api.pricing.stations.models import GroupPage, WithoutTariffPage
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.service import provided
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems

STATIONS_MAX: Final = 5_000  # 39 bytes each in JSON: 195 kB
STATIONS_DEFAULT: Final = 1_000

Reader = Annotated[Principal, Depends(require_scope("tariffs:read", heeds_stations=True))]
Provided = Annotated[PricingComponents, Depends(provided(PricingComponents))]
Limit = Annotated[int, Query(ge=1, le=STATIONS_MAX, description="stations on a page")]

router = APIRouter(prefix="/api/v1/pricing", tags=["pricing"])


@router.get(
    "/groups/{group}",
    summary="The stations of a group",
    response_model=GroupPage,
    responses={**problems({404: "No such group"}), 200: example(examples.GROUP)},
)
async def group(
    pricing: Provided,
    reader: Reader,
    request: Request,
    group: Annotated[GroupName, Path(openapi_examples={"group": {"value": "airport"}})],
    limit: Limit = STATIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """By their ids. A station is in the group that the stations service has for it: change it there."""
    stations, key = await pricing.stations.members(group, limit, cursor, reader.only)
    page = GroupPage(group=group, stations=list(stations), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/stations/without-tariff",
    summary="Registered stations that no tariff applies to",
    response_model=WithoutTariffPage,
    responses={200: example(examples.WITHOUT_TARIFF)},
)
async def without_tariff(
    pricing: Provided, reader: Reader, request: Request, limit: Limit = STATIONS_DEFAULT, cursor: CursorInQuery = None
) -> Response:
    """By their ids: neither they nor their group have a tariff in force now, and there is no default. Nothing that is
    charged there is billed."""
    stations, key = await pricing.stations.without_tariff(limit, cursor, reader.only)
    page = WithoutTariffPage(stations=list(stations), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)
