"""The tariffs of sessions: which version each is priced by, and that those of open sessions are compiled."""

from typing import Final

import numpy as np

from streams.engine.store_queries import StoreQueries
from streams.kernels.runs import I64
from streams.kernels.sessions import Membership
from streams.state.partition import PartitionState
from streams.tariffs.compiled import CompiledTariffs

# Compiled versions kept though no open session has them: ~10 kB each with their calendar, 10 MB. A demand rule may
# publish one a minute, for ever.
TARIFFS_MAX: Final = 1_000


def ensure_tariffs_compiled(state: PartitionState, queries: StoreQueries) -> None:
    """Compile the tariffs of all open sessions: after loading, and when too many others have accumulated. To be called
    before any session is closed.
    """
    if len(state.tariffs) > state.tariffs_max:
        state.tariffs, state.tariffs_compiled = CompiledTariffs(state.tariffs.width), False
    if not state.tariffs_compiled:
        compile_tariffs(state, state.open_tariff[: state.slots][state.open_key[: state.slots] != 0], queries)
        state.tariffs_compiled = True
        state.tariffs_max = max(TARIFFS_MAX, 2 * len(state.tariffs))


def pin_tariffs(state: PartitionState, members: Membership, queries: StoreQueries) -> dict[int, int]:
    """The tariff in force for each session that opens, by session_key; 0: none. It stays with the session for good."""
    if not members.opened:
        return {}
    stations = [state.connector_index.connector(slot)[0] for slot in members.opened.values()]
    keys = queries.tariffs_at(stations, [members.began_ms[key] for key in members.opened])
    compile_tariffs(state, np.array(keys, np.int64), queries)
    return dict(zip(members.opened, keys, strict=True))


def compile_tariffs(state: PartitionState, keys: I64, queries: StoreQueries) -> None:
    """Fetch and compile those of these versions that the state has not compiled yet."""
    if unknown := state.tariffs.unknown(keys):
        for version in queries.tariff_versions(unknown):
            state.tariffs.add(version)
