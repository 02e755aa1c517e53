"""Parameters that the routes of several services share, beside those of kit/web/parameters.py."""

from typing import Annotated, Final

from fastapi import Path
from fastapi.openapi.models import Example

from schemas.identifiers import KnownStationId, StationId

_EXAMPLES: Final[dict[str, Example]] = {"station": {"value": "DE-VS-0001"}}
StationInPath = Annotated[StationId, Path(openapi_examples=_EXAMPLES)]
KnownStationInPath = Annotated[KnownStationId, Path(openapi_examples=_EXAMPLES)]
"""Of a station to be shown or removed, which an earlier release may have registered."""
