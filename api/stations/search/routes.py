"""The search over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api.stations.components import PATH, Provided, Seeker
from api.stations.search import examples
from api.stations.search.models import Search, SearchPage
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, example

router = APIRouter(prefix=PATH, tags=["stations"])


@router.get(
    "/search",
    summary="Find stations by place, plug, power, text, and what is free, open and cheap now",
    response_model=SearchPage,
    responses={200: example(examples.FOUND)},
)
async def search(stations: Provided, seeker: Seeker, request: Request, asked: Annotated[Search, Query()]) -> Response:
    """Around a place or in a box; the nearest first, or the cheapest. Pages never repeat a station; what is free is
    of the moment of each page."""
    page, key = await stations.search.search(asked, seeker.only)
    page = page.model_copy(update={"next": next_url(request.url, key)})
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)
