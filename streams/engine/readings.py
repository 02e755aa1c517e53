"""The readings of one step, sorted by connector, arrival order inside a connector, with the results of the kernels."""

from dataclasses import dataclass, field, fields

import numpy as np

from schemas.quality import REGISTER_UNUSABLE, Quality
from schemas.reading import MILLI, QUANTITIES, SESSION_EVENT_LABELS, STATUS_LABELS
from streams.effects import NULL_I32, READING_COLUMNS, Columns
from streams.engine.batch import NO_NAME, QUANTITY_COLUMNS, Batch, SessionIds
from streams.kernels.hashing import payload_hash
from streams.kernels.runs import I64, NULL, Bools, Runs, arrival_order, runs_of
from streams.state.partition import PartitionState


@dataclass(slots=True)
class StepReadings:
    """int64 columns of equal length; NULL where the device sent nothing."""

    slot: I64
    arrival: I64  # place in the order of arrival
    name: I64  # fingerprint of session_id; 0: none
    name_code: I64
    received_ms: I64
    fingerprint: I64  # of the payload
    flags: I64  # Quality bits
    session_key: I64  # NULL: outside any session
    boot: I64
    seq: I64
    ts_ms: I64
    energy_mwh: I64
    power_mw: I64
    voltage_mv: I64
    current_ma: I64
    temperature_mc: I64
    soc_mpct: I64
    status: I64
    session_event: I64
    runs: Runs = field(init=False)  # of the slots

    def __post_init__(self) -> None:
        self.runs = runs_of(self.slot)

    def __len__(self) -> int:
        return len(self.slot)

    def where(self, chosen: Bools) -> "StepReadings":
        """The chosen rows (a copy, unless all are chosen)."""
        if chosen.all():
            return self
        return StepReadings(*(getattr(self, f.name)[chosen] for f in fields(self) if f.init))

    def trusted(self) -> Bools:
        """Rows whose clock does not run ahead of ours."""
        trusted: Bools = (self.flags & Quality.CLOCK_SKEW) == 0
        return trusted

    def flagged(self) -> Bools:
        """Rows with a flag that casts doubt on them; estimated is only a way of measuring."""
        flagged: Bools = (self.flags & ~np.int64(Quality.ESTIMATED)) != 0
        return flagged

    def usable_register_mwh(self) -> I64:
        """Registers, NULL where they are no evidence."""
        return np.where((self.flags & REGISTER_UNUSABLE) != 0, NULL, self.energy_mwh)

    def for_store(self, state: PartitionState) -> Columns:
        """effects.READING_COLUMNS."""
        out: Columns = {}
        for column, dtype in READING_COLUMNS.items():
            if column == "connector_key":
                values = state.connector_key[self.slot]
            elif column == "payload_hash":
                out[column] = self.fingerprint.astype(np.uint32).view(np.int32)
                continue
            else:
                values = getattr(self, column)
            if dtype is np.int32 and column != "connector_key":
                values = np.where(values == NULL, NULL_I32, values)
            out[column] = values.astype(dtype, copy=False)
        return out

    def as_sent(self, state: PartitionState, row: int, session_ids: SessionIds) -> dict[str, object]:
        """One row as a device would have sent it."""
        station_id, connector_id = state.connector_index.connector(int(self.slot[row]))
        reading: dict[str, object] = {"station_id": station_id, "connector_id": connector_id}
        if (code := int(self.name_code[row])) != NO_NAME:
            reading["session_id"] = session_ids[code]
        for name in ("boot", "seq"):
            if (value := int(getattr(self, name)[row])) != NULL:
                reading[name] = value
        reading["ts"] = int(self.ts_ms[row])
        for name, (column, _, _, _) in QUANTITIES.items():
            if (value := int(getattr(self, column)[row])) != NULL:
                reading[name] = value / MILLI
        if status := int(self.status[row]):
            reading["status"] = STATUS_LABELS[status]  # type: ignore[index]  # an IntEnum is looked up by its int
        if event := int(self.session_event[row]):
            reading["session_event"] = SESSION_EVENT_LABELS[event]  # type: ignore[index]  # likewise
        return reading


def arrange(batch: Batch, slot: I64, skew_tolerance_ms: int) -> StepReadings:
    """Sort a batch by connector (`slot` of each row), fingerprint it, and flag clocks that run ahead."""
    order = arrival_order(slot)
    columns = {name: column[order] for name, column in batch.columns.items()}
    received_ms, name = batch.received_ms[order], batch.name[order]
    hashed = (
        columns["ts_ms"],
        *(columns[c] for c in QUANTITY_COLUMNS),
        columns["status"],
        columns["session_event"],
        name,
    )
    skewed = columns["ts_ms"] > received_ms + skew_tolerance_ms
    return StepReadings(
        slot=slot[order],
        arrival=order,
        name=name,
        name_code=batch.name_code[order],
        received_ms=received_ms,
        fingerprint=payload_hash(hashed, len(order)),
        flags=skewed * np.int64(Quality.CLOCK_SKEW),
        session_key=np.full(len(order), NULL, np.int64),
        **columns,
    )
