"""Laws of faults: each does what it says, to a share of the readings, and leaves the clean stream alone."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from simulator.fleet.faults import (
    FaultPlan,
    clock_skew,
    delay,
    drop,
    duplicate,
    malformed,
    meter_reset,
    meter_rollback,
    placeholder_zero,
    reboot,
    reorder,
    with_faults,
)
from simulator.fleet.readings import NULL, Readings
from tests.simulator.fleets import bursts, rows_of

ALL = [entry.name for entry in fields(FaultPlan)]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def identities(rows: Readings) -> Counter[tuple[int, int]]:
    return Counter(zip(rows["slot"].tolist(), rows["seq"].tolist(), strict=True))


@pytest.mark.parametrize("name", ALL)
def test_the_clean_stream_is_untouched(seed: int, name: str) -> None:
    clean = bursts(seed)
    bent = rows_of(list(with_faults(clean, FaultPlan(**{name: 0.3}), seed)))
    assert (rows_of(clean) == rows_of(bursts(seed))).all()
    assert len(bent) != len(rows_of(clean)) or (bent != rows_of(clean)).any()


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_faults(seed: int, name: str) -> None:
    plan = FaultPlan(**{name: 0.1})
    first, second = (rows_of(list(with_faults(bursts(seed), plan, seed))) for _ in range(2))
    assert (first == second).all()


def test_probability_zero_changes_nothing(seed: int) -> None:
    assert (rows_of(list(with_faults(bursts(seed), FaultPlan(), seed))) == rows_of(bursts(seed))).all()


def test_drop_leaves_a_subsequence(seed: int) -> None:
    clean = rows_of(bursts(seed))
    kept = rows_of(list(drop(bursts(seed), 0.1, rng(seed))))
    assert len(kept) == pytest.approx(0.9 * len(clean), rel=0.05)
    assert not identities(kept) - identities(clean)
    assert max(identities(kept).values()) == 1


def test_delay_loses_nothing_and_keeps_ts(seed: int) -> None:
    stream = list(delay(bursts(seed), 0.2, rng(seed), delay_ms_max=60_000))
    rows, clean = rows_of(stream), rows_of(bursts(seed))
    assert identities(rows) == identities(clean)
    assert (np.sort(rows["ts_ms"]) == np.sort(clean["ts_ms"])).all()
    lag_ms = [burst.at_ms - int(ts) for burst in stream[:-1] for ts in burst.readings["ts_ms"]]
    assert 10_000 < max(lag_ms) <= 60_000 + 30_000  # a due one leaves with the next burst, a period later at most


def test_duplicates_are_the_very_same_readings(seed: int) -> None:
    clean, rows = rows_of(bursts(seed)), rows_of(list(duplicate(bursts(seed), 0.1, rng(seed))))
    assert len(rows) == pytest.approx(1.1 * len(clean), rel=0.03)
    assert set(map(bytes, rows)) == set(map(bytes, clean))


def test_reorder_moves_no_further_than_its_span(seed: int) -> None:
    clean, rows = rows_of(bursts(seed)), rows_of(list(reorder(bursts(seed), 0.2, rng(seed), span=50)))
    assert identities(rows) == identities(clean)
    place = {bytes(row): at for at, row in enumerate(clean)}
    moved = [at - place[bytes(row)] for at, row in enumerate(rows)]
    assert 0 < max(map(abs, moved)) <= 50


def test_clock_skew_shifts_whole_stations_by_a_constant(seed: int) -> None:
    clean, rows = rows_of(bursts(seed)), rows_of(list(clock_skew(bursts(seed), 0.5, rng(seed))))
    shifts = {int(slot) // 2: set() for slot in clean["slot"]}  # type: dict[int, set[int]]
    for slot, shift in zip(clean["slot"], rows["ts_ms"] - clean["ts_ms"], strict=True):
        shifts[int(slot) // 2].add(int(shift))
    assert {len(own) for own in shifts.values()} == {1}
    assert len(set.union(*shifts.values())) > 2


@pytest.mark.parametrize("sends_boot", [True, False])
def test_after_a_reboot_seq_starts_anew_and_boot_is_one_higher(seed: int, sends_boot: bool) -> None:
    clean = rows_of(bursts(seed))
    rows = rows_of(list(reboot(bursts(seed), 0.01, rng(seed), sends_boot=sends_boot)))
    restarts = 0
    for slot in np.unique(rows["slot"]):
        own = rows[rows["slot"] == slot]
        anew = np.flatnonzero(np.diff(own["seq"]) != 1) + 1
        assert (own["seq"][anew] == 0).all()
        restarts += len(anew)
        if sends_boot:
            assert (np.flatnonzero(np.diff(own["boot"])) + 1 == anew).all()
            assert set(np.diff(own["boot"])) <= {0, 1}
        else:
            assert (own["boot"] == NULL).all()
    assert restarts
    assert (rows["energy_mwh"] == clean["energy_mwh"]).all()


def test_after_a_meter_reset_the_register_counts_from_zero(seed: int) -> None:
    clean, rows = rows_of(bursts(seed)), rows_of(list(meter_reset(bursts(seed), 0.005, rng(seed))))
    resets = 0
    for slot in np.unique(rows["slot"]):
        own, true = (table["energy_mwh"][table["slot"] == slot] for table in (rows, clean))
        different = np.flatnonzero(np.diff(own) != np.diff(true)) + 1
        assert (own[different] == 0).all()
        resets += len(different)
    assert resets


@pytest.mark.parametrize(("wrap", "low", "high"), [(meter_rollback, 1, None), (placeholder_zero, 0, 0)])
def test_single_registers_are_wrong_and_the_next_are_right(seed: int, wrap, low, high) -> None:  # type: ignore[no-untyped-def]  # a wrapper and two bounds
    clean, rows = rows_of(bursts(seed)), rows_of(list(wrap(bursts(seed), 0.05, rng(seed))))
    wrong = rows["energy_mwh"] != clean["energy_mwh"]
    assert wrong.mean() == pytest.approx(0.05, rel=0.3)
    assert (rows["energy_mwh"][wrong] < clean["energy_mwh"][wrong]).all()
    assert rows["energy_mwh"][wrong].min() >= low
    assert high is None or rows["energy_mwh"][wrong].max() <= high


def test_malformed_marks_a_share(seed: int) -> None:
    rows = rows_of(list(malformed(bursts(seed), 0.1, rng(seed))))
    assert (rows["malformed"] > 0).mean() == pytest.approx(0.1, rel=0.3)
    assert len(np.unique(rows["malformed"])) == 7


def test_one_fault_more_leaves_the_choices_of_the_others(seed: int) -> None:
    alone = rows_of(list(with_faults(bursts(seed), FaultPlan(placeholder_zero=0.05), seed)))
    both = rows_of(list(with_faults(bursts(seed), FaultPlan(placeholder_zero=0.05, malformed=0.05), seed)))
    assert ((alone["energy_mwh"] == 0) == (both["energy_mwh"] == 0)).all()


def test_plan_is_read_from_text_and_says_what_is_wrong() -> None:
    assert FaultPlan.parse("drop=0.01, duplicate=0.5") == FaultPlan(drop=0.01, duplicate=0.5)
    assert FaultPlan.parse("") == FaultPlan()
    for text, word in (("dorp=0.1", "known are"), ("drop", "drop=0.01"), ("drop=2", "probability")):
        with pytest.raises(ValueError, match=word):
            FaultPlan.parse(text)
