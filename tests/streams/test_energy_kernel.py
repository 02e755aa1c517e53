"""The energy of a connector's segments: one case per rule of docs/adr/0014, in mWh and minutes."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest

from schemas.quality import Quality
from schemas.session import HoldReason
from streams.kernels import energy, session_energy
from streams.kernels.energy import Accounted, Samples
from streams.kernels.runs import I64, NULL, runs_of
from streams.kernels.session_energy import UJ_PER_MWH, SessionEnergy

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
KW = 1_000_000
KWH = 1_000_000
POWER_MAX_MW = 22 * KW
OK = Quality(0)
ZERO, FELL = Quality.PLACEHOLDER_ZERO, Quality.METER_ROLLBACK
LEAP, RESET = Quality.IMPLAUSIBLE_POWER, Quality.METER_RESET

LATE = HoldReason.REGISTER_LATE
ENDED = session_energy.SessionEnds(np.zeros(1, np.bool_), *(np.full(1, NULL) for _ in range(3)))  # by the device

Reading = tuple[float, int | None, int | None]
"""Minute, register mWh, power mW."""


class Meter:
    """One connector, whose segments are fed with readings."""

    def __init__(
        self,
        *,
        session: bool = True,
        power_max_mw: int = POWER_MAX_MW,
        before: tuple[float, int] | None = None,
        series_mwh: int = NULL,
    ) -> None:
        """`before`: minute and register of the last accepted one before the segment."""
        self.energy = SessionEnergy.fresh(1)
        self.energy.power_max_mw[0], self.energy.series_mwh[0] = power_max_mw, series_mwh
        if before is not None:
            self.energy.register_ts_ms[0] = self.energy.before_ts_ms[0] = round(before[0] * MINUTE_MS)
            self.energy.register_last_mwh[0] = self.energy.before_mwh[0] = before[1]
        self.in_session = np.array([session])
        self.flags: list[Quality] = []
        self.accounted: list[tuple[int, int, int]] = []  # in the session, outside, rejected

    def read(self, *readings: Reading, export_mwh: list[int | None] | None = None) -> "Meter":
        """Feed these readings in one batch."""
        minutes, register_mwh, power_mw = zip(*readings, strict=True)
        samples = Samples(
            _array([round(minute * MINUTE_MS) for minute in minutes]),
            _array(register_mwh),
            _array(power_mw),
            None if export_mwh is None else _array(export_mwh),
        )
        found = energy.advance(self.energy, samples, runs_of(np.zeros(len(readings), np.int64)), self.in_session)
        self.flags += [Quality(int(flag)) for flag in found.flags]
        self.accounted += _rows(found)
        return self

    def next(self, *, session: bool, minute: float = 0) -> None:
        """Begin the segment that follows."""
        start_ms = round(minute * MINUTE_MS)
        after, self.in_session = self.in_session, np.array([session])
        self.energy = self.energy.next_segments(
            self.energy.power_max_mw, _array([start_ms]), after_session=after, in_session=self.in_session
        )

    @property
    def sums(self) -> tuple[int, int, int]:
        """In the session, outside, rejected."""
        own, outside, rejected = zip(*self.accounted, strict=True)
        return sum(own), sum(outside), sum(rejected)

    @property
    def mwh(self) -> int:
        """Energy to date, which is whole."""
        whole, rest = divmod(int(self.energy.energy_uj()[0]), UJ_PER_MWH)
        assert rest == 0
        return whole

    @property
    def reasons(self) -> HoldReason:
        """Why it is held if it ends here."""
        return HoldReason(int(session_energy.hold_reasons(self.energy, ENDED, 0)[0]))


def _array(values: Sequence[int | None]) -> I64:
    return np.array([NULL if value is None else value for value in values], np.int64)


def _rows(found: Accounted) -> list[tuple[int, int, int]]:
    columns = found.in_session_mwh, found.outside_mwh, found.rejected_mwh
    return list(zip(*(column.tolist() for column in columns), strict=True))


def registers(*values: int, session: bool = True, minutes: int = 1) -> Meter:
    """A meter that read these, so many minutes apart."""
    return Meter(session=session).read(*((n * minutes, value, None) for n, value in enumerate(values)))


@pytest.mark.parametrize(
    ("why", "values", "counted", "flags"),
    [
        ("differences count, not the lifetime", [9 * KWH, 9 * KWH + 500, 9 * KWH + 700], 700, [OK, OK, OK]),
        ("a zero-based register is as good", [0, 500, 900], 900, [OK, OK, OK]),
        ("a placeholder zero is left out", [5 * KWH, 0, 5 * KWH + 900], 900, [OK, ZERO, OK]),
        ("a rollback is left out", [5 * KWH, 5 * KWH - 10, 5 * KWH + 900], 900, [OK, FELL, OK]),
        (
            "a small fall that lasts is not billed twice",
            [5 * KWH, 5 * KWH - 10, 5 * KWH - 5, 5 * KWH + 900],
            900,
            [OK, FELL, FELL, OK],
        ),
        ("a spike is left out", [0, 900 * KWH, 900], 900, [OK, LEAP, OK]),
        ("after a reset counting goes on from the new register", [5 * KWH, 10, 60, 160], 150, [OK, FELL, RESET, OK]),
        ("after a leap too", [5, 900 * KWH, 900 * KWH + 50], 50, [OK, LEAP, RESET]),
        ("a candidate that is not passed is no reset", [5 * KWH, 10, 10, 10], 0, [OK, FELL, FELL, FELL]),
        ("half the register is no reset", [200_000, 100_000, 100_500], 0, [OK, FELL, FELL]),
        ("less than half is one", [200_000, 99_999, 100_499], 500, [OK, FELL, RESET]),
    ],
)
def test_registers(why: str, values: list[int], counted: int, flags: list[Quality]) -> None:
    meter = registers(*values)
    assert meter.mwh == meter.sums[0] == counted, why
    assert meter.flags == flags, why
    assert meter.energy.integrated_uj()[0] == 0
    one_by_one = Meter()
    for minute, value in enumerate(values):
        one_by_one.read((minute, value, None))
    assert (one_by_one.flags, one_by_one.accounted) == (meter.flags, meter.accounted), why
    for f in fields(SessionEnergy):
        assert getattr(one_by_one.energy, f.name)[0] == getattr(meter.energy, f.name)[0], f.name


# -- Plausible


@pytest.mark.parametrize(("rise_mwh", "good"), [(11 * KWH + 100_000, True), (11 * KWH + 100_001, False)])
def test_a_register_rises_by_what_the_connector_delivers_and_100_wh(rise_mwh: int, good: bool) -> None:
    """22 kW for half an hour."""
    meter = Meter().read((0, 5, None), (30, 5 + rise_mwh, None))
    assert meter.flags == [OK, OK if good else LEAP]
    assert meter.sums == (rise_mwh if good else 0, 0, 0)


def test_the_time_is_that_since_the_last_accepted_register() -> None:
    """44 kWh in two hours; what was said between does not shorten them."""
    meter = Meter().read((0, 0, None), (60, 900 * KWH, None), (110, None, 0), (120, 44 * KWH, None))
    assert meter.flags == [OK, LEAP, OK, OK]
    assert meter.mwh == 44 * KWH


@pytest.mark.parametrize(
    ("why", "minutes", "rise_mwh", "powers_kw", "good"),
    [
        ("four times 4 kW for a quarter of an hour are 4 kWh, and 1 kWh", 15, 5 * KWH, (4, None), True),
        ("and no more", 15, 5 * KWH + 1, (4, None), False),
        ("over a longer time the device's power says nothing", 15.001, 5 * KWH + 1, (4, None), True),
        ("nor does a power of nothing", 15, 5 * KWH + 1, (0, None), True),
        ("nor none at all", 15, 5 * KWH + 1, (None, None), True),
        ("the power that comes with the register counts", 15, 5 * KWH + 4, (1, 5), True),
        ("the rating holds whatever the device says", 15, 5 * KWH + 600_001, (22, 22), False),
    ],
)
def test_a_register_rises_by_what_the_device_says_of_its_power(
    why: str, minutes: float, rise_mwh: int, powers_kw: tuple[int | None, int | None], good: bool
) -> None:
    powers = [None if kw is None else kw * KW for kw in powers_kw]
    meter = Meter().read((0, 0, powers[0]), (minutes, rise_mwh, powers[1]))
    assert meter.flags == [OK, OK if good else LEAP], why


def test_the_highest_power_since_the_last_accepted_register_counts_and_that_which_held_then() -> None:
    between = Meter().read((0, 0, 1 * KW), (5, None, 8 * KW), (9, None, 1 * KW), (15, 5 * KWH + 5, None))
    assert between.flags == [OK, Quality(0), Quality(0), OK]
    held = Meter().read((0, 0, 8 * KW), (1, 1_000, 4 * KW), (15, 4 * KWH, None))
    assert held.flags[2] == OK, "4 kW held when 1 Wh was accepted: 14 minutes of four times that, and 1 kWh"
    before = Meter().read((0, 0, 8 * KW), (1, 1_000, 1 * KW), (15, 4 * KWH, None))
    assert before.flags[2] == LEAP, "8 kW was before"


def test_registers_of_one_moment_are_judged_by_the_time_since_an_earlier_one() -> None:
    moment = Meter().read(
        (0, 0, None), (30, 5 * KWH, None), (30, 6 * KWH, None), (30, 900 * KWH, None), (45, 7 * KWH, None)
    )
    assert moment.flags == [OK, OK, OK, LEAP, OK]
    assert moment.sums == (7 * KWH, 0, 0)
    below = Meter().read((0, 0, None), (30, 5 * KWH, None), (30, 4 * KWH, None), (31, 5 * KWH, None))
    assert below.flags == [OK, OK, FELL, OK], "below the last one is a fall, though above the one before"
    alone = Meter().read((0, 0, None), (0, 100_000, None), (0, 200_001, None))
    assert alone.flags == [OK, OK, LEAP], "nothing is earlier: 100 Wh at most"


# -- The base


def test_the_rise_to_a_sessions_first_register_is_outside_of_it() -> None:
    meter = Meter(before=(0, 5 * KWH)).read((30, 6 * KWH, None), (60, 8 * KWH, None))
    assert meter.accounted == [(0, KWH, 0), (2 * KWH, 0, 0)]
    assert (meter.mwh, int(meter.energy.register_first_mwh[0])) == (2 * KWH, 6 * KWH)


def test_outside_of_sessions_every_rise_is_outside_and_no_power_is_integrated() -> None:
    meter = registers(5 * KWH, 5 * KWH + 700, 10, 60, session=False).read((9, None, 5 * KW), (20, None, None))
    assert meter.accounted == [(0, 0, 0), (0, 700, 0), (0, 0, 0), (0, 50, 0), (0, 0, 0), (0, 0, 0)]
    assert meter.energy.power_uj[0] == 0


def test_a_first_register_that_does_not_fit_is_a_glitch_or_a_new_meter() -> None:
    glitch = Meter(before=(0, 5 * KWH)).read((1, 900 * KWH, None), (2, 5 * KWH + 5, None), (3, 5 * KWH + 9, None))
    assert (glitch.flags, glitch.accounted) == ([LEAP, OK, OK], [(0, 0, 0), (0, 5, 0), (4, 0, 0)])
    new = Meter(before=(0, 5 * KWH)).read((1, 900 * KWH, None), (2, 900 * KWH + 5, None), (3, 900 * KWH + 9, None))
    assert (new.flags, new.sums) == ([LEAP, RESET, OK], (9, 0, 895 * KWH))
    assert new.energy.register_first_mwh[0] == 900 * KWH
    assert new.reasons == HoldReason(0), "the session's own registers do not leap"


def test_a_device_that_counts_each_session_from_the_same_register_begins_there() -> None:
    series = Meter(before=(0, 90 * KWH), series_mwh=80 * KWH).read((1, 80 * KWH, None), (30, 85 * KWH, None))
    assert (series.flags, series.accounted) == ([OK, OK], [(0, 0, 0), (5 * KWH, 0, 0)])
    other = Meter(before=(0, 90 * KWH), series_mwh=80 * KWH).read((1, 79 * KWH, None), (30, 80 * KWH, None))
    assert (other.flags, other.sums) == ([FELL, OK], (0, 0, 0)), "the first accepted register of the session counts"
    later = Meter(before=(0, 90 * KWH), series_mwh=80 * KWH)
    later.read((1, 91 * KWH - 900_000, None), (2, 80 * KWH, None))
    assert later.flags == [OK, FELL], "the first only"
    nobody = Meter(before=(0, 90 * KWH), series_mwh=80 * KWH, session=False).read((1, 80 * KWH, None))
    assert nobody.flags == [FELL], "of sessions only"


def test_what_the_next_segment_inherits_is_the_base() -> None:
    """And for the series the first register of the session before, whatever was between."""
    meter = Meter().read((0, 5 * KWH, KW), (10, 5 * KWH + 9_000, KW), (11, 10, None))
    meter.next(session=False)
    assert (meter.energy.register_last_mwh[0], meter.energy.before_mwh[0]) == (5 * KWH + 9_000, 5 * KWH + 9_000)
    assert (meter.energy.before_ts_ms[0], meter.energy.series_mwh[0]) == (10 * MINUTE_MS, 5 * KWH)
    meter.read((12, 60, None))
    assert meter.flags[-1] == FELL, "the candidate is forgotten: nothing rose from it"
    meter.next(session=True)
    assert meter.energy.series_mwh[0] == 5 * KWH
    meter.read((13, 5 * KWH, None), (14, 5 * KWH + 7, None))
    assert meter.accounted[-2:] == [(0, 0, 0), (7, 0, 0)]


def test_the_register_before_a_reset_is_forgotten_with_the_segment() -> None:
    meter = registers(100 * KWH, 10 * KWH, 10 * KWH + 50_000)
    assert meter.flags[-1] == RESET
    meter.next(session=False)
    meter.read((9, 101 * KWH, None))
    assert meter.flags[-1] == LEAP


@pytest.mark.parametrize(
    ("why", "before", "readings", "reasons"),
    [
        ("all that the meter rose by", [(0, 5 * KWH, None)], [(9, None, None), (69, 12 * KWH, None)], LATE),
        ("100 Wh are a step of the register", [(0, 0, None)], [(9, None, None), (69, 100_000, None)], HoldReason(0)),
        ("and no more", [(0, 0, None)], [(9, None, None), (69, 100_001, None)], LATE),
        ("the first reading has it", [(0, 0, None)], [(9, 3 * KWH, None), (69, 7 * KWH, None)], HoldReason(0)),
        ("most was counted", [(0, 0, None)], [(9, None, None), (19, KWH, None), (69, 2 * KWH, None)], HoldReason(0)),
        ("most was not", [(0, 0, None)], [(9, None, None), (19, KWH, None), (69, 2 * KWH - 1, None)], LATE),
        ("1 kWh at most", [(0, 0, None)], [(9, None, None), (19, KWH + 1, None), (69, 20 * KWH, None)], LATE),
        ("no more than a third is explained", [(0, 0, None)], [(9, None, KW), (69, 4 * KWH + 1, 0)], LATE),
        ("a third and 1 kWh are", [(0, 0, None)], [(9, None, KW), (69, 4 * KWH, 0)], HoldReason(0)),
        (
            "of a session that could not deliver it",
            [(0, 0, None)],
            [(40, None, None), (40.001, 7 * KWH, None), (60, 8 * KWH, None)],
            HoldReason(0),
        ),
        (
            "the session before took it",
            [(0, 0, 6 * KW), (30, None, 0)],
            [(39, None, None), (69, 3 * KWH + 100_000, None)],
            HoldReason(0),
        ),
        ("nothing is known of before, nor of this", [], [(9, None, None), (69, 12 * KWH, 0)], LATE),
        ("nothing is known of before", [], [(9, None, None), (19, KWH, 0), (69, 2 * KWH, 0)], HoldReason(0)),
        ("it drew nothing", [], [(9, None, 0), (69, 12 * KWH, 0)], HoldReason(0)),
    ],
)
def test_a_session_whose_first_register_is_late_is_held_if_that_matters(
    why: str, before: list[Reading], readings: list[Reading], reasons: HoldReason
) -> None:
    meters = []
    for batches in ([readings], [[reading] for reading in readings]):
        meter = Meter().read(*before) if before else Meter(session=False)
        meter.next(session=True, minute=readings[0][0])
        for batch in batches:
            meter.read(*batch)
        meters.append(meter)
    assert [meter.reasons & LATE for meter in meters] == [reasons, reasons], why


# -- Resets and mixed registers


def test_what_a_reset_leaps_over_is_rejected_and_holds_the_session() -> None:
    leap = registers(5 * KWH, 900 * KWH, 900 * KWH + 50)
    assert leap.accounted == [(0, 0, 0), (0, 0, 0), (50, 0, 895 * KWH)]
    assert leap.reasons == HoldReason.REGISTER_LEAPT
    fall = registers(5 * KWH, 10, 60)
    assert (fall.sums, fall.reasons) == ((50, 0, 0), HoldReason(0))
    outside = registers(5 * KWH, 900 * KWH, 900 * KWH + 50, session=False)
    assert outside.sums == (0, 50, 895 * KWH)


def test_a_leap_from_a_register_of_zero_rejects_nothing_and_the_session_begins_there() -> None:
    meter = registers(0, 1_234_567, 1_234_617)
    assert (meter.flags, meter.sums, meter.reasons) == ([OK, LEAP, RESET], (50, 0, 0), HoldReason(0))
    assert meter.energy.register_first_mwh[0] == 1_234_567
    inherited = Meter(before=(0, 0)).read((1, 900 * KWH, None), (2, 900 * KWH + 50, None))
    assert inherited.sums == (50, 0, 0)


def test_a_register_that_goes_on_before_the_reset_was_one_of_two_and_the_true_one() -> None:
    """Its rise replaces what was counted of the other."""
    meter = registers(100 * KWH, 10 * KWH, 11 * KWH, 103 * KWH, 104 * KWH, minutes=15)
    assert meter.accounted == [(0, 0, 0), (0, 0, 0), (KWH, 0, 0), (2 * KWH, 0, 0), (KWH, 0, 0)]
    assert (meter.flags[3], meter.mwh, meter.reasons) == (RESET, 4 * KWH, HoldReason(0))
    above = registers(100 * KWH, 900 * KWH, 901 * KWH, 103 * KWH, minutes=15)
    assert above.accounted[2:] == [(KWH, 0, 800 * KWH), (2 * KWH, 0, -800 * KWH)], "nothing was rejected after all"


def test_of_one_moment_with_the_true_register_more_is_judged_by_the_time_since_the_one_before_the_reset() -> None:
    meter = registers(100 * KWH, 10 * KWH, 11 * KWH, 103 * KWH, minutes=15).read((45, 103 * KWH + 200_000, None))
    assert (meter.flags[-1], meter.mwh) == (OK, 3 * KWH + 200_000)


def test_mixed_registers_that_disagree_hold_the_session() -> None:
    meter = registers(100 * KWH, 10 * KWH, 14 * KWH, 103 * KWH, 104 * KWH, minutes=15)
    assert meter.accounted[2:] == [(4 * KWH, 0, 0), (0, 0, 0), (KWH, 0, 0)], "what was counted is not taken back"
    assert meter.reasons == HoldReason.REGISTERS_MIXED
    outside = registers(100 * KWH, 10 * KWH, 14 * KWH, 103 * KWH, session=False, minutes=15)
    assert outside.sums == (0, 4 * KWH, 0)


def test_after_mixed_registers_the_other_one_is_judged_by_the_true_one_alone() -> None:
    meter = registers(100 * KWH, 10 * KWH, 11 * KWH, 103 * KWH, 12 * KWH, 104 * KWH, minutes=15)
    assert meter.flags[4:] == [FELL, OK]


# -- Power


def test_power_stands_until_the_next_reading() -> None:
    meter = Meter().read((0, None, 6 * KW), (10, None, 12 * KW), (40, None, None), (60, None, 0))
    assert meter.mwh == KWH + 10 * KWH
    assert meter.energy.integrated_uj()[0] == meter.energy.energy_uj()[0]


def test_export_is_not_billed() -> None:
    assert Meter().read((0, None, -6 * KW), (10, None, 6 * KW), (20, None, 0)).mwh == KWH


def test_registers_replace_what_was_integrated_between_them() -> None:
    meter = Meter().read((0, None, 6 * KW), (10, 5 * KWH, 6 * KW), (15, None, 6 * KW), (20, 5 * KWH + 700, 6 * KW))
    assert meter.energy.integrated_uj()[0] == KWH * UJ_PER_MWH, "only before the first register"
    assert meter.mwh == KWH + 700


def test_after_the_last_register_power_is_provisional() -> None:
    meter = Meter().read((0, 100, 6 * KW), (10, None, 6 * KW))
    assert meter.mwh * UJ_PER_MWH == KWH * UJ_PER_MWH == meter.energy.integrated_uj()[0]


def test_a_power_beyond_the_connectors_is_not_held() -> None:
    meter = Meter().read((0, None, 6 * KW), (1, None, POWER_MAX_MW + 1), (2, None, 0))
    assert meter.flags[1] == Quality.IMPLAUSIBLE_POWER
    assert meter.energy.energy_uj()[0] == 6 * KW * 2 * MINUTE_MS
    assert Meter().read((0, None, POWER_MAX_MW)).flags == [OK]


def test_what_the_export_register_rises_by_is_exported() -> None:
    meter = Meter().read((0, 5, None), (1, 5, None), (2, 5, None), (3, 5, None), export_mwh=[100, None, 350, 300])
    meter.read((4, 5, None), export_mwh=[360])
    assert (meter.energy.export_mwh[0], meter.mwh) == (260, 0)


@pytest.mark.parametrize(
    ("why", "values", "exported", "reasons"),
    [
        ("a spike is left out", [500, 900 * KWH, 600], 100, HoldReason(0)),
        ("one at the end holds the session", [500, 600, 900 * KWH], 100, HoldReason.REGISTER_UNCONFIRMED),
        ("a leap too", [500, 900 * KWH, 900 * KWH + 50], 50, HoldReason.REGISTER_LEAPT),
        ("but not from a placeholder", [0, 900 * KWH, 900 * KWH + 50], 50, HoldReason(0)),
        ("a zero is left out", [5 * KWH, 0, 5 * KWH + 900], 900, HoldReason(0)),
        ("after a reset it goes on", [5 * KWH, 10, 60, 160], 150, HoldReason(0)),
        ("a fall to half or more is none", [5 * KWH, 4 * KWH, 5 * KWH + 7], 7, HoldReason(0)),
        ("whole Wh are no fall", [5 * KWH + 700, 5 * KWH, 6 * KWH], KWH - 700, HoldReason(0)),
    ],
)
def test_the_export_register_is_judged_too(why: str, values: list[int], exported: int, reasons: HoldReason) -> None:
    minutes = [(5 * n, 5, None) for n in range(len(values))]
    meter, one_by_one = Meter().read(*minutes, export_mwh=[*values]), Meter()
    for reading, value in zip(minutes, values, strict=True):
        one_by_one.read(reading, export_mwh=[value])
    for found in (meter, one_by_one):
        assert (found.energy.export_mwh[0], found.reasons) == (exported, reasons), why


# -- Held


@pytest.mark.parametrize(
    ("why", "readings", "reasons"),
    [
        ("the last register is a candidate", [(0, 100, None), (1, 50, None)], HoldReason.REGISTER_UNCONFIRMED),
        ("one that was not the last is a glitch", [(0, 100, None), (1, 50, None), (2, 101, None)], HoldReason(0)),
        (
            "three times as much by power, and 1 kWh more",
            [(0, 0, 13 * KW), (20, 0, 13 * KW), (20, KWH + 111_111, 0)],
            HoldReason(0),
        ),
        (
            "and a mWh more",
            [(0, 0, 13 * KW), (20, 0, 13 * KW), (20, KWH + 111_110, 0)],
            HoldReason.REGISTER_AGAINST_POWER,
        ),
        (
            "three times as much by the register",
            [(0, 0, 0), (20, 7 * KWH, 0), (40, 14 * KWH, 0)],
            HoldReason.REGISTER_AGAINST_POWER,
        ),
        ("power that is reported more rarely does not contradict", [(0, 0, 0), (21, 7 * KWH, 0)], HoldReason(0)),
        ("nor where it is silent at the end", [(0, 0, 0), (20, 7 * KWH, 0), (41, 7 * KWH, None)], HoldReason(0)),
        ("nor power that was never reported", [(0, 0, None), (20, 7 * KWH, None)], HoldReason(0)),
        (
            "without a register, a power was left out",
            [(0, None, 6 * KW), (1, None, POWER_MAX_MW + 1)],
            HoldReason.POWER_IMPLAUSIBLE,
        ),
        ("with a register that does not matter", [(0, 5, 6 * KW), (1, 5, POWER_MAX_MW + 1)], HoldReason(0)),
        ("without a register, a power stood for an hour", [(0, None, KW), (60, None, 0)], HoldReason.SILENT),
        ("for less", [(0, None, KW), (59.999, None, 0)], HoldReason(0)),
        ("with a register that does not matter either", [(0, 0, KW), (60, KWH, 0)], HoldReason(0)),
        ("nothing stood", [(0, None, 0), (90, None, 0)], HoldReason(0)),
    ],
)
def test_a_session_that_contradicts_itself_is_held(why: str, readings: list[Reading], reasons: HoldReason) -> None:
    assert Meter().read(*readings).reasons == reasons, why
    one_by_one = Meter()
    for reading in readings:
        one_by_one.read(reading)
    assert one_by_one.reasons == reasons, why
