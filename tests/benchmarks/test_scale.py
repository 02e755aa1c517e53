"""The model of the cost of a fleet: what stands in docs/scale.md is what it says, and more never costs less."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import FleetModel, Measured, Prices, cost_of, rows, table

DOC = Path(__file__).parents[2] / "docs" / "scale.md"
FLEETS = st.builds(
    FleetModel,
    connectors=st.integers(1, 10_000_000),
    interval_s=st.floats(1, 3_600),
    charging=st.floats(0, 1),
    session_h=st.floats(0.1, 24),
    silent_interval_s=st.floats(10, 86_400),
)


def test_the_documents_table_is_the_models() -> None:
    assert table(list(rows(Measured(), Prices()))) in DOC.read_text("utf-8")


@given(FLEETS, st.integers(1, 1_000_000))
def test_more_connectors_never_cost_less(fleet: FleetModel, more: int) -> None:
    one = cost_of(fleet, Measured(), Prices())
    other = cost_of(replace(fleet, connectors=fleet.connectors + more), Measured(), Prices())
    for name in ("readings_per_s", "cores", "memory_gb", "disk_gb", "lake_gb", "gateways", "workers", "partitions"):
        assert getattr(other, name) >= getattr(one, name) * (1 - 1e-9)
    assert other.partitions >= other.workers  # a worker without a partition has nothing to do
