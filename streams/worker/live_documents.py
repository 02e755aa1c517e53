"""The live documents: what operators see of a connector now. Built from the state, so they can be rebuilt at any time.

They are built by column, in memory of numpy and Arrow, and so for the most part while other threads run Python.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kit.clock import Clock
from kit.columnar_json import (
    Pieces,
    Texts,
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
from streams.kernels.runs import I64, NULL, Bools, all_true, any_true
from streams.session_ids import session_texts
from streams.state.partition import PartitionState
from streams.state.session_charges import cost_columns, usage_and_costs

_UJ_PER_WH: Final = 3_600_000_000
_FLAGS_KEPT: Final = 256  # every combination there is
_QUANTITIES: Final = {name: column for name, (column, *_) in (QUANTITIES | {"energy_export_wh": ENERGY_EXPORT}).items()}
_STATUSES: Final = [json_of(STATUS_LABELS.get(code)) for code in Status]  # they count from 0
_BOOLEANS: Final = ("false", "true")
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
    is_open = state.open_key[slots] != 0
    columns = _Columns(state, slots, slots[is_open])
    names = state.connector_index.station_names
    stations = [names[number] for number in state.connector_index.station[slots].tolist()]
    document = json_objects(
        {
            "station_id": json_strings(pa.array(stations, pa.string())),
            "connector_id": columns.integers["connector_id"],
            "ts": columns.moments["ts"],
            "received_at": columns.moments["received_at"],
            "status": _named(state.live_status[slots], _status_named),
            **{name: columns.numbers[name] for name in _QUANTITIES},
            "flags": _named(state.live_flags[slots], _flags_named),
            "session": _sessions(state, slots, is_open, columns),
        }
    )
    numbers = state.connector_index.connector_id[slots].tolist()
    keys = [f"{station}/{number}" for station, number in zip(stations, numbers, strict=True)]
    return dict(zip(keys, concatenate(document).view(pa.binary()).to_pylist(), strict=True))


class _Columns:
    """What is written in digits, by member. Converted together: a call of Arrow costs as much as a hundred rows."""

    def __init__(self, state: PartitionState, slots: I64, open_slots: I64) -> None:
        self.moments = _converted(
            {"ts": state.live_ts_ms[slots], "received_at": state.arrival_ms[slots],
             "started_at": state.open_start_ms[open_slots]},
            json_timestamps,
        )  # fmt: skip
        self.integers = _converted(
            {"connector_id": state.connector_index.connector_id[slots], "readings": state.energy.readings[open_slots]},
            lambda values: (pa.array(values).cast(pa.string()),),
        )
        thousandths = {name: getattr(state, f"live_{column}")[slots] for name, column in _QUANTITIES.items()}
        known = {name: values for name, values in thousandths.items() if any_true(values != NULL)}
        numbers = {name: np.where(values == NULL, np.nan, values / MILLI) for name, values in known.items()}
        numbers["session.energy_wh"] = state.energy.energy_uj(open_slots) / _UJ_PER_WH
        numbers["session.energy_export_wh"] = state.energy.export_mwh[open_slots] / MILLI
        self.numbers = dict.fromkeys(thousandths, _NONE) | _converted(numbers, _json_numbers)


def _converted(columns: Mapping[str, NDArray[Any]], convert: Callable[[NDArray[Any]], Pieces]) -> dict[str, Pieces]:
    pieces = convert(np.concatenate(list(columns.values())))
    ends = accumulate(map(len, columns.values()))
    return {
        name: [piece if isinstance(piece, str) else piece.slice(end - len(values), len(values)) for piece in pieces]
        for (name, values), end in zip(columns.items(), ends, strict=True)
    }


def _json_numbers(numbers: NDArray[np.float64]) -> Pieces:
    """NaN becomes null."""
    return or_null((pa.array(numbers, from_pandas=True).cast(pa.string()),))


def _named(codes: NDArray[np.integer[Any]], json_name: Callable[[int], str]) -> Pieces:
    """JSON of what codes stand for, of which there are few."""
    first = codes[0]
    if all_true(codes == first):
        return (json_name(int(first)),)
    different, place = np.unique(codes, return_inverse=True)
    return (pa.array(list(map(json_name, different.tolist())), pa.string()).take(pa.array(place)),)


def _sessions(state: PartitionState, slots: I64, is_open: Bools, columns: _Columns) -> Pieces:
    """The open session of each slot, null where there is none."""
    if not any_true(is_open):
        return _NONE
    slots = slots[is_open]
    names = json_strings(pa.array([state.session_name[slot] for slot in slots.tolist()], pa.string()))
    estimated = (state.energy.integrated_uj(slots) != 0).astype(np.int8)
    session = json_objects(
        {
            "id": ('"', _session_ids(state.open_key[slots]), '"'),
            "session_id": or_null(names),
            "started_at": columns.moments["started_at"],
            "energy_wh": columns.numbers["session.energy_wh"],
            "energy_export_wh": columns.numbers["session.energy_export_wh"],
            "estimated": _named(estimated, _BOOLEANS.__getitem__),
            "readings": columns.integers["readings"],
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


@lru_cache(_FLAGS_KEPT)
def _flags_named(flags: int) -> str:
    return json_of(names_of(flags))


def _status_named(code: int) -> str:
    return _STATUSES[code]
