"""Requests and responses of the pricing service, as OpenAPI shows them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from api.names import GroupName
from api.pricing.documents.tariff import checked_tariff
from api.time_zones import checked_time_zone
from kit.clock import from_ms, to_ms
from kit.instants import parse_instant
from schemas.identifiers import StationId
from schemas.tariff import Tariff

TargetKind = Literal["station", "group", "default"]
Reason = Literal["operator", "demand"]


@dataclass(frozen=True, slots=True)
class TariffTarget:
    """The stations that a tariff is for. The default has an empty name."""

    kind: TargetKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


DEFAULT: Final = TariffTarget("default", "")


def _moment(value: object) -> datetime:
    """Whole milliseconds, rounded down, as in readings and events."""
    if not isinstance(value, str):
        raise ValueError("write a moment as RFC 3339 with offset, like 2026-01-31T23:59:59Z")
    return from_ms(to_ms(parse_instant(value)))


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
TimeZone = Annotated[str, AfterValidator(checked_time_zone), Field(examples=["Europe/Amsterdam"])]


class PricingModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NamedTarget(PricingModel):
    """Exactly one of the three."""

    station_id: StationId | None = None
    group: GroupName | None = None
    default: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if sum(value is not None for value in (self.station_id, self.group, self.default)) != 1:
            raise ValueError('write {"station_id": …}, {"group": …} or "default"')
        return self

    def target(self) -> TariffTarget:
        """The target as one value."""
        if self.station_id is not None:
            return TariffTarget("station", self.station_id)
        return DEFAULT if self.group is None else TariffTarget("group", self.group)


def target_json(target: TariffTarget) -> dict[str, str] | str:
    """As requests and responses write it."""
    names = {"station": {"station_id": target.name}, "group": {"group": target.name}}
    return names.get(target.kind, "default")


TARGET_SCHEMA: Final[dict[str, Any]] = {
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
    WithJsonSchema(TARGET_SCHEMA),
]


class NewVersion(PricingModel):
    """A tariff to be published."""

    target: Annotated[TargetInBody, Field(description="a station, a group, or every station without either")]
    time_zone: TimeZone = Field(description="IANA; in it the tariff's times and days are meant")
    effective_from: Annotated[Moment | None, Field(description="default: now; whole ms, rounded down")] = None
    tariff: Annotated[
        Tariff, AfterValidator(checked_tariff), Field(description="OCPI 2.2.1 Tariff; unknown fields are refused")
    ]


_DOCUMENT: Final = "OCPI 2.2.1 Tariff as it was published; its numbers are exact decimals"


class PublicVersion(PricingModel):
    """A tariff version, as drivers may see it."""

    id: UUID
    target: Annotated[Any, WithJsonSchema(TARGET_SCHEMA)]
    time_zone: str
    currency: str
    effective_from: datetime
    published_at: datetime
    reason: Reason = Field(description="an operator published it, or the demand rule")
    tariff: dict[str, Any] = Field(description=_DOCUMENT)


class Version(PublicVersion):
    """A tariff version. It never changes."""

    published_by: str = Field(description="the token that published it, or the rule")
    base_version: UUID | None = Field(
        description="of the demand rule's: the operators' version that it moved; null also where that is not known"
    )


class PublishedVersion(Version):
    """A tariff version that was just published."""

    warnings: list[str] = Field(
        description="elements and components that can never count, by their path inside the tariff: it is published "
        "and priced as it stands, but may not be what was meant"
    )


class VersionPage(PricingModel):
    """A page of versions, published last first."""

    versions: list[Version]
    next: str | None = Field(description="address of the next page; null on the last")


class Change(PricingModel):
    """The next moment at which another version comes in force."""

    at: datetime
    version_id: UUID | None = Field(description="null: from then on no tariff applies")


class InForce(PricingModel):
    """The tariff of a station's sessions that begin at `at`."""

    station_id: str
    at: datetime
    version: PublicVersion
    next: Change | None = Field(description="null: none is known")
