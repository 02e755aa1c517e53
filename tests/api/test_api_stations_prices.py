"""What 10 kWh cost: the schedule is what the tariff in force says at every moment."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.stations.prices.price import TariffVersion, needed, price_micros, schedule, version_at
from schemas.tariff import Tariff

SINCE = datetime(2026, 3, 27, 12, tzinfo=UTC)  # the clocks of Europe change two days later
UNTIL = SINCE + timedelta(days=4)
_ZONES = ("Europe/Berlin", "UTC", "Australia/Lord_Howe", "Asia/Kathmandu")
_CLOCKS = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
_MOMENTS = st.integers(-3 * 24 * 60, 6 * 24 * 60).map(lambda minutes: SINCE + timedelta(minutes=minutes))
_RESTRICTIONS = st.fixed_dictionaries(
    {},
    optional={
        "start_time": _CLOCKS,
        "end_time": _CLOCKS,
        "day_of_week": st.lists(st.sampled_from(["MONDAY", "SUNDAY", "SATURDAY"]), max_size=2, unique=True),
        "start_date": st.sampled_from(["2026-03-28", "2026-03-29"]),
        "end_date": st.sampled_from(["2026-03-30", "2026-03-31"]),
        "min_kwh": st.sampled_from([0, 3, 20]),
        "max_kwh": st.sampled_from([5, 30]),
        "min_duration": st.sampled_from([0, 60]),
        "max_power": st.just(50),
    },
)
_COMPONENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ENERGY", "FLAT", "TIME"]),
        "price": st.integers(0, 100).map(lambda cents: Decimal(cents) / 100),
        "vat": st.sampled_from([None, 20]),
        "step_size": st.just(1),
    }
)
_ELEMENTS = st.fixed_dictionaries(
    {"price_components": st.lists(_COMPONENTS, min_size=1, max_size=2)}, optional={"restrictions": _RESTRICTIONS}
)


def tariff(*elements: dict[str, Any], **more: Any) -> Tariff:
    return Tariff.model_validate({"currency": "EUR", "elements": elements, **more})


def energy(price: str, **restrictions: Any) -> dict[str, Any]:
    component = {"type": "ENERGY", "price": Decimal(price), "vat": 20, "step_size": 1}
    return {"price_components": [component], **({"restrictions": restrictions} if restrictions else {})}


_TARIFFS = st.builds(
    lambda elements, start, end: tariff(*elements, start_date_time=start, end_date_time=end),
    st.lists(_ELEMENTS, min_size=1, max_size=3),
    st.none() | _MOMENTS,
    st.none() | _MOMENTS,
)
_VERSIONS = st.lists(st.tuples(_TARIFFS, _MOMENTS, st.sampled_from(_ZONES)), max_size=4).map(
    lambda found: [
        TariffVersion(UUID(int=number), zone, effective, SINCE + timedelta(seconds=number), one)
        for number, (one, effective, zone) in enumerate(found)
    ]
)


@given(_VERSIONS, st.lists(_MOMENTS.filter(lambda at: SINCE <= at < UNTIL), min_size=5))
def test_the_schedule_is_the_price_of_the_version_in_force(
    versions: list[TariffVersion], moments: list[datetime]
) -> None:
    prices = schedule(versions, SINCE, UNTIL)
    assert all(one.starts_at < one.ends_at for one in prices)
    assert all(one.ends_at <= other.starts_at for one, other in pairwise(prices))
    for at in moments:
        version = version_at(versions, at)
        found = [(one.micros, one.currency) for one in prices if one.starts_at <= at < one.ends_at]
        if version is None:
            assert found == []
        else:
            assert found == [(price_micros(version.tariff, at.astimezone(ZoneInfo(version.time_zone))), "EUR")]


@given(_VERSIONS, _MOMENTS, st.integers(0, 10_000))
def test_versions_that_are_forgotten_are_never_in_force_again(
    versions: list[TariffVersion], now: datetime, minutes: int
) -> None:
    later = now + timedelta(minutes=minutes)
    assert version_at(needed(versions, now), later) == version_at(versions, later)


NIGHT = energy("0.20", start_time="21:00", end_time="07:00")
FLAT = {"price_components": [{"type": "FLAT", "price": Decimal(1), "step_size": 1}]}


@pytest.mark.parametrize(
    ("one", "clock", "euros"),
    [
        (tariff(energy("0.40")), "12:00", "4.8"),
        (tariff(NIGHT, energy("0.40")), "06:59", "2.4"),
        (tariff(NIGHT, energy("0.40")), "07:00", "4.8"),
        (tariff(NIGHT), "12:00", None),
        (tariff(energy("0.40"), FLAT), "12:00", "5.8"),
        (tariff(energy("0.10", max_kwh=4), energy("0.40")), "12:00", "3.36"),
        (tariff(energy("0.10", max_power=50), energy("0.40")), "12:00", "4.8"),
        (tariff(energy("0.40"), min_price={"excl_vat": 5, "incl_vat": 6}), "12:00", "6"),
        (tariff(energy("0.40"), max_price={"excl_vat": 2}), "12:00", "2.4"),
    ],
)
def test_ten_kwh_cost_what_energy_and_flat_fee_say(one: Tariff, clock: str, euros: str | None) -> None:
    hour, minute = map(int, clock.split(":"))
    micros = price_micros(one, datetime(2026, 3, 25, hour, minute, tzinfo=UTC))
    assert micros == (None if euros is None else int(Decimal(euros) * 1_000_000))
