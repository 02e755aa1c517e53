"""Money is worked out in blocks of rows, which must not show."""

import numpy as np
import pytest

from benchmarks.readings import FrameGenerator
from benchmarks.stages.cost import TariffOnlyStore
from benchmarks.tariffs import tariff_versions
from streams.effects import ComponentVolume, StepParams
from streams.kernels import allocation, cost
from streams.state.partition import PartitionState
from streams.state.session_charges import component_usage, usage_and_costs
from streams.worker.compute import compute_effects

CONNECTORS = 11


def outcome() -> list[tuple[int, int, list[ComponentVolume]]]:
    """Of each session of a fleet whose tariffs change on the way: cost excl. and incl. VAT, and what it used."""
    fleet, state = FrameGenerator(CONNECTORS), PartitionState(0)
    store = TariffOnlyStore(tariff_versions(CONNECTORS, seconds=240, power_w=11_000))
    for rounds in (1, 120, 3, 120):
        frames = fleet.frames(rounds)
        compute_effects(state, frames, frames[-1][0].received_ms, store, StepParams())
    charges = state.charges(np.arange(CONNECTORS))
    usage, costs = usage_and_costs(state.tariffs, charges)
    used = [component_usage(state.tariffs, usage, row) for row in range(CONNECTORS)]
    return list(zip(costs.excl_vat_micros.tolist(), costs.incl_vat_micros.tolist(), used, strict=True))


@pytest.mark.parametrize("block", [1, 2, 7, 100])
def test_blocks_of_any_size_have_the_same_outcome(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outcome()
    monkeypatch.setattr(allocation, "_BLOCK", block)
    monkeypatch.setattr(cost, "_BLOCK", block)
    assert outcome() == whole
    assert any(len(used) > 3 for _, _, used in whole), "some tariff changed on the way"
