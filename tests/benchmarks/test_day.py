"""The stage `day` in small: every reading of the day is stored, and its figures are there."""

import math

import pytest
from rich.console import Console

from benchmarks.run import BenchmarkRun
from benchmarks.stages import day


@pytest.mark.usefixtures("processes")
def test_every_reading_of_a_small_day_is_stored() -> None:
    with BenchmarkRun(Console(quiet=True), quick=True) as bench:
        results = day.run(bench)
    assert len(results) == 6
    assert all(math.isfinite(result.value) for result in results)
    assert all(result.value > 0 for result in results[1:])  # the little memory of so few may come from what was free
