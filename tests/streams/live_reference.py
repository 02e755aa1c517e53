"""The live document of a connector, in plain Python."""

from typing import Any

import numpy as np

from kit.clock import format_rfc3339
from schemas.quality import names_of
from schemas.reading import ENERGY_EXPORT, QUANTITIES, STATUS_LABELS, Status
from streams.effects import NULL_I64
from streams.session_ids import session_uuid
from streams.state.partition import PartitionState
from streams.state.session_charges import cost_columns, usage_and_costs


def document_of(state: PartitionState, slot: int) -> dict[str, Any]:
    station_id, connector_id = state.connector_index.connector(slot)
    columns = {name: column for name, (column, *_) in (QUANTITIES | {"energy_export_wh": ENERGY_EXPORT}).items()}
    quantities = {name: int(getattr(state, f"live_{column}")[slot]) for name, column in columns.items()}
    return {
        "station_id": station_id,
        "connector_id": connector_id,
        "ts": format_rfc3339(int(state.live_ts_ms[slot])),
        "received_at": format_rfc3339(int(state.arrival_ms[slot])),
        "status": STATUS_LABELS.get(Status(state.live_status[slot])),
        **{name: None if value == NULL_I64 else value / 1_000 for name, value in quantities.items()},
        "flags": names_of(int(state.live_flags[slot])),
        "session": _session(state, slot) if state.open_key[slot] else None,
    }


def _session(state: PartitionState, slot: int) -> dict[str, Any]:
    energy = state.session_energy(np.array([slot]))
    return {
        "id": str(session_uuid(int(state.open_key[slot]))),
        "session_id": state.session_name[slot],
        "started_at": format_rfc3339(int(state.open_start_ms[slot])),
        "energy_wh": int(energy.energy_uj()[0]) / 3_600_000_000,
        "energy_export_wh": int(energy.export_mwh[0]) / 1_000,
        "estimated": bool(energy.integrated_uj()[0]),
        "readings": int(energy.readings[0]),
        "cost": _cost(state, slot) if state.tariffs_compiled else None,
    }


def _cost(state: PartitionState, slot: int) -> dict[str, Any] | None:
    key = int(state.open_tariff[slot])
    version = state.tariffs.versions({key}).get(key)
    if version is None:
        return None
    charges = state.charges(np.array([slot]))
    columns = cost_columns(charges, *usage_and_costs(state.tariffs, charges))
    names = ("excl", "incl", "energy", "time", "parking", "flat")
    micros = {name: int(columns[f"cost_{name}_micros"][0]) for name in names}
    amounts = {name: f"{value // 10**6}.{value % 10**6:06d}" for name, value in micros.items()}
    amounts["excl_vat"], amounts["incl_vat"] = amounts.pop("excl"), amounts.pop("incl")
    return {"currency": version.tariff.currency, "tariff_version": str(version.id)} | amounts
