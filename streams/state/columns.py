"""The columns of a partition's state, one row per connector (slot).

A column is declared once, by the kernel whose rule it is or here: name, type, what a new slot starts with, its width.
Allocation, growth and the binary form follow from the declaration. With the windows a slot takes 1 kB.
"""

from dataclasses import dataclass, fields
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from schemas.reading import ENERGY_EXPORT, QUANTITIES
from streams.kernels.dedupe import DedupeColumns
from streams.kernels.runs import I8, I16, I32, I64, NULL, column
from streams.kernels.session_energy import SessionEnergy
from streams.kernels.sessions import SessionColumns
from streams.kernels.status import StatusColumns
from streams.kernels.tariff_table import NONE
from streams.kernels.tariff_usage import TariffUsage
from streams.kernels.usage_intervals import NOT_SAID

_MAPPED_BYTES_MIN: Final = 64 << 10  # below that, pages are not worth it


@dataclass(init=False, eq=False, repr=False)
class StateColumns(DedupeColumns, SessionColumns, StatusColumns):
    """The columns declared by kernels and here; those of SessionEnergy and the live quantities are added in COLUMNS."""

    connector_key: I32 = column()  # of the store; 0: not known
    arrival_ms: I64 = column()  # when a reading last arrived
    open_flagged: I32 = column()  # flagged readings of the segment
    # Newest value of everything that the connector has sent, by event time.
    live_ts_ms: I64 = column(NULL, like="last_ts_ms")
    live_status: I8 = column()
    live_flags: I16 = column()
    segment_key: I64 = column(
        like="open_key"
    )  # whose running totals the columns of SessionEnergy and below have; 0: none's, outside
    # Of that segment. The first ones belong to SessionEnergy, in narrower types here.
    readings: I32 = column()
    hold: I16 = column(stored_as="hold_reasons")
    gap_ms: I32 = column()
    power_gap_ms: I32 = column()
    open_tariff: I64 = column()  # pricing's version, pinned when the session opened; 0: none
    metered_from_ms: I64 = column()  # TariffUsage.start_ms
    last_energy: I16 = column(NONE)  # fields of TariffUsage
    last_time: I16 = column(NONE)
    flat: I16 = column(NONE)
    last_current_ma: I64 = column(NULL, stored_as="held_ma")  # fields of SessionCharges
    last_kind: I8 = column(NOT_SAID, stored_as="held_kind")
    register_power_mw: I64 = column(NULL)
    open_since_ms: I64 = column(NULL)
    cost_published_ms: I64 = column(stored_as="told_ms")  # when, by arrival
    cost_published_micros: I64 = column(stored_as="told_micros")  # incl. VAT, as last published


class Column(NamedTuple):
    """A column as declared: see kernels.runs.column."""

    name: str
    dtype: type[np.integer[Any]]
    start: int
    width: int
    flat: bool
    stored_as: str
    like: str

    def allocate(self, slots: int) -> NDArray[Any]:
        """The column of so many new slots."""
        shape = (slots, self.width) if self.width > 1 and not self.flat else slots * self.width
        return np.full(shape, self.start, self.dtype) if self.start else zeros(shape, self.dtype)


def _declared(cls: type[Any]) -> dict[str, Column]:
    hints = get_type_hints(cls)
    columns = {}
    for f in fields(cls):
        (dtype,) = get_args(get_args(hints[f.name])[1])  # NDArray[dtype] is ndarray[shape, np.dtype[dtype]]
        declared: dict[str, Any] = {**f.metadata, "stored_as": f.metadata["stored_as"] or f.name}
        columns[f.name] = Column(f.name, dtype, **declared)
    return columns


# Their columns begin with "live_".
LIVE_QUANTITIES: Final = (*(name for name, _, _, _ in QUANTITIES.values()), ENERGY_EXPORT[0])
_LIVE_LIKE: Final = {"energy_mwh": "register_last_mwh", "power_mw": "last_power_mw"}
_ENERGY: Final = _declared(SessionEnergy)
COLUMNS: Final = {
    **_ENERGY,
    **{
        f"live_{name}": Column(f"live_{name}", np.int64, NULL, 1, False, f"live_{name}", _LIVE_LIKE.get(name, ""))
        for name in LIVE_QUANTITIES
    },
    **_declared(StateColumns),
}
USAGE_COLUMNS: Final = tuple(f.name for f in fields(TariffUsage) if f.name in COLUMNS)
COMPONENT_COLUMNS: Final = ("volume", "since_ms")  # of TariffUsage too, (slots, components of the longest tariff)


def zeros(shape: int | tuple[int, int], dtype: type[np.generic]) -> NDArray[Any]:
    """As np.zeros, and where nothing is written it takes no memory, which a busy process's malloc does not promise."""
    octets = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if octets < _MAPPED_BYTES_MIN:
        return np.zeros(shape, dtype)
    return np.frombuffer(mmap(-1, octets, flags=MAP_PRIVATE | MAP_ANONYMOUS), dtype).reshape(shape)


def copy_used(target: NDArray[Any], at: I64 | slice | tuple[slice, slice], values: NDArray[Any]) -> None:
    """Write rows of a column. Where all of it is 0 before and after it is not touched: then it takes no memory yet."""
    if values.any() or target.any():
        target[at] = values
