"""The energy of a session: one case per rule, in mWh and minutes."""

from dataclasses import fields

import numpy as np
import pytest

from schemas.quality import Quality
from streams.kernels import energy
from streams.kernels.energy import UJ_PER_MWH, Samples, SessionEnergy
from streams.kernels.runs import NULL, runs_of

MINUTE_MS = 60_000
POWER_MAX_MW = 400_000_000  # 400 kW


def energy_of(
    readings: list[tuple[int, int | None, int | None]],
    *,
    seq: list[int] | None = None,
    sessions: SessionEnergy | None = None,
) -> tuple[SessionEnergy, list[Quality]]:
    """The energy of one session of (minute, register mWh, power mW), or of `sessions` after these readings."""
    sessions = sessions or SessionEnergy.fresh(1)
    column = [np.array([NULL if v is None else v for v in values], np.int64) for values in zip(*readings, strict=True)]
    samples = Samples(column[0] * MINUTE_MS, np.array(seq or range(len(readings))), column[1], column[2])
    runs = runs_of(np.zeros(len(readings), np.int64))
    flags = energy.advance(sessions, samples, runs, POWER_MAX_MW)
    return sessions, [Quality(int(flag)) for flag in flags]


OK = Quality(0)
KWH = 1_000_000


@pytest.mark.parametrize(
    ("why", "registers", "counted", "flags"),
    [
        ("differences count, not the lifetime", [9 * KWH, 9 * KWH + 500, 9 * KWH + 700], 700, [OK, OK, OK]),
        ("a zero-based register is as good", [0, 500, 900], 900, [OK, OK, OK]),
        ("a placeholder zero is left out", [5 * KWH, 0, 5 * KWH + 900], 900, [OK, Quality.PLACEHOLDER_ZERO, OK]),
        ("a rollback is left out", [5 * KWH, 5 * KWH - 10, 5 * KWH + 900], 900, [OK, Quality.METER_ROLLBACK, OK]),
        (
            "a small fall that lasts is not billed twice",
            [5 * KWH, 5 * KWH - 10, 5 * KWH - 5, 5 * KWH + 900],
            900,
            [OK, Quality.METER_ROLLBACK, Quality.METER_ROLLBACK, OK],
        ),
        ("a spike is left out", [0, 900 * KWH, 900], 900, [OK, Quality.IMPLAUSIBLE_POWER, OK]),
        (
            "after a reset counting goes on from the new register",
            [5 * KWH, 10, 60, 160],
            150,
            [OK, Quality.METER_ROLLBACK, Quality.METER_RESET, OK],
        ),
        (
            "after a replaced meter counting goes on from the new one",
            [0, 900 * KWH, 900 * KWH + 50],
            50,
            [OK, Quality.IMPLAUSIBLE_POWER, Quality.METER_RESET],
        ),
    ],
)
def test_registers(why: str, registers: list[int], counted: int, flags: list[Quality]) -> None:
    sessions, seen = energy_of([(minute, register, None) for minute, register in enumerate(registers)])
    assert sessions.energy_uj()[0] == counted * UJ_PER_MWH, why
    assert seen == flags, why
    assert sessions.integrated_uj()[0] == 0


def test_power_stands_until_the_next_reading() -> None:
    sessions, _ = energy_of([(0, None, 6_000_000), (10, None, 12_000_000), (40, None, None), (60, None, 0)])
    assert sessions.energy_uj()[0] == (6_000_000 * 10 + 12_000_000 * 50) * MINUTE_MS
    assert sessions.integrated_uj()[0] == sessions.energy_uj()[0]


def test_export_is_not_billed() -> None:
    sessions, _ = energy_of([(0, None, -6_000_000), (10, None, 6_000_000), (20, None, 0)])
    assert sessions.energy_uj()[0] == 6_000_000 * 10 * MINUTE_MS


def test_registers_replace_what_was_integrated_between_them() -> None:
    power = 6_000_000  # 6 kW for 10 minutes: 1 kWh
    sessions, _ = energy_of([(0, None, power), (10, 5 * KWH, power), (15, None, power), (20, 5 * KWH + 700, power)])
    assert sessions.integrated_uj()[0] == KWH * UJ_PER_MWH, "only before the first register"
    assert sessions.energy_uj()[0] == (KWH + 700) * UJ_PER_MWH


def test_after_the_last_register_power_is_provisional() -> None:
    sessions, _ = energy_of([(0, 100, 6_000_000), (10, None, 6_000_000)])
    assert sessions.energy_uj()[0] == KWH * UJ_PER_MWH == sessions.integrated_uj()[0]


def test_readings_that_overtake_each_other_in_a_batch_have_the_energy_of_those_in_order() -> None:
    in_order = [(0, 0, 6_000_000), (1, 300, 7_000_000), (2, 800, None), (3, 900, 8_000_000), (4, None, 0)]
    expected, _ = energy_of(in_order)
    for arrival in ([0, 2, 1, 3, 4], [2, 1, 0, 3, 4], [3, 0, 1, 2, 4]):
        sessions, _ = energy_of([in_order[i] for i in arrival], seq=arrival)
        for field in fields(SessionEnergy):
            assert getattr(sessions, field.name)[0] == getattr(expected, field.name)[0], field.name
    assert expected.dirty[0] == 0


def test_what_arrives_after_a_newer_one_of_an_earlier_batch_marks_the_session_and_counts_nothing() -> None:
    sessions, _ = energy_of([(0, 0, None), (2, 800, None)])
    energy_of([(1, 300, None), (3, 900, None)], sessions=sessions)
    assert sessions.dirty[0] == 1
    assert sessions.readings[0] == 4
    assert sessions.energy_uj()[0] == 900 * UJ_PER_MWH


def test_a_session_that_judges_its_registers_otherwise_than_their_order_stays_marked() -> None:
    """The newest register came behind a newer reading: it counts, but what comes next is judged by the one before."""
    sessions, _ = energy_of([(0, 0, None), (2, None, None), (1, 300, None)])
    assert sessions.dirty[0] == 1
    assert sessions.register_last_mwh[0] == 0


def test_readings_of_one_moment_leave_the_session_marked() -> None:
    sessions, _ = energy_of([(0, 0, None), (1, 300, None), (1, 500, None)], seq=[0, 1, 1])
    assert sessions.dirty[0] == 1


def test_a_power_beyond_any_charger_is_not_held() -> None:
    sessions, flags = energy_of([(0, None, 6_000_000), (1, None, POWER_MAX_MW + 1), (2, None, 0)])
    assert flags[1] == Quality.IMPLAUSIBLE_POWER
    assert sessions.energy_uj()[0] == 6_000_000 * 2 * MINUTE_MS
