"""What pricing is told and what it answers."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from api.pricing.documents.tariff import checked_tariff, checked_time_zone
from kit.clock import from_ms, to_ms
from kit.web.instants import parse_instant
from schemas.identifiers import StationId
from schemas.tariff import Tariff

STATIONS_MAX: Final = 5_000  # of one group, 39 bytes each in JSON: 195 kB, within a body
HOLD_S_MIN: Final = 60  # what connectors do is known a minute at a time
HOLD_S_MAX: Final = 86_400
FACTOR_MAX: Final = 100

TargetKind = Literal["station", "group", "default"]
Reason = Literal["operator", "demand"]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a tariff is for. The default has an empty name."""

    kind: TargetKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


DEFAULT: Final = Target("default", "")


def _moment(value: object) -> datetime:
    """Whole milliseconds, rounded down: what readings have, and what events say of it."""
    if not isinstance(value, str):
        raise ValueError("write a moment as RFC 3339 with offset, like 2026-01-31T23:59:59Z")
    return from_ms(to_ms(parse_instant(value)))


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
TimeZone = Annotated[str, AfterValidator(checked_time_zone), Field(examples=["Europe/Amsterdam"])]
Group = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A group's name, compared with case."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NamedTarget(_Strict):
    """Exactly one of the three."""

    station_id: StationId | None = None
    group: Group | None = None
    default: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if sum(value is not None for value in (self.station_id, self.group, self.default)) != 1:
            raise ValueError('write {"station_id": …}, {"group": …} or "default"')
        return self

    def target(self) -> Target:
        """As the code has it."""
        if self.station_id is not None:
            return Target("station", self.station_id)
        return DEFAULT if self.group is None else Target("group", self.group)


def target_answer(target: Target) -> dict[str, str] | str:
    """As answers and requests write it."""
    names = {"station": {"station_id": target.name}, "group": {"group": target.name}}
    return names.get(target.kind, "default")


_TARGET_SCHEMA: Final[dict[str, Any]] = {
    "oneOf": [
        {
            "type": "object",
            "required": [name],
            "properties": {name: {"type": "string", "minLength": 1}},
            "additionalProperties": False,
        }
        for name in ("station_id", "group")
    ]
    + [{"const": "default"}]
}
TargetInBody = Annotated[
    NamedTarget,
    BeforeValidator(lambda value: {"default": True} if value == "default" else value),
    WithJsonSchema(_TARGET_SCHEMA),
]


class NewVersion(_Strict):
    """A tariff to be published."""

    target: Annotated[TargetInBody, Field(description="a station, a group, or every station without either")]
    time_zone: TimeZone = Field(description="IANA; in it the tariff's times and days are meant")
    effective_from: Annotated[Moment | None, Field(description="default: now; whole ms, rounded down")] = None
    tariff: Annotated[
        Tariff, AfterValidator(checked_tariff), Field(description="OCPI 2.2.1 Tariff; unknown fields are refused")
    ]


_DOCUMENT: Final = "OCPI 2.2.1 Tariff as it was published; its numbers are exact decimals"


class PublicVersion(_Strict):
    """A tariff version, as drivers may see it."""

    id: UUID
    target: Annotated[Any, WithJsonSchema(_TARGET_SCHEMA)]
    time_zone: str
    currency: str
    effective_from: datetime
    published_at: datetime
    reason: Reason = Field(description="who moved the price: an operator, or the demand rule")
    tariff: dict[str, Any] = Field(description=_DOCUMENT)


class Version(PublicVersion):
    """A tariff version. It never changes."""

    published_by: str = Field(description="the token that published it, or the rule")


class VersionPage(_Strict):
    """A page of versions, published last first."""

    versions: list[Version]
    next: str | None = Field(description="address of the next page; null on the last")


class Change(_Strict):
    """The next moment at which another version comes in force."""

    at: datetime
    version_id: UUID | None = Field(description="null: from then on no tariff applies")


class InForce(_Strict):
    """What a station's sessions that begin at `at` are priced by."""

    station_id: str
    at: datetime
    version: PublicVersion
    next: Change | None = Field(description="null: none is known")


class GroupMembers(_Strict):
    """The stations of a group, all of them."""

    stations: Annotated[list[StationId], Field(max_length=STATIONS_MAX)]


class Moved(_Strict):
    """A station that left another group for this one."""

    station_id: str
    group: str = Field(description="the one it left")


class GroupAnswer(_Strict):
    """A group."""

    group: str
    stations: list[str]


class GroupReplaced(GroupAnswer):
    """A group as it is now."""

    moved: list[Moved] = Field(description="stations that were in another group: a station is in one")


def _digits(value: Decimal) -> Decimal:
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -4:
        raise ValueError("at most 4 digits after the point")
    return value


_FourDigits = AfterValidator(_digits)
Factor = Annotated[Decimal, Field(ge=0, le=FACTOR_MAX, allow_inf_nan=False), _FourDigits]
EnergyPrice = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False), _FourDigits]
Percent = Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False), _FourDigits]


class Bounds(_Strict):
    """Between which the ENERGY price moves: two factors of the base tariff's, or two prices per kWh."""

    min_factor: Factor | None = None
    max_factor: Factor | None = None
    min_price: EnergyPrice | None = None
    max_price: EnergyPrice | None = None

    @model_validator(mode="after")
    def _a_pair(self) -> Self:
        factors, prices = (self.min_factor, self.max_factor), (self.min_price, self.max_price)
        given = [pair for pair in (factors, prices) if pair != (None, None)]
        if len(given) != 1 or None in given[0]:
            raise ValueError("give min_factor and max_factor, or min_price and max_price")
        if self.min_factor is not None and self.max_factor is not None and not self.min_factor <= 1 <= self.max_factor:
            raise ValueError("min_factor is at most 1 and max_factor at least 1: the base price lies between them")
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError("min_price is above max_price")
        return self


class DemandRule(_Strict):
    """How demand moves a target's ENERGY prices.

    Where the share of the target's connectors that charge is at or above `raise_above_pct`, prices go a step up; at or
    below `lower_below_pct` a step down; between, they stay.
    """

    base_version: Annotated[
        UUID | None, Field(description="an operators' version of this target; default: whichever they have in force")
    ] = None
    raise_above_pct: Percent
    lower_below_pct: Percent
    bounds: Bounds
    step_pct: Annotated[Percent, Field(gt=0, description="of the base price")]
    hold_s: Annotated[int, Field(ge=HOLD_S_MIN, le=HOLD_S_MAX, description="prices stay at least that long")]

    @model_validator(mode="after")
    def _thresholds_apart(self) -> Self:
        if self.lower_below_pct >= self.raise_above_pct:
            raise ValueError("lower_below_pct is to be below raise_above_pct")
        return self


class DemandState(_Strict):
    """A demand rule, and where it stands."""

    target: Annotated[Any, WithJsonSchema(_TARGET_SCHEMA)]
    rule: DemandRule
    base: UUID | None = Field(description="the version that is moved; null while the operators have none in force")
    level: int = Field(description="steps above the base price, or below")
    changed_at: datetime | None = Field(description="when it last took a step")
    connectors: int = Field(description="of the target, heard of in the last 24 h")
    charging: int = Field(description="of these")
