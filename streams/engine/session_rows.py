"""Rows of telemetry.session, as columns: of sessions that are open, that closed and that are withdrawn; and what is
published of their cost."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from schemas.session import EndReason
from streams.effects import COST_COLUMNS, SESSION_COLUMNS, Columns, ComponentVolume, CostUpdate, StepParams
from streams.engine.awaited import await_registers, ends_of
from streams.engine.store_queries import StoredSession
from streams.engine.timeline import Timeline
from streams.kernels.runs import I64, MAX_I64, NULL, any_true, rows_where
from streams.kernels.session_energy import UJ_PER_MWH, SessionEnergy, hold_reasons
from streams.kernels.sessions import Membership, PastSession
from streams.kernels.tariff_table import NONE
from streams.state.partition import PartitionState
from streams.state.session_charges import (
    SessionTotals,
    collect_charges,
    component_usage,
    cost_columns,
    usage_and_costs,
)

# Between two events with the cost of a running session: 10,000 sessions are 1,000 of 350 B a second. The live view has
# every change.
COST_UPDATE_MS: Final = 10_000
_NO_ROWS: Final[Columns] = {name: np.empty(0, dtype) for name, dtype in SESSION_COLUMNS.items()}


def joined(parts: Sequence[Columns]) -> Columns:
    """effects.SESSION_COLUMNS of all rows of these."""
    if not parts:
        return _NO_ROWS
    one = parts[0]
    if len(parts) > 1:
        one = {name: np.concatenate([part[name] for part in parts]) for name in SESSION_COLUMNS}
    return {name: one[name].astype(dtype, copy=False) for name, dtype in SESSION_COLUMNS.items()}


def open_columns(state: PartitionState, slots: I64) -> Columns:
    """Of the sessions that are open in these slots."""
    nothing, energy = np.zeros(len(slots), np.int64), state.energy.at(slots)
    return {
        "session_key": state.open_key[slots],
        "connector_key": state.connector_key[slots],
        "started_ms": state.open_start_ms[slots],
        "last_ms": state.open_last_ms[slots],
        "ended_ms": np.full(len(slots), NULL, np.int64),
        "end_reason": nothing,
        **_energy_columns(energy),
        "hold": nothing,
        "void": nothing,
        "explicit": state.open_explicit[slots],
        "flagged": state.open_flagged[slots],
        "revision": state.open_revision[slots],
        **_running_costs(state, slots, energy),
    }


def _running_costs(state: PartitionState, slots: I64, energy: SessionEnergy) -> dict[str, I64]:
    if not any_true(state.open_tariff[slots]):
        return dict.fromkeys(COST_COLUMNS, np.full(len(slots), NULL, np.int64))
    charges = state.charges_with(slots, energy)
    return cost_columns(charges, *usage_and_costs(state.tariffs, charges))


def closed_columns(
    state: PartitionState,
    pasts: list[PastSession],
    totals_of: Mapping[int, SessionTotals],
    params: StepParams,
    consumption: dict[int, list[ComponentVolume]],
    timeline: Timeline,
    members: Membership,
) -> Columns:
    """Of sessions that are not open any more, with their totals by key. Adds the usage of those with a tariff to
    `consumption`. `timeline`, `members`: of the pass."""
    totals = [totals_of[past.key] for past in pasts]
    charges = collect_charges([(one.charges, one.row) for one in totals])
    usage, costs = usage_and_costs(state.tariffs, charges)
    for row in rows_where(usage.tariff != NONE).tolist():
        consumption[pasts[row].key] = component_usage(state.tariffs, usage, row)
    start_ms = np.array([past.start_ms for past in pasts], np.int64)
    last_ms = np.array([past.last_ms for past in pasts], np.int64)
    end_ms = np.array([past.end_ms for past in pasts], np.int64)
    ends = ends_of(pasts, charges.energy, timeline, members)
    hold = hold_reasons(charges.energy, ends, params.void_mwh) | np.array([past.hold for past in pasts], np.int64)
    await_registers(state, pasts, charges.energy, ends)
    delivered_mwh = charges.energy.energy_uj() // UJ_PER_MWH
    brief = (last_ms - start_ms < params.void_ms) & (delivered_mwh <= params.void_mwh)
    return {
        "session_key": np.array([past.key for past in pasts], np.int64),
        "connector_key": state.connector_key[[past.slot for past in pasts]],
        "started_ms": start_ms,
        "last_ms": last_ms,
        "ended_ms": np.where(end_ms == MAX_I64, last_ms, end_ms),
        "end_reason": np.array([past.reason for past in pasts], np.int64),
        **_energy_columns(charges.energy),
        "hold": hold,
        "void": (brief & (hold == 0)).astype(np.int64),
        "explicit": np.array([past.explicit for past in pasts], np.int64),
        "flagged": np.array([one.flagged for one in totals], np.int64),
        "revision": np.array([past.revision for past in pasts], np.int64),
        **cost_columns(charges, usage, costs),
    }


def _energy_columns(energy: SessionEnergy) -> dict[str, I64]:
    return {
        "energy_uj": energy.energy_uj(),
        "integrated_uj": energy.integrated_uj(),
        "export_mwh": energy.export_mwh,
        "register_first_mwh": energy.register_first_mwh,
        "register_last_mwh": np.where(energy.register_first_mwh == NULL, NULL, energy.register_last_mwh),
        "power_max_mw": energy.power_max_mw,
        "register_before_mwh": energy.before_mwh,
        "register_before_ms": energy.before_ts_ms,
        "series_mwh": energy.series_mwh,
        "register_after_mwh": energy.register_last_mwh,
        "register_after_ms": energy.register_ts_ms,
        "readings": energy.readings,
    }


_COMPARED: Final = (
    "started_ms", "last_ms", "ended_ms", "end_reason", "explicit", "energy_uj", "integrated_uj", "export_mwh",
    "readings", "flagged", "hold", "cost_excl_micros", "cost_incl_micros", "register_before_mwh", "register_before_ms",
    "series_mwh", "register_first_mwh", "register_after_mwh", "register_after_ms",
)  # fmt: skip


def changed_rows(columns: Columns, found: Mapping[int, StoredSession], texts: Mapping[int, str | None]) -> I64:
    """The rows of sessions that are not stored so already; of those a repeated pass found again the revision rises.
    `texts`: session ids by key."""
    changed = []
    for row, key in enumerate(columns["session_key"].tolist()):
        stored = found.get(key)
        if stored is not None:
            same = all(int(columns[name][row]) == getattr(stored, name) for name in _COMPARED)
            if same and texts.get(key) == stored.session_id:
                continue
            columns["revision"][row] = stored.revision + 1
        changed.append(row)
    return np.array(changed, np.int64)


def withdrawn_columns(lost: Sequence[StoredSession]) -> Columns:
    """Of sessions whose readings now belong to other sessions: all their sums are 0."""
    rows = len(lost)
    columns: Columns = {name: np.zeros(rows, np.int64) for name in SESSION_COLUMNS}
    for name in ("register_first_mwh", "register_last_mwh", "register_before_mwh", "register_before_ms", "series_mwh",
                 "register_after_mwh", "register_after_ms"):  # fmt: skip
        columns[name] = np.full(rows, NULL, np.int64)
    priced = np.array([session.tariff_key != 0 for session in lost])
    for name in COST_COLUMNS:
        columns[name] = np.where(priced, 0, NULL)
    for name in ("session_key", "connector_key", "started_ms", "last_ms", "explicit", "power_max_mw", "tariff_key"):
        columns[name] = np.array([getattr(session, name) for session in lost], np.int64)
    columns["tariff_key"] = np.where(priced, columns["tariff_key"], NULL)
    columns["ended_ms"] = columns["last_ms"]
    columns["void"] = np.ones(rows, np.int64)
    columns["end_reason"] = np.full(rows, int(EndReason.WITHDRAWN), np.int64)
    columns["revision"] = np.array([session.revision + 1 for session in lost], np.int64)
    return columns


def cost_updates(state: PartitionState, slots: I64, columns: Columns) -> list[CostUpdate]:
    """Of the sessions whose cost is not the one last published, if that was long enough ago."""
    cost = columns["cost_incl_micros"].astype(np.int64)
    moved = (cost != NULL) & (cost != state.cost_published_micros[slots])
    if not any_true(moved):
        return []
    rows = rows_where(moved & (state.arrival_ms[slots] >= state.cost_published_ms[slots] + COST_UPDATE_MS))
    state.cost_published_micros[slots[rows]], state.cost_published_ms[slots[rows]] = (
        cost[rows],
        state.arrival_ms[slots[rows]],
    )
    names = ("session_key", "last_ms", "energy_uj", "tariff_key", "cost_excl_micros", "cost_incl_micros")
    values = zip(slots[rows].tolist(), *(columns[name][rows].tolist() for name in names), strict=True)
    return [
        CostUpdate(
            session_key, *state.connector_index.connector(slot), state.session_name[slot], as_of_ms, energy_uj,
            tariff_key, excl_micros, incl_micros,
        )
        for slot, session_key, as_of_ms, energy_uj, tariff_key, excl_micros, incl_micros in values
    ]  # fmt: skip
