"""The effects of a flush, in three phases: accept the frames, register their new connectors, step.

Only the second writes to the store, before the fenced transaction and only where a connector is new. Its key is the
same whichever worker registers it, and says no more than that the connector exists, so it needs no fence.
"""

from collections.abc import Sequence
from typing import Protocol

from streams.effects import Effects, StepParams
from streams.engine.batch import Frame, accept
from streams.engine.step import step
from streams.engine.store_queries import StoreQueries
from streams.state.partition import PartitionState


class ConnectorRegistry(Protocol):
    """Keys of connectors in the store."""

    def register_connectors(self, partition: int, connectors: list[tuple[str, int]]) -> list[int]:
        """The keys of (station_id, connector_id), made and committed at once where they are new."""


class StepStore(StoreQueries, ConnectorRegistry, Protocol):
    """What the three phases need of the store."""


def compute_effects(
    state: PartitionState, frames: Sequence[Frame], now_ms: int, store: StepStore, params: StepParams
) -> Effects:
    """Account for these frames, in this order; with no frames, only for the time that has passed."""
    arrivals = accept(state, frames)
    register_connectors(state, arrivals.new_connectors, store)
    return step(state, arrivals, now_ms, store, params)


def register_connectors(state: PartitionState, connectors: list[tuple[str, int]], registry: ConnectorRegistry) -> None:
    """Give these new connectors their keys, in one round trip if there are any, and slots in the state."""
    if connectors:
        state.add_connectors(connectors, registry.register_connectors(state.partition, connectors))
