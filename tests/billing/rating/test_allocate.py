"""From usage to consumption: which component gets what."""

from billing.rating import StoredReading, reservation_usage, usage_of
from billing.rating.allocate import allocate_usage
from billing.rating.usage import EnergyStretch, Usage, UsageInterval
from schemas.reading import Status
from schemas.session import UsageKind
from schemas.tariff import Dimension
from tests.billing.rating.making import (
    HOUR_MS,
    KWH,
    MINUTE_MS,
    UTC_ZONE,
    component,
    element,
    last,
    stretch,
    tariff,
    usage,
    utc_ms,
    volumes,
)

T0 = utc_ms("2026-06-01T09:00")
ENERGY, TIME, PARKING, FLAT = Dimension.ENERGY, Dimension.TIME, Dimension.PARKING_TIME, Dimension.FLAT


def test_the_first_element_that_has_a_dimension_and_holds_gets_it() -> None:
    priced = tariff(element("TIME", max_power="1"), element("ENERGY"), element("ENERGY", "TIME"))
    found = volumes(priced, usage(stretch(T0, 60, energy_mwh=KWH, power_mw=KWH)))
    assert found == {(1, ENERGY): KWH, (2, TIME): HOUR_MS}


def test_of_several_of_a_dimension_in_one_element_the_first_counts() -> None:
    priced = tariff({"price_components": [component("TIME", "2"), component("TIME", "3")]})
    assert volumes(priced, usage(stretch(T0, 60))) == {(0, TIME): HOUR_MS}


def test_charging_time_and_parking_time_are_apart_and_idle_time_is_free() -> None:
    kinds = (UsageKind.CHARGING, UsageKind.PARKING, UsageKind.IDLE)
    intervals = [stretch(T0 + n * HOUR_MS, 60, kind, energy_mwh=KWH) for n, kind in enumerate(kinds)]
    found = volumes(tariff(element("TIME", "PARKING_TIME", "ENERGY")), usage(*intervals))
    assert found == {(0, TIME): HOUR_MS, (0, PARKING): HOUR_MS, (0, ENERGY): 3 * KWH}


def test_lower_bounds_are_inside_and_upper_bounds_are_not() -> None:
    priced = tariff(
        element("TIME", min_current="16", max_current="32"),
        element("TIME", min_power="11", max_power="22"),
        element("TIME"),
    )
    intervals = [
        stretch(T0, 1, current_ma=16_000),
        stretch(T0 + MINUTE_MS, 10, current_ma=32_000),
        stretch(T0 + 11 * MINUTE_MS, 100, power_mw=11_000_000),
        stretch(T0 + 111 * MINUTE_MS, 1_000, power_mw=22_000_000),
    ]
    found = volumes(priced, usage(*intervals))
    assert found == {(0, TIME): MINUTE_MS, (1, TIME): 100 * MINUTE_MS, (2, TIME): 1_010 * MINUTE_MS}


def test_durations_are_since_the_session_began() -> None:
    priced = tariff(element("TIME", max_duration=1_800), element("TIME", min_duration=3_600), element("TIME"))
    found = volumes(priced, usage(stretch(T0, 45), stretch(T0 + 45 * MINUTE_MS, 45)))
    assert found == {(0, TIME): 30 * MINUTE_MS, (1, TIME): 30 * MINUTE_MS, (2, TIME): 30 * MINUTE_MS}


def test_energy_is_cut_at_exactly_the_threshold_and_time_where_it_is_reached() -> None:
    """10 mWh in 3 ms: M is 0, 3, 6, 10; it reaches 4 mWh at 2 ms."""
    energy = EnergyStretch(T0, T0 + 3, 10, 0, 0)
    time = stretch(T0, 0).time
    assert time is not None
    interval = UsageInterval(type(time)(T0, T0 + 3, UsageKind.CHARGING, 0, 0), energy)
    priced = tariff(element("ENERGY", "TIME", max_kwh="0.000004"), element("ENERGY", "TIME"))
    assert volumes(priced, usage(interval)) == {(0, ENERGY): 4, (1, ENERGY): 6, (0, TIME): 2, (1, TIME): 1}


