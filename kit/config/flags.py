"""Feature flags: for whom one is on. Pure.

The rule decides in this order:

1. not `enabled`: off;
2. the station, organisation or role is excepted: off;
3. the station, organisation or role is targeted: on;
4. otherwise on for `percentage` of the targeting keys. A key is in one of 10,000 buckets for good: the first 8 bytes of
   SHA-256 over `<flag>/<key>`, big endian, modulo 10,000; it is on where its bucket is below `percentage` x 100. So a
   higher percentage only adds keys, a lower one only removes them, and two flags divide the same keys differently.
   Without a key, only 100 is on.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_serializer

BUCKETS: Final = 10_000  # hundredths of a percent
TARGETS_MAX: Final = 1_000  # of one kind; ~40 B each: 40 kB
_HUNDRED: Final = Decimal(100)


class DecidedBy(StrEnum):
    """Why a flag is on or off."""

    DISABLED = "disabled"
    EXCEPTED = "excepted"
    TARGETED = "targeted"
    EVERYONE = "everyone"  # 100 percent
    SHARE = "share"  # the key's bucket decided


@dataclass(frozen=True, slots=True)
class FlagSubject:
    """Whom or what a flag is asked for. `key`: what a percentage divides; empty: the station, else the organisation."""

    station_id: str = ""  # upper case
    organisation: str = ""
    role: str = ""
    key: str = ""

    @property
    def targeting_key(self) -> str:
        """The key of the roll-out; empty where there is none."""
        return self.key or self.station_id or self.organisation


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")
]
_Names = Annotated[frozenset[_Name], Field(max_length=TARGETS_MAX)]
_Stations = Annotated[frozenset[Annotated[_Name, BeforeValidator(_upper)]], Field(max_length=TARGETS_MAX)]


class FlagTargets(BaseModel):
    """Stations, organisations and roles by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stations: _Stations = frozenset()
    organisations: _Names = frozenset()
    roles: _Names = frozenset()

    @field_serializer("stations", "organisations", "roles")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        return sorted(names)

    @property
    def empty(self) -> bool:
        """Whether nothing is named here."""
        return not (self.stations or self.organisations or self.roles)

    def include(self, subject: FlagSubject) -> bool:
        """Whether the subject is named here."""
        return (
            subject.station_id in self.stations
            or subject.organisation in self.organisations
            or subject.role in self.roles
        )


class FlagRule(BaseModel):
    """For whom a flag is on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(description="false: off for everyone")
    percentage: Decimal = Field(
        default=_HUNDRED,
        ge=0,
        le=100,
        decimal_places=2,
        allow_inf_nan=False,
        description="share of all others for whom it is on, in percent with up to two decimals",
    )
    targets: FlagTargets = Field(default=FlagTargets(), description="on for these, whatever the percentage")
    excepted: FlagTargets = Field(default=FlagTargets(), description="off for these, even if they are targeted")

    def decide(self, flag: str, subject: FlagSubject) -> tuple[bool, DecidedBy]:
        """Whether it is on for the subject, and why."""
        if not self.enabled:
            return False, DecidedBy.DISABLED
        if self.excepted.include(subject):
            return False, DecidedBy.EXCEPTED
        if self.targets.include(subject):
            return True, DecidedBy.TARGETED
        if self.percentage == _HUNDRED:
            return True, DecidedBy.EVERYONE
        key = subject.targeting_key
        return bool(key) and bucket_of(flag, key) < self.percentage * 100, DecidedBy.SHARE

    def changed_for(self, flag: str, before: "FlagRule", stations: Iterable[str]) -> list[str]:
        """Those of these stations (upper case) for which this rule decides otherwise than `before` did."""
        subjects = (FlagSubject(station_id=station) for station in stations)
        return [
            subject.station_id
            for subject in subjects
            if self.decide(flag, subject)[0] != before.decide(flag, subject)[0]
        ]


def bucket_of(flag: str, key: str) -> int:
    """The key's bucket, 0 to 9,999: always the same."""
    digest = hashlib.sha256(f"{flag}/{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS
