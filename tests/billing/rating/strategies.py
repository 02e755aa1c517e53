"""Hypothesis: any OCPI tariff, and any session of stored readings around the moments where money is decided."""

from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from billing.rating import POWER_MAX_MW, MeterBefore, StoredReading
from schemas.reading import Status
from schemas.tariff import DayOfWeek, Tariff
from tests.billing.rating.making import HOUR_MS, MINUTE_MS, utc_ms

# Zones and moments (UTC) near which their clocks do something: put forward, put back, midnight, the end of a year.
MOMENTS = {
    "Europe/Amsterdam": ("2026-03-29T01:00", "2026-10-25T01:00", "2025-12-31T23:00", "2026-05-10T22:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00", "2026-01-01T05:00", "2026-07-06T04:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30", "2025-12-31T13:00", "2026-06-14T13:30"),
    "Africa/Cairo": ("2026-04-23T22:00", "2026-10-29T21:00", "2025-12-31T22:00"),  # forward at midnight
    "Asia/Kathmandu": ("2026-01-01T00:00", "2026-06-01T18:15"),  # 5:45 from UTC, always
    "UTC": ("2026-01-01T00:00", "2026-03-01T00:00"),
}
# Times of day near which the moments above are, and others; few, so that elements meet.
TIMES = ("00:00", "00:30", "01:00", "01:30", "02:00", "02:15", "02:30", "03:00", "06:00", "12:00", "17:00", "22:00")
DATES = ("2025-12-31", "2026-01-01", "2026-03-29", "2026-05-11", "2026-06-15", "2026-10-25", "2026-11-01", "2026-11-02")
CURRENCIES = ("EUR", "USD", "JPY", "HUF", "KWD")


@dataclass(frozen=True)
class Session:
    """Stored readings, in no order, of a station in a zone."""

    zone: ZoneInfo
    readings: list[StoredReading]
    before: MeterBefore = field(default_factory=MeterBefore)


def decimals(digits: int, high: int) -> st.SearchStrategy[Decimal]:
    """From 0 to `high`, with at most these digits; often round."""
    scale = 10**digits
    fine = st.integers(0, high * scale).map(lambda n: Decimal(n).scaleb(-digits))
    return st.sampled_from([Decimal(0), Decimal("0.25"), Decimal(1), Decimal("0.3")]) | fine


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def components(reserved: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """A PriceComponent."""
    dimensions = ["FLAT", "TIME"] if reserved else ["ENERGY", "ENERGY", "TIME", "PARKING_TIME", "FLAT"]
    return st.fixed_dictionaries(
        {
            "type": st.sampled_from(dimensions),
            "price": decimals(6, 10),
            "step_size": st.sampled_from([0, 1, 1, 7, 60, 300, 500, 900]),
        },
        optional={"vat": decimals(4, 30)},
    )


@st.composite
def restrictions(draw: st.DrawFn) -> dict[str, Any]:
    """TariffRestrictions, seldom many at once: they would never hold."""
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "start_time": st.sampled_from(TIMES),
        "end_time": st.sampled_from(TIMES),
        "start_date": st.sampled_from(DATES),
        "end_date": st.sampled_from(DATES),
        "min_kwh": _thresholds_kwh(),
        "max_kwh": _thresholds_kwh(),
        "min_current": st.sampled_from(["0", "6", "16", "31.999", "32"]),
        "max_current": st.sampled_from(["0", "6", "16", "32", "32.001"]),
        "min_power": st.sampled_from(["0", "0.000001", "3.7", "11", "22"]),
        "max_power": st.sampled_from(["3.7", "11", "22", "22.000001"]),
        "min_duration": st.sampled_from([0, 1, 60, 600, 1800, 3600]),
        "max_duration": st.sampled_from([0, 60, 600, 1800, 3600, 90000]),
        "day_of_week": st.lists(st.sampled_from(list(DayOfWeek)), max_size=5, unique=True),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=3, unique=True))
    return {name: draw(kinds[name]) for name in chosen}


def _thresholds_kwh() -> st.SearchStrategy[str]:
    return st.sampled_from(["0", "0.000001", "0.1", "0.5", "1", "1.000001", "5", "20"])


@st.composite
def elements(draw: st.DrawFn) -> dict[str, Any]:
    """A TariffElement; one in eight is for reservations."""
    reserved = draw(st.integers(0, 7)) == 7
    element: dict[str, Any] = {"price_components": draw(st.lists(components(reserved), min_size=1, max_size=4))}
    written = draw(st.builds(dict) | restrictions())
    if reserved:
        written["reservation"] = draw(st.sampled_from(["RESERVATION", "RESERVATION_EXPIRES"]))
    if written:
        element["restrictions"] = written
    return element


@st.composite
def bounds(draw: st.DrawFn) -> dict[str, Any]:
    """A Price for min_price or max_price."""
    excl_vat = draw(decimals(6, 8))
    if draw(st.booleans()):
        return {"excl_vat": excl_vat}
    return {"excl_vat": excl_vat, "incl_vat": excl_vat + draw(decimals(6, 2))}


@st.composite
def tariffs(draw: st.DrawFn) -> Tariff:
    """Any tariff that prices; elements without restrictions among and behind those with."""
    written_elements = draw(st.lists(elements(), min_size=1, max_size=6))
    if draw(st.booleans()):
        dimensions = ("ENERGY", "TIME", "PARKING_TIME", "FLAT")
        written_elements.append({"price_components": [draw(components()) | {"type": name} for name in dimensions]})
    written: dict[str, Any] = {"currency": draw(st.sampled_from(CURRENCIES)), "elements": written_elements}
    for name in ("min_price", "max_price"):
        if draw(st.integers(0, 3)) == 3:
            written[name] = draw(bounds())
    return Tariff.model_validate(written)


@st.composite
def banded(draw: st.DrawFn, powers_mw: list[int], currents_ma: list[int]) -> Tariff:
    """A tariff whose bands of power and current begin and end at these, or beside them."""

    def bound(values: list[int], digits: int) -> Decimal:
        return Decimal(max(draw(st.sampled_from(values)) + draw(st.sampled_from([-1, 0, 0, 1])), 0)).scaleb(-digits)

    written_elements: list[dict[str, Any]] = []
    for name in draw(st.lists(st.sampled_from(["power", "current"]), min_size=1, max_size=4)):
        values, digits = (powers_mw, 6) if name == "power" else (currents_ma, 3)
        ends = draw(st.sampled_from([("min",), ("max",), ("min", "max")]))
        written_elements.append(
            {
                "price_components": draw(st.lists(components(), min_size=1, max_size=4)),
                "restrictions": {f"{end}_{name}": bound(values, digits) for end in ends},
            }
        )
    if draw(st.booleans()):
        written_elements.append({"price_components": draw(st.lists(components(), min_size=1, max_size=4))})
    return Tariff.model_validate({"currency": "EUR", "elements": written_elements})


@st.composite
def reservation_tariffs(draw: st.DrawFn) -> Tariff:
    """Elements for reservations, used or expired, in any order."""
    written_elements = []
    for _ in range(draw(st.integers(1, 6))):
        written = draw(st.builds(dict) | restrictions())
        written["reservation"] = draw(st.sampled_from(["RESERVATION", "RESERVATION_EXPIRES"]))
        parts = draw(st.lists(components(reserved=True), min_size=1, max_size=2))
        written_elements.append({"price_components": parts, "restrictions": written})
    return Tariff.model_validate({"currency": "EUR", "elements": draw(st.permutations(written_elements))})


def gaps_ms() -> st.SearchStrategy[int]:
    """Time between two readings."""
    plain = st.sampled_from([15_000, 60_000, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS])
    return plain | plain | st.integers(0, 2 * HOUR_MS) | st.sampled_from([0, 1, 999, 30 * HOUR_MS])


_POWERS_MW = st.sampled_from([0, 1, 3_700_000, 10_999_999, 11_000_000, 22_000_000, 50_000_000])
_CURRENTS_MA = st.sampled_from([-1_000, 0, 6_000, 16_000, 31_999, 32_000, 63_000])
_ODD_POWERS_MW = st.sampled_from([-5_000_000, POWER_MAX_MW, POWER_MAX_MW + 1]) | st.integers(-(10**7), 10**8)
_STATUSES = st.sampled_from([Status.NONE] * 6 + [Status.CHARGING] * 5 + list(Status))


# What a device says at all, beside time; "rarely power": in one reading of four. Registers alone are the usual case of
# OCPP 1.6, and what follows from them is what is easily got wrong.
_SAYS = (
    ("register",),
    ("register",),
    ("register", "current"),
    ("register", "status"),
    ("register", "rarely power"),
    ("register", "rarely power", "rarely status", "rarely current"),
    ("register", "power", "status"),
    ("register", "power", "current", "status"),
    ("power",),
    ("power", "current", "status"),
    ("current", "status"),
    (),
)


def _now(draw: st.DrawFn, says: tuple[str, ...], what: str) -> bool:
    return what in says or (f"rarely {what}" in says and draw(st.integers(0, 3)) == 3)


@st.composite
def sessions(draw: st.DrawFn, readings_max: int = 12) -> Session:
    """Registers, power, current, status, some or none of them; fields missing; rollbacks, resets, spikes; readings of
    one moment."""
    zone = draw(st.sampled_from(sorted(MOMENTS)))
    near_ms = utc_ms(draw(st.sampled_from(MOMENTS[zone])))
    at_ms = near_ms + draw(st.sampled_from([0, -HOUR_MS, -10 * MINUTE_MS, -1]) | st.integers(-6 * HOUR_MS, HOUR_MS))
    says = draw(st.sampled_from(_SAYS))
    has_seq = draw(st.booleans())
    register_mwh = draw(st.sampled_from([0, 1_234_567, 10**10]))
    readings: list[StoredReading] = []
    for number in range(draw(st.integers(1, readings_max))):
        if number:
            gap_ms = draw(gaps_ms())
            at_ms += gap_ms
            register_mwh = draw(_next_register(register_mwh, gap_ms))
        readings.append(
            StoredReading(
                ts_ms=at_ms,
                seq=draw(_often(st.just(number))) if has_seq else None,
                energy_mwh=draw(_often(st.just(register_mwh) | _glitches(register_mwh)))
                if "register" in says
                else None,
                power_mw=draw(_often(_POWERS_MW | _POWERS_MW | _ODD_POWERS_MW)) if _now(draw, says, "power") else None,
                current_ma=draw(_maybe(_CURRENTS_MA)) if _now(draw, says, "current") else None,
                status=draw(_STATUSES) if _now(draw, says, "status") else Status.NONE,
            )
        )
    before = draw(st.just(MeterBefore()) | meters_before(readings))
    return Session(ZoneInfo(zone), in_parts(draw(st.permutations(readings))), before)


def in_parts(readings: list[StoredReading]) -> list[StoredReading]:
    """Those without seq of one moment, numbered in the order in which they are given: in that of their arrival."""
    parts: Counter[int] = Counter()
    numbered = []
    for reading in readings:
        if reading.seq is None:
            reading = replace(reading, part=parts[reading.ts_ms])
            parts[reading.ts_ms] += 1
        numbered.append(reading)
    return numbered


@st.composite
def meters_before(draw: st.DrawFn, readings: list[StoredReading]) -> MeterBefore:
    """What the connector of these readings, in order of time, can deliver, and what its register was before them."""
    power_max_mw = draw(st.sampled_from([3_700_000, 22_000_000, 50_000_000, POWER_MAX_MW]))
    registers = [r.energy_mwh for r in readings if r.energy_mwh is not None] or [1_000_000]
    rise_mwh = draw(st.sampled_from([0, 1, 100_000, 2_000_000, -1, -3_000_000, -(10**10)]))
    register_mwh = draw(st.sampled_from([0, max(registers[0] - rise_mwh, 0), *registers]))
    register_ms = readings[0].ts_ms - draw(st.sampled_from([0, 1, 60_000, HOUR_MS, 30 * HOUR_MS]))
    series_mwh = draw(st.none() | st.sampled_from([0, *registers]))
    return MeterBefore(power_max_mw, register_mwh, register_ms, series_mwh)


def _next_register(register_mwh: int, gap_ms: int) -> st.SearchStrategy[int]:
    """Mostly on, at up to 50 kW; seldom anew (a meter that was reset), or further than any charger delivers."""
    on = st.integers(0, 50_000_000 * gap_ms // 3_600_000 + 100).map(lambda rise_mwh: register_mwh + rise_mwh)
    odd = st.sampled_from([0, 5_000, register_mwh // 3, register_mwh // 2, register_mwh + 10**10])
    return st.integers(0, 9).flatmap(lambda n: odd if n == 9 else st.just(register_mwh) if n > 6 else on)


def _glitches(register_mwh: int) -> st.SearchStrategy[int]:
    """What a meter says once, before it goes on as if nothing had been."""
    kinds = [0, max(register_mwh - 50_000, 0), register_mwh // 2, register_mwh // 3, register_mwh + 10**10]
    return st.integers(0, 5).flatmap(lambda n: st.sampled_from(kinds) if n == 5 else st.just(register_mwh))


def _often(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """None in one case of five."""
    return st.integers(0, 4).flatmap(lambda n: st.none() if n == 4 else strategy)
