"""Parameters that several of the service's routes have."""

from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import AfterValidator

from api.time_zones import checked_time_zone
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal

check_reader = require_scope("analytics:read", heeds_stations=True)
Reader = Annotated[Principal, Depends(check_reader)]
Editor = Annotated[Principal, Depends(require_scope("analytics:write", heeds_stations=True))]
FactorsReader = Annotated[Principal, Depends(require_scope("analytics:read"))]
FactorsEditor = Annotated[Principal, Depends(require_scope("analytics:write"))]
ReportsReader = Annotated[Principal, Depends(require_scope("reports:read", heeds_stations=True))]
ReportsWriter = Annotated[Principal, Depends(require_scope("reports:write", heeds_stations=True))]
MetricInPath = Annotated[
    str, Path(max_length=64, openapi_examples={one: {"value": one} for one in ("energy_delivered", "co2", "mttr")})
]
TimeZoneInQuery = Annotated[
    str,
    AfterValidator(checked_time_zone),
    Query(max_length=64, description="IANA: in which days, weeks and months begin, and by which hours of the day are"),
]
