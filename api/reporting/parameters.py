"""Parameters that several of the service's routes have."""

from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import AfterValidator

from api.time_zones import checked_time_zone
from kit.auth.authenticator import require_kinds
from kit.auth.token_store import Principal

check_reader = require_kinds("operator", "finance")
Reader = Annotated[Principal, Depends(check_reader)]
Operator = Annotated[Principal, Depends(require_kinds("operator"))]
MetricInPath = Annotated[
    str, Path(max_length=64, openapi_examples={one: {"value": one} for one in ("energy_delivered", "co2", "mttr")})
]
TimeZoneInQuery = Annotated[
    str,
    AfterValidator(checked_time_zone),
    Query(max_length=64, description="IANA: in which days, weeks and months begin, and by which hours of the day are"),
]
