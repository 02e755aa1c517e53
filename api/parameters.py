"""Parameters that the routes of several services share, beside those of kit/web/parameters.py."""

from typing import Annotated

from fastapi import Path

from schemas.identifiers import StationId

StationInPath = Annotated[StationId, Path(openapi_examples={"station": {"value": "DE-VS-0001"}})]
