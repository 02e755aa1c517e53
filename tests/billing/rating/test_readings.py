"""From stored readings to usage: what counts, from when, and what is left out."""

import pytest
from hypothesis import given

from billing.rating import MeterBefore, NoReadings, Reason, StoredReading, Usage, usage_of
from billing.rating.meter import UJ_PER_MWH
from schemas.reading import Status
from schemas.session import UsageKind
from tests.billing.rating.making import HOUR_MS, KWH, MINUTE_MS, utc_ms
from tests.billing.rating.strategies import Session, sessions
from tests.streams.reference import Meter

T0 = utc_ms("2026-06-01T09:00")
DAY_MS = 24 * HOUR_MS
KW = 1_000_000  # mW
CHARGING, PARKING, IDLE = UsageKind.CHARGING, UsageKind.PARKING, UsageKind.IDLE


def at(minutes: int, register: int | None = None, power: int | None = None, **more: int | None) -> StoredReading:
    """A reading so many minutes after T0; kWh and kW."""
    energy_mwh = None if register is None else register * KWH
    power_mw = None if power is None else power * KW
    return StoredReading(T0 + minutes * MINUTE_MS, energy_mwh=energy_mwh, power_mw=power_mw, **more)  # type: ignore[arg-type]  # fields by name


def energies(used: Usage) -> list[tuple[int, int, int]]:
    """Stretches of energy: from minute, to minute, mWh."""
    parts = [interval.energy for interval in used.intervals if interval.energy is not None]
    return [((e.start_ms - T0) // MINUTE_MS, (e.end_ms - T0) // MINUTE_MS, e.energy_mwh) for e in parts]


def kinds(*readings: StoredReading) -> list[UsageKind]:
    return [interval.time.kind for interval in usage_of(readings)[0].intervals if interval.time is not None]


def reasons(*readings: StoredReading, before: MeterBefore | None = None) -> list[tuple[int, Reason]]:
    return [(one.index, one.reason) for one in usage_of(readings, before)[1]]


def test_a_status_decides_the_kind_of_time_before_any_power() -> None:
    expected = {
        Status.AVAILABLE: IDLE,
        Status.PREPARING: IDLE,
        Status.CHARGING: CHARGING,
        Status.SUSPENDED_EVSE: IDLE,
        Status.SUSPENDED_EV: PARKING,
        Status.FINISHING: PARKING,
        Status.RESERVED: IDLE,
        Status.UNAVAILABLE: IDLE,
        Status.FAULTED: IDLE,
    }
    for status, kind in expected.items():
        assert kinds(at(0, power=0 if kind is CHARGING else 11, status=status), at(1)) == [kind]
    assert set(expected) == set(Status) - {Status.NONE}


def test_without_a_status_a_believed_power_decides_and_without_both_the_kind_stands() -> None:
    assert kinds(at(0), at(1, power=11), at(2, power=0), at(3), at(4, power=2_000), at(5)) == [
        CHARGING,
        CHARGING,
        PARKING,
        PARKING,
        PARKING,
    ]
    assert kinds(at(0, power=-5), at(1)) == [PARKING]
    assert kinds(at(0, status=Status.FAULTED), at(1), at(2, power=1), at(3)) == [IDLE, CHARGING]


def test_a_stretch_of_time_has_what_applied_before_its_reading() -> None:
    used, _ = usage_of([at(0, power=11, current_ma=16_000), at(1, power=-3), at(2, current_ma=-1), at(3, power=22)])
    conditions = [
        (interval.time.power_mw, interval.time.current_ma) for interval in used.intervals if interval.time is not None
    ]
    assert conditions == [(11 * KW, 16_000), (0, 16_000), (0, 0)]
    assert (used.power_mw, used.current_ma) == (11 * KW, 16_000)


def test_between_registers_is_their_difference_whatever_the_power_was() -> None:
    used, left_out = usage_of([at(0, 100, 50), at(60, 102, 50), at(120, 102), at(180, 105)])
    assert energies(used) == [(0, 60, 2 * KWH), (60, 120, 0), (120, 180, 3 * KWH)]
    assert left_out == []


def test_readings_without_a_register_do_not_cut_the_energy_between_registers() -> None:
    used, _ = usage_of([at(0, 100, 6), at(30, power=30), at(60, 110)])
    assert energies(used) == [(0, 60, 10 * KWH)]


def test_a_stretch_of_energy_has_what_applied_before_its_reading_and_the_last_what_applies_after_it() -> None:
    used, _ = usage_of([at(0, 100, 6), at(30, power=30), at(60, 110, 40), at(90, power=7), at(120, power=8)])
    parts = [interval.energy for interval in used.intervals if interval.energy is not None]
    assert [(part.power_mw, part.energy_mwh) for part in parts] == [(30 * KW, 10 * KWH), (8 * KW, 23_500_000)]


def test_before_the_first_register_and_after_the_last_energy_is_integrated() -> None:
    used, _ = usage_of([at(0, power=6), at(30, power=12), at(60, 100), at(90, 101), at(120, power=0), at(150)])
    assert energies(used) == [(0, 30, 3 * KWH), (30, 60, 6 * KWH), (60, 90, KWH), (90, 150, 6 * KWH)]
    assert used.intervals[-1].time is None


def test_a_power_stands_for_a_day_at_most() -> None:
    used, _ = usage_of([StoredReading(T0, power_mw=KW), StoredReading(T0 + 3 * DAY_MS)])
    assert energies(used) == [(0, 3 * 1_440, 24 * KWH)]


def test_nothing_is_lost_between_whole_milliwatthours() -> None:
    """1 mW for 1 ms is 1 uJ; 3,600,000 of them are 1 mWh."""
    readings = [StoredReading(T0 + n * 1_000_000, power_mw=1) for n in range(19)]
    parts = [interval.energy.energy_mwh for interval in usage_of(readings)[0].intervals if interval.energy is not None]
    assert parts == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1]


def test_a_glitch_of_the_register_is_left_out() -> None:
    assert reasons(at(0, 100), at(15, 0), at(30, 101)) == [(1, Reason.REGISTER_ZERO)]
    assert reasons(at(0, 100), at(15, 60), at(30, 101)) == [(1, Reason.REGISTER_FELL)]
    assert reasons(at(0, 100), at(15, 9_000), at(30, 101)) == [(1, Reason.REGISTER_LEAPT)]
    for glitch in (0, 60, 9_000):
        assert energies(usage_of([at(0, 100), at(15, glitch), at(30, 101)])[0]) == [(0, 30, KWH)]


def test_counting_goes_on_from_a_meter_that_restarted() -> None:
    readings = [at(0, 100), at(15, 0), at(30, 2), at(45, 3)]
    used, _ = usage_of(readings)
    assert energies(used) == [(15, 30, 2 * KWH), (30, 45, KWH)]
    assert reasons(*readings) == [(1, Reason.METER_RESTARTED)]


def test_a_placeholder_that_comes_twice_is_no_restart() -> None:
    readings = [at(0, 100), at(15, 0), at(30, 0), at(45, 101)]
    assert energies(usage_of(readings)[0]) == [(0, 45, KWH)]
    assert reasons(*readings) == [(1, Reason.REGISTER_ZERO), (2, Reason.REGISTER_ZERO)]


def test_a_small_fall_is_never_a_restart() -> None:
    assert energies(usage_of([at(0, 100), at(15, 50), at(30, 51)])[0]) == []
    assert energies(usage_of([at(0, 100), at(15, 49), at(30, 51)])[0]) == [(15, 30, 2 * KWH)]


def test_a_register_may_rise_by_what_the_connector_delivers_and_a_little() -> None:
    """30 kW for a minute are 500 Wh; 100 Wh are slack; a week's is the most."""
    connector = MeterBefore(power_max_mw=30 * KW)
    ceiling_mwh = KWH // 2 + 100_000
    for rise_mwh, good in ((ceiling_mwh, True), (ceiling_mwh + 1, False)):
        readings = [StoredReading(T0, energy_mwh=5), StoredReading(T0 + MINUTE_MS, energy_mwh=5 + rise_mwh)]
        assert bool(energies(usage_of(readings, connector)[0])) is good
    week_mwh = 7 * 24 * 30 * KWH + 100_000
    for rise_mwh, good in ((week_mwh, True), (week_mwh + 1, False)):
        readings = [StoredReading(T0, energy_mwh=5), StoredReading(T0 + 30 * DAY_MS, energy_mwh=5 + rise_mwh)]
        assert bool(energies(usage_of(readings, connector)[0])) is good


def test_a_connector_of_which_nothing_is_known_delivers_500_kw() -> None:
    assert MeterBefore().power_max_mw == 500 * KW
    assert energies(usage_of([at(0, 100), at(60, 600)])[0]) == [(0, 60, 500 * KWH)]
    assert energies(usage_of([at(0, 100), at(60, 601)])[0]) == []


def test_a_register_may_rise_by_four_times_the_power_of_the_device_and_a_kilowatt_hour() -> None:
    """In a quarter of an hour at 4 kW: 4 kWh and 1 kWh. Over a longer time its power says nothing of the register."""
    for minutes, rise, good in ((15, 5, True), (15, 6, False), (16, 6, True)):
        left_out = [] if good else [(1, Reason.REGISTER_LEAPT)]
        assert reasons(at(0, 100, 4), at(minutes, 100 + rise)) == left_out
    assert energies(usage_of([at(0, 100, 0), at(15, 106)])[0]) == [(0, 15, 6 * KWH)], "no power says nothing"
    assert energies(usage_of([at(0, 100, 1), at(5, power=9), at(14, power=1), at(15, 109)])[0]) == [(0, 15, 9 * KWH)]
    assert energies(usage_of([at(0, 100, 4), at(14, power=1), at(15, 106, 20)])[0]) == [(0, 15, 6 * KWH)], "its own"


def test_registers_of_one_moment_are_judged_by_the_time_since_an_earlier_one() -> None:
    """910 kWh within a second are none that follow from a moment in parts."""
    moment = [at(0, 100), at(30, 110, seq=1), at(30, 111, seq=2), at(30, 910, seq=3), at(45, 112, seq=4)]
    assert energies(usage_of(moment)[0]) == [(0, 30, 10 * KWH), (30, 30, KWH), (30, 45, KWH)]
    assert reasons(*moment) == [(3, Reason.REGISTER_LEAPT)]


def test_the_rise_to_the_first_register_is_not_the_sessions() -> None:
    before = MeterBefore(register_mwh=90 * KWH, register_ms=T0 - HOUR_MS)
    assert energies(usage_of([at(0, 100), at(30, 110)], before)[0]) == [(0, 30, 10 * KWH)]
    assert reasons(at(0, 100), at(30, 110), before=before) == []


def test_a_first_register_that_does_not_fit_the_one_before_the_session_is_a_glitch_or_a_new_meter() -> None:
    before = MeterBefore(register_mwh=90 * KWH, register_ms=T0 - HOUR_MS)
    glitch = [at(0, 9_000), at(15, 91), at(30, 92)]
    assert energies(usage_of(glitch, before)[0])[-1:] == [(15, 30, KWH)]
    assert reasons(*glitch, before=before) == [(0, Reason.REGISTER_LEAPT)]
    another = [at(0, 9_000), at(15, 9_001), at(30, 9_002)]
    assert energies(usage_of(another, before)[0]) == [(0, 15, KWH), (15, 30, KWH)]
    assert reasons(*another, before=before) == [(0, Reason.METER_RESTARTED)]


def test_a_device_that_counts_each_session_from_the_same_register_begins_there() -> None:
    before = MeterBefore(register_mwh=90 * KWH, register_ms=T0 - HOUR_MS, series_mwh=80 * KWH)
    assert energies(usage_of([at(0, 80), at(30, 85)], before)[0]) == [(0, 30, 5 * KWH)]
    assert reasons(at(0, 80), at(30, 85), before=before) == []
    assert reasons(at(0, 79), at(30, 85), before=before) == [(0, Reason.REGISTER_FELL), (1, Reason.REGISTER_FELL)]


def test_a_register_that_goes_on_where_it_was_before_the_reset_was_one_of_two() -> None:
    """The rise of the first replaces what was counted of the second."""
    connector = MeterBefore(power_max_mw=50 * KW)
    readings = [at(0, 100), at(15, 10), at(30, 11), at(45, 103), at(60, 104)]
    assert energies(usage_of(readings, connector)[0]) == [(15, 30, KWH), (30, 45, 2 * KWH), (45, 60, KWH)]
    less = [at(0, 100), at(15, 10), at(30, 14), at(45, 103), at(60, 104)]
    assert sum(mwh for _, _, mwh in energies(usage_of(less, connector)[0])) == 5 * KWH, (
        "what was counted is not taken back"
    )


def test_a_power_that_no_connector_delivers_is_not_believed() -> None:
    readings = [at(0, power=6), at(30, power=501), at(60)]
    assert energies(usage_of(readings)[0]) == [(0, 30, 3 * KWH), (30, 60, 3 * KWH)]
    assert reasons(*readings) == [(1, Reason.POWER_IMPLAUSIBLE)]
    assert reasons(at(0, power=51), before=MeterBefore(50 * KW)) == [(0, Reason.POWER_IMPLAUSIBLE)]
    assert reasons(at(0, power=50), before=MeterBefore(50 * KW)) == []


def test_one_reading_can_be_left_out_for_two_reasons() -> None:
    assert reasons(at(0, 100), at(15, 0, 1_201), at(30, 101)) == [
        (1, Reason.POWER_IMPLAUSIBLE),
        (1, Reason.REGISTER_ZERO),
    ]


def test_readings_without_a_number_of_one_moment_are_its_parts() -> None:
    """In the order in which they arrived; and after those come the ones with a number."""
    parts = [at(30, 101, seq=4), at(30, 102, part=1), at(0, 100), at(30, power=5)]
    assert energies(usage_of(parts)[0]) == [(0, 30, 2 * KWH)]
    assert reasons(*parts) == [(0, Reason.REGISTER_FELL)]
    assert energies(usage_of([at(0, 100), at(30, 101, part=1), at(30, 102, part=0)])[0]) == [(0, 30, 2 * KWH)]


def test_readings_of_one_moment_and_number_stand_in_the_order_of_their_boots() -> None:
    assert reasons(at(0, 100), at(30, 102, seq=4, boot=2), at(30, 101, seq=4, boot=1)) == []
    assert reasons(at(0, 100), at(30, 102, seq=4), at(30, 101, seq=4, boot=1)) == [(2, Reason.REGISTER_FELL)]


def test_a_session_without_a_reading_has_no_usage() -> None:
    with pytest.raises(NoReadings):
        usage_of([])


@given(sessions())
def test_energy_is_that_of_the_session_as_telemetry_defines_it(session: Session) -> None:
    """Against the plain-Python reference that the stream's energy kernel is compared with."""
    before = session.before
    base = (
        None if before.register_mwh is None or before.register_ms is None else (before.register_mwh, before.register_ms)
    )
    meter = Meter(before.power_max_mw, base, before.series_mwh)
    none = -(2**63)
    for r in sorted(
        session.readings, key=lambda r: [none if v is None else v for v in (r.ts_ms, r.seq, r.part, r.boot)]
    ):
        meter.add({"ts_ms": r.ts_ms, "energy_mwh": r.energy_mwh, "power_mw": r.power_mw, "energy_export_mwh": None})
    used, _ = usage_of(session.readings, before)
    counted_mwh = sum(interval.energy.energy_mwh for interval in used.intervals if interval.energy is not None)
    assert counted_mwh == meter.energy_uj // UJ_PER_MWH


def powers(used: Usage) -> list[tuple[int, int, int]]:
    """Stretches of time: until minute, W, mA."""
    times = [interval.time for interval in used.intervals if interval.time is not None]
    return [((t.end_ms - T0) // MINUTE_MS, t.power_mw // 1_000, t.current_ma) for t in times]


def test_a_power_that_nobody_said_is_the_rise_of_the_register_over_its_time() -> None:
    used, _ = usage_of([at(0, 1), at(30, 11), at(60, 21), at(120, 22)])
    assert powers(used) == [(30, 20_000, 86_956), (60, 20_000, 86_956), (120, 1_000, 4_347)]
    assert [interval.energy.power_mw for interval in used.intervals if interval.energy] == [20 * KW, 20 * KW, KW]
    assert (used.power_mw, used.current_ma) == (None, None), "the first reading says neither"


def test_a_power_that_follows_is_in_whole_milliwatts_rounded_down() -> None:
    used, _ = usage_of([StoredReading(T0, energy_mwh=0), StoredReading(T0 + 7, energy_mwh=1)])
    assert used.intervals[0].time is not None
    assert used.intervals[0].time.power_mw == UJ_PER_MWH // 7


def test_once_a_power_was_said_no_register_says_another() -> None:
    used, _ = usage_of([at(0, 1), at(30, 11), at(60, 21, power=7), at(90, 31), at(120, 41, power=2_000), at(150, 51)])
    assert powers(used)[2:] == [(90, 7_000, 30_434), (120, 7_000, 30_434), (150, 7_000, 30_434)]
    never_believed, _ = usage_of([at(0, 1, power=2_000), at(30, 11, power=2_000), at(60, 21)])
    assert [watt for _, watt, _ in powers(never_believed)] == [20_000, 20_000]


def test_a_current_that_was_said_stands_and_one_that_was_not_is_that_of_the_power() -> None:
    used, _ = usage_of([at(0, 1), at(30, 11, current_ma=16_000), at(60, 21), at(90, 31, current_ma=-1), at(120, 41)])
    assert [current_ma for _, _, current_ma in powers(used)] == [86_956, 16_000, 16_000, 0]
    assert powers(usage_of([at(0, power=23), at(1)])[0]) == [(1, 23_000, 100_000)], "a power that was said, too"


def test_a_register_that_stands_is_parking_where_neither_status_nor_power_was_ever_said() -> None:
    assert kinds(at(0, 1), at(30, 6), at(60, 11), at(90, 11), at(120, 11), at(150, 12)) == [
        *(CHARGING, CHARGING, PARKING, PARKING, CHARGING)
    ]
    assert kinds(at(0, 1, status=Status.CHARGING), at(30, 1), at(60, 1)) == [CHARGING, CHARGING]
    assert kinds(at(0, 1), at(30, 1, power=11), at(60, 1)) == [PARKING, CHARGING]
    assert kinds(at(0), at(30), at(60)) == [CHARGING], "without a register nothing shows"


def test_time_that_nothing_was_said_of_waits_for_the_register() -> None:
    """Whether a reading comes in parts or says something else does not matter."""
    whole = [at(0, 1), at(30, 11), at(60, 11), at(90, 16)]
    parts = [at(0), at(0, 1, seq=1), at(30), at(30, 11, seq=2), at(45), at(60), at(60, 11, seq=3), at(70), at(90, 16)]
    assert powers(usage_of(parts)[0]) == powers(usage_of(whole)[0])
    assert kinds(*parts) == kinds(*whole) == [CHARGING, PARKING, CHARGING]


def test_time_that_waits_is_closed_by_the_last_reading_as_the_register_was() -> None:
    idle = [at(0, 1), at(30, 11), at(60, 11), at(75), at(90)]
    assert powers(usage_of(idle)[0]) == [(30, 20_000, 86_956), (60, 0, 0), (90, 0, 0)]
    assert kinds(*idle) == [CHARGING, PARKING, PARKING]


def test_a_glitch_of_the_register_shows_no_power_and_a_restart_shows_its_own() -> None:
    assert powers(usage_of([at(0, 100), at(15, 0), at(30, 110)])[0]) == [(30, 20_000, 86_956)]
    assert powers(usage_of([at(0, 100), at(15, 0), at(30, 5), at(45, 10)])[0]) == [
        (30, 20_000, 86_956),
        (45, 20_000, 86_956),
    ]


def test_registers_of_one_moment_show_no_power() -> None:
    readings = [at(0, 1), at(30, 11), StoredReading(T0 + 30 * MINUTE_MS, 1, 11 * KWH + 1), at(60, 21)]
    assert [watt for _, watt, _ in powers(usage_of(readings)[0])] == [20_000, 19_999]
