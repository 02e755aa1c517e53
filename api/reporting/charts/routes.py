"""Heat maps over HTTP."""

import asyncio
from enum import StrEnum
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from api.reporting.charts import examples, png, svg
from api.reporting.charts.models import HeatMapPage, Shape
from api.reporting.charts.service import picture
from api.reporting.components import Provided
from api.reporting.parameters import MetricInPath, Reader, TimeZoneInQuery
from kit.instants import Instant
from kit.web.parameters import JSON, choose, example, problems


class PictureFormat(StrEnum):
    """Of a heat map."""

    JSON = "json"
    SVG = "svg"
    PNG = "png"


_MEDIA_TYPES: Final = {PictureFormat.JSON: JSON, PictureFormat.SVG: svg.MEDIA_TYPE, PictureFormat.PNG: png.MEDIA_TYPE}
_FORMATS: Final = {media_type: format_ for format_, media_type in _MEDIA_TYPES.items()}

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"])


@router.get(
    "/{metric}/heat-map",
    summary="A metric by hour of the week, or by site and hour",
    response_model=HeatMapPage,
    responses={
        **problems({404: "There is no such metric", 406: "None of these formats"}),
        200: {
            "content": {
                **example(examples.HEAT_MAP)["content"],
                svg.MEDIA_TYPE: {"schema": {"type": "string"}},
                png.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            }
        },
    },
)
async def heat_map(
    reporting: Provided,
    caller: Reader,
    metric: MetricInPath,
    start: Annotated[Instant, Query(alias="from")],
    end: Annotated[Instant, Query(alias="to", description="exclusive; at most 92 days later")],
    shape: Annotated[Shape, Query(description="7 x 24 hours of a week; or sites by hour of the day")] = "week",
    timezone: TimeZoneInQuery = "UTC",
    format_: Annotated[PictureFormat | None, Query(alias="format", description="default: by Accept")] = None,
    accept: Annotated[str | None, Header()] = None,
) -> Response:
    """As JSON, SVG or PNG. A sum is shown as the mean of such an hour, a share of all of them together. The pictures
    are read in black and white, too; an hour without data is hatched."""
    wanted = format_ or _FORMATS[choose(accept, tuple(_FORMATS))]
    page = await reporting.heat_maps.page(metric, shape, start, end, timezone, caller.only)
    headers = {"Vary": "Accept"}
    if wanted is PictureFormat.JSON:
        return Response(page.model_dump_json(by_alias=True), headers=headers, media_type=JSON)
    draw = svg.to_svg if wanted is PictureFormat.SVG else png.to_png
    body = await asyncio.to_thread(lambda: draw(picture(page)))
    return Response(body, headers=headers, media_type=_MEDIA_TYPES[wanted])
