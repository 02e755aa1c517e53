"""The live documents: what operators see of a connector now. Built from the state, so they can be rebuilt any time."""

from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from schemas.quality import names_of
from schemas.reading import MILLI, STATUS_LABELS
from schemas.tariff import MICROS
from streams.accounts import cost_columns, settled
from streams.identity import session_id_text
from streams.kernels.runs import I64, NULL
from streams.state import PartitionState
from streams.state_columns import LIVE_QUANTITIES

UJ_PER_WH: Final = 3_600_000_000
_FLAGS_KEPT: Final = 256  # every combination there is


class _Cost(msgspec.Struct, gc=False):
    currency: str
    excl_vat: str
    incl_vat: str
    energy: str
    time: str
    parking: str
    flat: str
    tariff_version: str


class _Session(msgspec.Struct, gc=False):
    id: str
    session_id: str | None
    started_at: str
    energy_wh: float
    estimated: bool
    readings: int
    cost: _Cost | None


class _Document(msgspec.Struct, gc=False):
    station_id: str
    connector_id: int
    ts: str
    received_at: str
    status: str | None
    energy_wh: float | None
    power_w: float | None
    voltage_v: float | None
    current_a: float | None
    temperature_c: float | None
    soc_pct: float | None
    flags: list[str]
    session: _Session | None


def live_documents(state: PartitionState, slots: I64) -> dict[str, bytes]:
    """`STATION/connector` -> JSON, for these slots as far as they have said anything."""
    slots = slots[state.live_ts_ms[slots] != NULL]
    columns = (
        _rfc3339(state.live_ts_ms[slots]),
        _rfc3339(state.arrival_ms[slots]),
        state.live_status[slots].tolist(),
        *(_in_units(getattr(state, f"live_{name}")[slots]) for name in LIVE_QUANTITIES),
        state.live_flags[slots].tolist(),
    )
    stations = [state.directory.station_names[number] for number in state.directory.station[slots].tolist()]
    numbers = state.directory.connector_id[slots].tolist()
    rows = zip(stations, numbers, _sessions(state, slots), *columns, strict=True)
    documents = [
        _Document(
            station_id, connector_id, ts, received_at, STATUS_LABELS.get(status),
            energy, power, voltage, current, temperature, soc, _names_of(flags), session,
        )
        for station_id, connector_id, session, ts, received_at, status,
            energy, power, voltage, current, temperature, soc, flags in rows
    ]  # fmt: skip
    # All at once, a line each, is a third faster than one by one; JSON has no line breaks but between documents.
    lines = _encoder.encode_lines(documents).splitlines() if documents else []
    keys = (f"{station_id}/{connector_id}" for station_id, connector_id in zip(stations, numbers, strict=True))
    return dict(zip(keys, lines, strict=True))


def _sessions(state: PartitionState, slots: I64) -> list[_Session | None]:
    """The open session of each slot."""
    place = np.flatnonzero(state.open_key[slots])
    open_slots = slots[place]
    lanes = state.lanes(open_slots)
    columns = (
        place.tolist(),
        open_slots.tolist(),
        state.open_key[open_slots].tolist(),
        _rfc3339(state.open_start_ms[open_slots]),
        [energy_uj / UJ_PER_WH for energy_uj in lanes.energy_uj().tolist()],
        (lanes.integrated_uj() != 0).tolist(),
        lanes.readings.tolist(),
        _costs(state, open_slots),
    )
    sessions: list[_Session | None] = [None] * len(slots)
    for at, slot, key, started_at, energy_wh, estimated, readings, cost in zip(*columns, strict=True):
        name = state.session_name[slot]
        sessions[at] = _Session(session_id_text(key), name, started_at, energy_wh, estimated, readings, cost)
    return sessions


def _costs(state: PartitionState, slots: I64) -> list[_Cost | None]:
    """What each open session comes to by now; None without a tariff, and until the first step after loading."""
    if not (state.tariffs_known and state.open_tariff[slots].any()):
        return [None] * len(slots)
    accounts = state.accounts(slots)
    meters, costs = settled(state.tariffs, accounts)
    columns = cost_columns(accounts, meters, costs)
    versions = state.tariffs.versions(set(accounts.tariff_key.tolist()))
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        None
        if key not in versions
        else _Cost(
            versions[key].tariff.currency,
            _decimal(excl),
            _decimal(incl),
            _decimal(energy),
            _decimal(time),
            _decimal(parking),
            _decimal(flat),
            str(versions[key].id),
        )
        for key, excl, incl, energy, time, parking, flat in rows
    ]


def _decimal(micros: int) -> str:
    return f"{micros // MICROS}.{micros % MICROS:06d}"


_encoder: Final = msgspec.json.Encoder()
_names_of: Final = lru_cache(_FLAGS_KEPT)(names_of)


def _in_units(thousandths: I64) -> list[float | None]:
    if (thousandths == NULL).all():
        return [None] * len(thousandths)
    return [None if value == NULL else value / MILLI for value in thousandths.tolist()]


def _rfc3339(ms: I64) -> list[str]:
    texts: list[str] = np.datetime_as_string(ms.astype("datetime64[ms]"), timezone="UTC").tolist()
    return texts