def test_energy_is_cut_by_the_clock_and_by_thresholds_in_order_of_time() -> None:
    """4 kWh from 09:00 to 11:00: 1 kWh at 09:30, 2 at 10:00, 3 at 10:30."""
    priced = tariff(
        element("ENERGY", max_kwh="1"),
        element("ENERGY", start_time="10:00", max_kwh="3"),
        element("ENERGY", min_kwh="3", max_duration=6_300),
        element("ENERGY"),
    )
    found = volumes(priced, usage(stretch(T0, 120, energy_mwh=4 * KWH)))
    assert found == {(0, ENERGY): KWH, (1, ENERGY): KWH, (2, ENERGY): KWH // 2, (3, ENERGY): KWH + KWH // 2}


def test_energy_without_a_length_of_time_is_cut_at_its_thresholds_all_the_same() -> None:
    interval = UsageInterval(None, EnergyStretch(T0, T0, 10, 0, 0))
    priced = tariff(element("ENERGY", min_kwh="0.000002", max_kwh="0.000007"), element("ENERGY"))
    assert volumes(priced, Usage(T0, 0, 0, (interval,))) == {(0, ENERGY): 5, (1, ENERGY): 5}


def test_a_threshold_reached_in_the_last_millisecond_begins_a_piece_at_the_end() -> None:
    """Two durations: what comes after the threshold is judged by the end, where the first duration is over."""
    interval = UsageInterval(None, EnergyStretch(T0, T0 + 1_000, 2, 0, 0))
    priced = tariff(element("ENERGY", min_duration=1), element("ENERGY", min_kwh="0.000001"), element("ENERGY"))
    assert volumes(priced, Usage(T0, 0, 0, (interval,))) == {(1, ENERGY): 1, (2, ENERGY): 1}
    late = UsageInterval(None, EnergyStretch(T0, T0 + 1_000, 1, 0, 0))
    assert volumes(priced, Usage(T0, 0, 0, (late,))) == {(2, ENERGY): 1}
    both = UsageInterval(None, EnergyStretch(T0, T0 + 1_000, 2_000_000, 0, 0))
    priced = tariff(element("ENERGY", min_duration=1), element("ENERGY", max_kwh="1.999999"))
    assert volumes(priced, Usage(T0, 0, 0, (both,))) == {(0, ENERGY): 1, (1, ENERGY): 1_999_999}


def test_time_is_read_on_the_energy_known_with_its_closing_reading() -> None:
    """The register is read once in an hour and a half: until then the session has no energy that anybody knows of."""
    unread = stretch(T0, 30)
    time = stretch(T0 + 30 * MINUTE_MS, 60).time
    read = UsageInterval(time, EnergyStretch(T0, T0 + 90 * MINUTE_MS, 9 * KWH, 0, 0))
    priced = tariff(element("TIME", max_kwh="1"), element("TIME", max_kwh="6"), element("TIME"))
    assert volumes(priced, usage(unread, read)) == {
        (0, TIME): 30 * MINUTE_MS,
        (1, TIME): 30 * MINUTE_MS,
        (2, TIME): 30 * MINUTE_MS,
    }


def test_flat_is_charged_once_by_the_first_that_is_active() -> None:
    priced = tariff(element("FLAT", min_duration=1_800), element("FLAT", max_duration=600))
    consumption = allocate_usage(priced, UTC_ZONE, usage(stretch(T0, 60), stretch(T0 + HOUR_MS, 60)))
    assert [(one.element, one.volume, one.since_ms) for one in consumption] == [(1, 1, T0)]
    late = tariff(element("FLAT", min_duration=1_800))
    consumption = allocate_usage(late, UTC_ZONE, usage(stretch(T0, 60)))
    assert [(one.element, one.volume, one.since_ms) for one in consumption] == [(0, 1, T0 + 30 * MINUTE_MS)]


def test_a_session_of_one_reading_is_charged_flat_and_nothing_else() -> None:
    priced = tariff(element("FLAT", "TIME", "ENERGY", "PARKING_TIME"))
    assert volumes(priced, Usage(T0, 0, 0)) == {(0, FLAT): 1}
    assert volumes(priced, usage(stretch(T0, 0))) == {(0, FLAT): 1}


def test_flat_is_looked_for_where_time_begins_not_where_the_session_ends() -> None:
    priced = tariff(element("FLAT", min_duration=3_600))
    assert volumes(priced, usage(stretch(T0, 60))) == {}
    assert volumes(priced, usage(stretch(T0, 60), stretch(T0 + HOUR_MS, 0))) == {}
    assert volumes(priced, usage(stretch(T0, 60), stretch(T0 + HOUR_MS, 1, UsageKind.IDLE))) == {(0, FLAT): 1}


def test_the_last_of_energy_and_the_last_of_both_times_are_remembered() -> None:
    priced = tariff(element("ENERGY", "TIME", max_duration=1_800), element("ENERGY", "TIME", "PARKING_TIME"))
    charged = stretch(T0, 60, energy_mwh=KWH)
    assert last(allocate_usage(priced, UTC_ZONE, usage(charged))) == {(1, ENERGY), (1, TIME)}
    parked = stretch(T0 + HOUR_MS, 1, UsageKind.PARKING)
    assert last(allocate_usage(priced, UTC_ZONE, usage(charged, parked))) == {(1, ENERGY), (1, PARKING)}


def test_what_nobody_prices_is_not_remembered() -> None:
    priced = tariff(element("TIME", max_duration=1_800))
    consumption = allocate_usage(priced, UTC_ZONE, usage(stretch(T0, 60), stretch(T0 + HOUR_MS, 60, UsageKind.PARKING)))
    assert last(consumption) == {(0, TIME)}


def test_a_reservation_is_for_elements_of_reservations_and_charging_for_the_others() -> None:
    priced = tariff(
        element("FLAT", reservation="RESERVATION_EXPIRES"),
        element("FLAT", "TIME", reservation="RESERVATION"),
        element("FLAT", "TIME"),
    )
    used = reservation_usage(T0, T0 + HOUR_MS, expired=False)
    assert volumes(priced, used) == {(1, FLAT): 1, (1, TIME): HOUR_MS}
    expired = reservation_usage(T0, T0 + HOUR_MS, expired=True)
    assert volumes(priced, expired) == {(0, FLAT): 1, (1, TIME): HOUR_MS}
    assert volumes(priced, usage(stretch(T0, 60))) == {(2, FLAT): 1, (2, TIME): HOUR_MS}


def test_since_is_when_a_component_was_first_active() -> None:
    priced = tariff(element("ENERGY", start_time="09:00", end_time="10:00"), element("ENERGY"))
    early = T0 - HOUR_MS
    consumption = allocate_usage(priced, UTC_ZONE, usage(stretch(early, 180, energy_mwh=3 * KWH)))
    assert [(one.element, one.volume, one.since_ms) for one in consumption] == [(0, KWH, T0), (1, 2 * KWH, early)]


def test_bands_of_power_and_current_see_what_the_register_shows() -> None:
    readings = [StoredReading(T0 + n * 30 * MINUTE_MS, energy_mwh=n * 10 * KWH) for n in range(3)]
    used, _ = usage_of(readings)
    whole = {(1, ENERGY): 20 * KWH, (1, TIME): HOUR_MS, (1, FLAT): 1}
    for band in ({"max_power": "7"}, {"min_power": "20.000001"}, {"max_current": "86.956"}, {"min_current": "86.957"}):
        assert (
            volumes(tariff(element("ENERGY", "TIME", "FLAT", **band), element("ENERGY", "TIME", "FLAT")), used) == whole
        )
    inside = {(0, dimension): volume for (_, dimension), volume in whole.items()}
    for band in ({"min_power": "20"}, {"max_power": "20.000001"}, {"min_current": "86.956"}, {"max_current": "86.957"}):
        assert (
            volumes(tariff(element("ENERGY", "TIME", "FLAT", **band), element("ENERGY", "TIME", "FLAT")), used)
            == inside
        )


def test_a_flat_fee_by_power_waits_for_the_power_and_another_does_not() -> None:
    silent = usage_of([StoredReading(T0)])[0]
    assert volumes(tariff(element("FLAT", max_power="7")), silent) == {(0, FLAT): 1}, "nothing was ever known"
    assert volumes(tariff(element("FLAT", min_power="7"), element("FLAT")), silent) == {(1, FLAT): 1}
    two = usage_of([StoredReading(T0), StoredReading(T0, 1, power_mw=11_000_000)])[0]
    assert volumes(tariff(element("FLAT", min_power="7")), two) == {(0, FLAT): 1}, "what its only moment says"


def test_what_the_station_holds_back_is_free_and_what_the_vehicle_does_not_take_is_parking() -> None:
    priced = tariff(element("TIME", "PARKING_TIME"))
    for status, expected in (
        (Status.SUSPENDED_EVSE, {}),
        (Status.PREPARING, {}),
        (Status.SUSPENDED_EV, {(0, PARKING): HOUR_MS}),
        (Status.FINISHING, {(0, PARKING): HOUR_MS}),
    ):
        readings = [StoredReading(T0, power_mw=11_000_000, status=status), StoredReading(T0 + HOUR_MS)]
        assert volumes(priced, usage_of(readings)[0]) == expected


def test_an_expired_reservation_is_priced_by_its_own_elements_wherever_they_stand() -> None:
    of_all = element("TIME", "FLAT", reservation="RESERVATION")
    of_expired = element("TIME", reservation="RESERVATION_EXPIRES")
    expired, used = (reservation_usage(T0, T0 + HOUR_MS, expired=one) for one in (True, False))
    for elements, own in (((of_all, of_expired), 1), ((of_expired, of_all), 0)):
        priced = tariff(*elements)
        assert volumes(priced, expired) == {(own, TIME): HOUR_MS, (1 - own, FLAT): 1}
        assert volumes(priced, used) == {(1 - own, TIME): HOUR_MS, (1 - own, FLAT): 1}


def test_an_element_for_expired_reservations_that_does_not_hold_leaves_it_to_the_others() -> None:
    priced = tariff(
        element("TIME", reservation="RESERVATION"), element("TIME", reservation="RESERVATION_EXPIRES", max_duration=600)
    )
    found = volumes(priced, reservation_usage(T0, T0 + HOUR_MS, expired=True))
    assert found == {(0, TIME): 50 * MINUTE_MS, (1, TIME): 10 * MINUTE_MS}


def test_consumption_is_in_the_order_of_the_tariff() -> None:
    priced = tariff(element("TIME", "FLAT", "ENERGY"), element("PARKING_TIME"))
    used = usage(stretch(T0, 60, energy_mwh=KWH), stretch(T0 + HOUR_MS, 60, UsageKind.PARKING))
    assert [one.dimension for one in allocate_usage(priced, UTC_ZONE, used)] == [TIME, FLAT, ENERGY, PARKING]
