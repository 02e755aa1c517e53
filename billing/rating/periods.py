"""The usage of a session as people write it: periods one after the other, for `voltstream rate`.

`{"start": "2026-01-31T09:00:00+01:00", "time_zone": "Europe/Amsterdam", "periods": [{"kind": "CHARGING", "minutes": 60,
"energy_kwh": "20", "current_a": null, "power_w": null}]}`. Numbers are integers, JSON numbers or decimal strings; they
are read exactly. A start without an offset is local time.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from billing.rating.local_time import EPOCH, exists_once, moment_of
from billing.rating.meter import UJ_PER_MWH
from billing.rating.usage import EnergyStretch, TimeStretch, Usage, UsageInterval, reservation_usage
from schemas.session import UsageKind

PERIODS_MAX: Final = 10_000
MINUTES_MAX: Final = 527_040  # 366 days, of all periods together
_MINUTE_MS: Final = 60_000
_LOCAL: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?", re.ASCII)
_OFFSET: Final = re.compile(r"(.*\d)(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_NUMBER: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


def _exact(value: Any) -> Any:
    """Only what says a number exactly; pydantic would take more."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError('is no decimal number like "1.25"')
    return value


def _whole(per_unit: int, part: str) -> AfterValidator:
    def check(value: Decimal) -> Decimal:
        if value * per_unit % 1:
            raise ValueError(f"is finer than a {part}: round it")
        return value

    return AfterValidator(check)


Minutes = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=MINUTES_MAX), _whole(_MINUTE_MS, "millisecond")]
Kwh = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=1_000_000), _whole(1_000_000, "mWh")]
Ampere = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=10_000), _whole(1_000, "mA")]
Watt = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=10_000_000), _whole(1_000, "mW")]


class WrittenPeriod(BaseModel):
    """A while of one kind, with its energy spread evenly over it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["CHARGING", "PARKING", "RESERVATION", "RESERVATION_EXPIRED"]
    minutes: Minutes
    energy_kwh: Kwh | None = None
    current_a: Ampere | None = None  # None: 0
    power_w: Watt | None = None  # None: the average, where there is energy

    @model_validator(mode="after")
    def _reservations_use_nothing(self) -> Self:
        if self.is_reservation and (self.energy_kwh or self.current_a or self.power_w):
            raise ValueError("a reservation has only minutes: leave energy_kwh, current_a and power_w out")
        return self

    @property
    def is_reservation(self) -> bool:
        """Whether nobody is plugged in yet."""
        return self.kind in ("RESERVATION", "RESERVATION_EXPIRED")

    @property
    def length_ms(self) -> int:
        """How long it is."""
        return int(self.minutes * _MINUTE_MS)

    @property
    def energy_mwh(self) -> int:
        """What it uses."""
        return int((self.energy_kwh or 0) * 1_000_000)

    @property
    def power_mw(self) -> int:
        """What stands during it; the average of its energy where it does not say."""
        if self.power_w is not None:
            return int(self.power_w * 1_000)
        return self.energy_mwh * UJ_PER_MWH // self.length_ms if self.length_ms else 0

    @property
    def current_ma(self) -> int:
        """What stands during it."""
        return int((self.current_a or 0) * 1_000)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; a path out of the database; a folder of it
        raise ValueError("there is no such time zone: write an IANA name like Europe/Amsterdam") from None
    return name


class WrittenUsage(BaseModel):
    """A reservation, a session, or a reservation and the session that it was for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: str
    time_zone: Annotated[str, AfterValidator(_zone)]
    periods: Annotated[list[WrittenPeriod], Field(min_length=1, max_length=PERIODS_MAX)]
    _start_ms: int = PrivateAttr(0)

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        self._start_ms = _start_ms(self.start, self.zone)
        if sum(period.minutes for period in self.periods) > MINUTES_MAX:
            raise ValueError(f"periods are longer than {MINUTES_MAX} minutes (a year) together")
        kinds = [period.kind for period in self.periods]
        reserved = sum(period.is_reservation for period in self.periods)
        if not all(period.is_reservation for period in self.periods[:reserved]):
            raise ValueError("periods: a reservation comes before the charging that it is for: put its periods first")
        if len(set(kinds[:reserved])) > 1:
            raise ValueError("periods: a reservation is used or it expires: write all its periods of one kind")
        if "RESERVATION_EXPIRED" in kinds and reserved < len(kinds):
            raise ValueError("periods: nobody charges on a reservation that expired: write RESERVATION if it was used")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """Of the station."""
        return ZoneInfo(self.time_zone)

    @property
    def starts_ms(self) -> list[int]:
        """When each period begins, and when the last ends."""
        starts_ms = [self._start_ms]
        for period in self.periods:
            starts_ms.append(starts_ms[-1] + period.length_ms)
        return starts_ms


class Usages(NamedTuple):
    """What is rated apart."""

    reservation: Usage | None
    charging: Usage | None


def usages_of(written: WrittenUsage) -> Usages:
    """The usage of the reservation and that of the charging; one of them may not be there."""
    timed = list(zip(written.periods, written.starts_ms, written.starts_ms[1:], strict=False))
    reserved = [one for one in timed if one[0].is_reservation]
    charged = [one for one in timed if not one[0].is_reservation]
    reservation = charging = None
    if reserved:
        expired = reserved[0][0].kind == "RESERVATION_EXPIRED"
        reservation = reservation_usage(reserved[0][1], reserved[-1][2], expired=expired)
    if charged:
        first, start_ms, _ = charged[0]
        intervals = tuple(_interval(period, begin_ms, end_ms) for period, begin_ms, end_ms in charged)
        charging = Usage(start_ms, first.power_mw, first.current_ma, intervals)
    return Usages(reservation, charging)


def _interval(period: WrittenPeriod, start_ms: int, end_ms: int) -> UsageInterval:
    kind, power_mw, current_ma = UsageKind[period.kind], period.power_mw, period.current_ma
    energy = None
    if period.energy_mwh:
        energy = EnergyStretch(start_ms, end_ms, period.energy_mwh, power_mw, current_ma)
    return UsageInterval(TimeStretch(start_ms, end_ms, kind, power_mw, current_ma), energy)


def _start_ms(text: str, zone: ZoneInfo) -> int:
    """Raises ValueError, which says how to fix it."""
    with_offset = _OFFSET.fullmatch(text)
    clock = (with_offset[1] if with_offset else text).replace("t", "T").replace(" ", "T")
    try:
        if not _LOCAL.fullmatch(clock):
            raise ValueError("not in that form")
        local = datetime.fromisoformat(clock)
        moment = datetime.fromisoformat(clock + with_offset[2].upper()) if with_offset else None
    except ValueError:
        raise ValueError("start: is no moment: write it like 2026-01-31T23:59:00+01:00") from None
    if not 1970 < local.year < 2200:
        raise ValueError("start: is outside the years 1971 to 2199")
    if moment is not None:
        return (moment.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)
    if not exists_once(local, zone):
        raise ValueError(f"start: the clock of {zone.key} skips it or shows it twice: write it with its offset")
    return moment_of(local, zone)
