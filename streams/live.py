"""The live documents: what operators see of a connector now. Built from the state, so they can be rebuilt any time."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.quality import names_of
from schemas.reading import MILLI, STATUS_LABELS
from streams.identity import session_uuid
from streams.kernels.runs import I64, NULL
from streams.state import LIVE_QUANTITIES, PartitionState

_WIRE = ("energy_wh", "power_w", "voltage_v", "current_a", "temperature_c", "soc_pct")
UJ_PER_WH = 3_600_000_000


def live_documents(state: PartitionState, slots: I64) -> dict[str, bytes]:
    """`STATION/connector` -> JSON, for these slots as far as they have said anything."""
    slots = slots[state.live_ts_ms[slots] != NULL]
    columns = [getattr(state, f"live_{name}")[slots].tolist() for name in LIVE_QUANTITIES]
    energy_uj = state.lanes(slots)
    whole, part = energy_uj.energy_uj().tolist(), energy_uj.integrated_uj().tolist()
    others = [
        getattr(state, name)[slots].tolist()
        for name in ("live_ts_ms", "arrival_ms", "live_status", "live_flags", "open_key", "open_start_ms", "readings")
    ]
    documents = {}
    for index, (slot, quantities, other) in enumerate(
        zip(slots.tolist(), zip(*columns, strict=True), zip(*others, strict=True), strict=True)
    ):
        ts_ms, arrival_ms, status, flags, open_key, start_ms, readings = other
        station_id, connector_id = state.connectors[slot]
        document: dict[str, Any] = {
            "station_id": station_id,
            "connector_id": connector_id,
            "ts": _rfc3339(ts_ms),
            "received_at": _rfc3339(arrival_ms),
            "status": STATUS_LABELS.get(status),
            **{name: None if v == NULL else v / MILLI for name, v in zip(_WIRE, quantities, strict=True)},
            "flags": names_of(flags),
            "session": None,
        }
        if open_key:
            document["session"] = {
                "id": str(session_uuid(open_key)),
                "session_id": state.session_name[slot],
                "started_at": _rfc3339(start_ms),
                "energy_wh": whole[index] / UJ_PER_WH,
                "estimated": part[index] != 0,
                "readings": readings,
            }
        documents[f"{station_id}/{connector_id}"] = _encode(document)
    return documents


_encode = msgspec.json.Encoder().encode


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
