"""The live documents: what operators see of a connector now. Built from the state, so they can be rebuilt at any time.

They are built by column, in memory of numpy and Arrow, and so for the most part while other threads run Python.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kit.clock import Clock
from kit.columnar_json import (
    Pieces,
    Texts,
    choose_text,
    concatenate,
    json_decimals,
    json_objects,
    json_of,
    json_strings,
    json_timestamps,
    or_null,
)
from schemas.quality import names_of
from schemas.reading import ENERGY_EXPORT, MILLI, QUANTITIES, STATUS_LABELS, Status
from streams.kernels.runs import I64, NULL, Bools
from streams.session_ids import session_texts
from streams.state.partition import PartitionState
from streams.state.session_charges import cost_columns, usage_and_costs

_UJ_PER_WH: Final = 3_600_000_000
_FLAGS_KEPT: Final = 256  # every combination there is
_QUANTITIES: Final = {name: column for name, (column, *_) in (QUANTITIES | {"energy_export_wh": ENERGY_EXPORT}).items()}
_STATUSES: Final = pa.array([json_of(STATUS_LABELS.get(code)) for code in Status])  # they count from 0
_NONE: Final[Pieces] = ("null",)


class CpuBudget:
    """A share of a core for work that can wait: after it is spent, all that share it wait for it to accrue.

    With little to do the waits are negligible; with more to do, more of it is done at once.
    """

    def __init__(self, clock: Clock, share: float) -> None:
        """`share`: of the time, above 0."""
        self._clock = clock
        self._share = share
        self._next_at_s = -float("inf")

    def spend(self, seconds: float) -> None:
        """Account for work that took so long."""
        self._next_at_s = max(self._next_at_s, self._clock.monotonic_s()) + seconds / self._share

    def wait_s(self) -> float:
        """Seconds until more may be done; 0: now."""
        return max(0.0, self._next_at_s - self._clock.monotonic_s())


def live_documents(state: PartitionState, slots: I64) -> dict[str, bytes]:
    """`STATION/connector` -> JSON, for those of these slots that have sent anything."""
    slots = slots[state.live_ts_ms[slots] != NULL]
    if not len(slots):
        return {}
    names = state.connector_index.station_names
    stations = pa.array([names[number] for number in state.connector_index.station[slots].tolist()], pa.string())
    numbers = pa.array(state.connector_index.connector_id[slots]).cast(pa.string())
    document = json_objects(
        {
            "station_id": json_strings(stations),
            "connector_id": (numbers,),
            "ts": json_timestamps(state.live_ts_ms[slots]),
            "received_at": json_timestamps(state.arrival_ms[slots]),
            "status": (_STATUSES.take(pa.array(state.live_status[slots])),),
            **{name: _in_units(getattr(state, f"live_{column}")[slots]) for name, column in _QUANTITIES.items()},
            "flags": (_flags(state.live_flags[slots]),),
            "session": _sessions(state, slots),
        }
    )
    keys = concatenate((stations, "/", numbers)).to_pylist()
    return dict(zip(keys, concatenate(document).view(pa.binary()).to_pylist(), strict=True))


def _sessions(state: PartitionState, slots: I64) -> Pieces:
    """The open session of each slot, null where there is none."""
    is_open = state.open_key[slots] != 0
    if not is_open.any():
        return _NONE
    slots = slots[is_open]
    energy = state.session_energy(slots)
    session = json_objects(
        {
            "id": ('"', _session_ids(state.open_key[slots]), '"'),
            "session_id": or_null(
                json_strings(pa.array([state.session_name[slot] for slot in slots.tolist()], pa.string()))
            ),
            "started_at": json_timestamps(state.open_start_ms[slots]),
            "energy_wh": (pa.array(energy.energy_uj() / _UJ_PER_WH).cast(pa.string()),),
            "energy_export_wh": _in_units(energy.export_mwh) if energy.export_mwh.any() else ("0",),
            "estimated": (choose_text(energy.integrated_uj() != 0, "true", "false"),),
            "readings": (pa.array(energy.readings).cast(pa.string()),),
            "cost": _costs(state, slots),
        }
    )
    return _among(is_open, session)


def _costs(state: PartitionState, slots: I64) -> Pieces:
    """What each open session costs by now; null without a tariff, and until the first step after loading."""
    if not (state.tariffs_compiled and state.open_tariff[slots].any()):
        return _NONE
    versions = state.tariffs.versions(set(state.open_tariff[slots].tolist()))
    priced = np.isin(state.open_tariff[slots], list(versions))
    if not priced.any():
        return _NONE
    charges = state.charges(slots[priced])
    columns = cost_columns(charges, *usage_and_costs(state.tariffs, charges))
    found = [versions[key] for key in charges.tariff_key.tolist()]
    parts = ("energy", "time", "parking", "flat")
    cost = json_objects(
        {
            "currency": json_strings(pa.array([version.tariff.currency for version in found], pa.string())),
            "excl_vat": ('"', json_decimals(columns["cost_excl_micros"]), '"'),
            "incl_vat": ('"', json_decimals(columns["cost_incl_micros"]), '"'),
            **{name: ('"', json_decimals(columns[f"cost_{name}_micros"]), '"') for name in parts},
            "tariff_version": json_strings(pa.array([str(version.id) for version in found], pa.string())),
        }
    )
    return _among(priced, cost)


def _among(there: Bools, pieces: Pieces) -> Pieces:
    """Rows of the places that are marked, null in the others."""
    if there.all():
        return pieces
    place = np.cumsum(there) - 1
    return or_null((concatenate(pieces).take(pa.array(place, mask=~there)),))


def _session_ids(keys: I64) -> Texts:
    texts = session_texts(keys)
    ends = np.arange(0, texts.size + 1, texts.shape[1], dtype=np.int32)
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(ends), pa.py_buffer(texts))


def _flags(flags: NDArray[np.int16]) -> Texts:
    different, place = np.unique(flags, return_inverse=True)
    return pa.array([_names_of(one) for one in different.tolist()], pa.string()).take(pa.array(place))


@lru_cache(_FLAGS_KEPT)
def _names_of(flags: int) -> str:
    return json_of(names_of(flags))


def _in_units(thousandths: I64) -> Pieces:
    """Numbers; null where nothing is known."""
    unknown = thousandths == NULL
    if unknown.all():
        return _NONE
    return or_null((pa.array(thousandths / MILLI, mask=unknown).cast(pa.string()),))
