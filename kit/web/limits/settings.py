"""Settings of the limits of requests: of every process that serves routes."""

from pydantic import BaseModel, Field

from kit.config.adjustable import adjustable

_MAX = 1_000_000_000


class RequestLimitSettings(BaseModel):
    """Requests that a process answers in a minute; 0: any number."""

    # 2,000 a second: more than a page or a script asks for, and a fifth of what a process of the API answers.
    requests_per_minute_max: int = Field(
        default=120_000,
        ge=0,
        le=_MAX,
        description="requests a minute of one token of an operator, finance or driver; 0: any number",
        json_schema_extra=adjustable("api.requests_per_minute"),
    )
    # 100 a second: a station with 20 connectors says five things a second of each.
    station_requests_per_minute_max: int = Field(
        default=6_000,
        ge=0,
        le=_MAX,
        description="requests a minute of a device's token, for each station that it names; 0: any number",
        json_schema_extra=adjustable("api.station_requests_per_minute"),
    )
    # 100,000 a second: what one process cannot answer.
    fleet_requests_per_minute_max: int = Field(
        default=6_000_000,
        ge=0,
        le=_MAX,
        description="requests a minute of a device's token for all stations; 0: any number",
        json_schema_extra=adjustable("api.fleet_requests_per_minute"),
    )
    # 100 a second: a car park of 1,000 stations whose token was revoked, each trying again every ten seconds.
    unauthenticated_per_minute_max: int = Field(
        default=6_000,
        ge=0,
        le=_MAX,
        description="requests a minute of one address without an accepted token; 0: any number",
        json_schema_extra=adjustable("api.unauthenticated_per_minute"),
    )
