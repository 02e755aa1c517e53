"""Occupied without charging: what statuses say of connectors and bays, and the fee that is shown before it begins."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from api.reservations.parking.models import StationParking
from api.reservations.parking.rule import CHARGING, IDLE, ConnectorStatus, parking_of
from tests.api.reservations_app import Reservations, bay, publish_tariff, running_reservations, station

T0 = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
GRACE = timedelta(minutes=10)
STATUSES = st.one_of(
    st.builds(
        lambda status, minutes: ConnectorStatus(status, T0 - timedelta(minutes=minutes)),
        st.sampled_from(sorted(IDLE)),
        st.integers(0, 30),
    ),
    st.sampled_from([*sorted(CHARGING), "Available", "Faulted", None]).map(lambda one: ConnectorStatus(one, None)),
)


@given(st.lists(STATUSES, max_size=4))
def test_nobody_overstays_who_charges_and_everybody_does_who_has_stood_longer_than_the_grace(
    connectors: list[ConnectorStatus],
) -> None:
    found = parking_of(connectors, GRACE, T0)
    known = [one.status for one in connectors if one.status is not None]
    assert (found.occupied is None) == (not known)
    assert found.charging == any(one in CHARGING for one in known)
    idle = [one.idle_since for one in connectors if one.idle_since is not None]
    stands = bool(idle) and not found.charging
    assert found.idle_since == (max(idle) if stands else None)
    assert found.overstays == (stands and T0 - max(idle) >= GRACE)
    assert not found.overstays or found.occupied


@pytest.fixture
async def street(database_url: str) -> AsyncIterator[Reservations]:
    """The service, with a station of two connectors in two bays, and one that none reaches."""
    async with running_reservations(database_url) as running:
        await running.register(station(bays=[bay("B1", 1), bay("B2", 2), bay("B3")]))
        yield running


async def parking(street: Reservations, who: str = "D1") -> dict[Any, Any]:
    found = await street.ask(who, "GET", "/parking/st-1")
    StationParking.model_validate(found)
    return {one["bay"] or one["connector_id"]: one for one in found["places"]}


async def test_a_vehicle_that_stays_after_charging_overstays_after_the_grace(street: Reservations) -> None:
    places = await parking(street)
    assert list(places) == [1, 2, "B1", "B2", "B3"]
    assert {one["occupied"] for one in places.values()} == {None}
    await street.status(1, "Charging", 1)
    await street.status(2, "Available", 1)
    places = await parking(street)
    assert (places["B1"]["occupied"], places["B1"]["charging"], places["B2"]["occupied"]) == (True, True, False)
    await street.status(1, "SuspendedEV", 2)
    street.clock.advance(300)
    await street.status(1, "Finishing", 3)  # it stands since it stopped charging
    for place in (1, "B1"):
        one = (await parking(street))[place]
        assert (one["idle_since"], one["overstay_from"]) == ("2026-03-29T09:00:00Z", "2026-03-29T09:10:00Z")
        assert (one["charging"], one["overstays"]) == (False, False)
    street.clock.advance(300)
    assert (await parking(street))["B1"]["overstays"] is True
    await street.status(1, "Finishing", 2)  # an older one
    await street.status(1, "Available", 4)
    assert (await parking(street, ""))["B1"]["occupied"] is False
    await street.ask("", "GET", "/parking/ST-9", 404)


async def test_the_fee_for_standing_is_shown_before_it_begins(street: Reservations) -> None:
    assert (await street.ask("D1", "GET", "/parking/ST-1"))["idle_fee"] is None
    publish_tariff(street)
    await street.status(1, "Charging", 1)
    fee = (await street.ask("D1", "GET", "/parking/ST-1"))["idle_fee"]
    assert fee == {"price_per_hour": "6.00", "vat_percent": "19", "currency": "EUR", "depends": False}
