"""The tariffs of sessions: which version each is priced by, and that those of open sessions are compiled."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from streams.engine.store_queries import StoredSession, StoreQueries
from streams.kernels.runs import I64
from streams.kernels.sessions import Membership
from streams.state.partition import PartitionState
from streams.tariffs.compiled import CompiledTariffs

# Compiled versions kept though no open session has them: ~10 kB each with their calendar, 10 MB. A demand rule may
# publish one a minute, for ever.
TARIFFS_MAX: Final = 1_000


class SessionTerms(NamedTuple):
    """What a session is measured and priced by."""

    tariff_key: int  # pricing's version; 0: none
    power_max_mw: int  # what the connector can deliver


def ensure_tariffs_compiled(state: PartitionState, queries: StoreQueries) -> None:
    """Compile the tariffs of all sessions that are open or may go on: after loading, and when too many others have
    accumulated. To be called before any session is closed.
    """
    if len(state.tariffs) > state.tariffs_max:
        state.tariffs, state.tariffs_compiled = CompiledTariffs(state.tariffs.width), False
    if not state.tariffs_compiled:
        compile_tariffs(state, state.open_tariff[: state.slots], queries)
        state.tariffs_compiled = True
        state.tariffs_max = max(TARIFFS_MAX, 2 * len(state.tariffs))


def pin_terms(
    state: PartitionState,
    members: Membership,
    found: Mapping[int, StoredSession],
    queries: StoreQueries,
    power_max_mw: int,
) -> dict[int, SessionTerms]:
    """The tariff in force and the connector's rated power for each session that opens, by session_key. They stay with
    the session for good: those `found` again keep theirs. `power_max_mw`: of connectors that are not registered."""
    terms = {key: SessionTerms(session.tariff_key, session.power_max_mw) for key, session in found.items()}
    new = {key: slot for key, slot in members.opened.items() if key not in found}
    if new:
        connectors = [state.connector_index.connector(slot) for slot in new.values()]
        tariffs = queries.tariffs_at([station for station, _ in connectors], [members.began_ms[key] for key in new])
        powers = queries.rated_powers(connectors)
        for key, tariff, power_mw in zip(new, tariffs, powers, strict=True):
            terms[key] = SessionTerms(tariff, power_mw or power_max_mw)
    compile_tariffs(state, np.array([one.tariff_key for one in terms.values()], np.int64), queries)
    return terms


def compile_tariffs(state: PartitionState, keys: I64, queries: StoreQueries) -> None:
    """Fetch and compile those of these versions that the state has not compiled yet."""
    if len(keys) and (unknown := state.tariffs.unknown(keys)):
        for version in queries.tariff_versions(unknown):
            state.tariffs.add(version)
