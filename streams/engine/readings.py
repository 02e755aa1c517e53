"""The readings of one step, sorted by connector, arrival order inside a connector, with the results of the kernels."""

from dataclasses import dataclass, field, fields
from typing import Final

import msgspec
import numpy as np

from schemas.energy import ENERGY_SHARES
from schemas.quality import REGISTER_UNUSABLE, Quality
from schemas.reading import MILLI, QUANTITIES, SESSION_EVENT_LABELS, STATUS_LABELS
from streams.effects import NULL_I32, READING_COLUMNS, Columns
from streams.engine.batch import NO_NAME, QUANTITY_COLUMNS, Batch, SessionIds, fingerprint_of
from streams.kernels.hashing import payload_hash
from streams.kernels.runs import I64, NULL, Bools, Runs, all_true, any_true, rows_where, runs_of, sorted_by_arrival
from streams.state.partition import PartitionState

ACCOUNTED: Final = tuple(ENERGY_SHARES)


@dataclass(slots=True)
class StepReadings:
    """int64 columns of equal length; NULL where the device sent nothing."""

    slot: I64
    arrival: I64  # place in the order of arrival
    name: I64  # fingerprint of session_id; 0: none
    name_code: I64
    received_ms: I64
    fingerprint: I64  # of the payload
    part: I64  # without seq: its place among the readings of its ts
    flags: I64  # Quality bits
    session_key: I64  # NULL: outside any session
    named: I64  # 1: it gives the name of its session
    in_session_mwh: I64  # what its register accounts for
    outside_mwh: I64
    rejected_mwh: I64
    extra: I64  # index into the batch's; NO_NAME: none
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
    energy_export_mwh: I64
    runs: Runs = field(init=False)  # of the slots

    def __post_init__(self) -> None:
        self.runs = runs_of(self.slot)

    def __len__(self) -> int:
        return len(self.slot)

    def where(self, chosen: Bools) -> "StepReadings":
        """The chosen rows (a copy, unless all are chosen)."""
        if all_true(chosen):
            return self
        rows = rows_where(chosen)
        return StepReadings(*(getattr(self, f.name)[rows] for f in fields(self) if f.init))

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
        unusable = (self.flags & REGISTER_UNUSABLE) != 0
        return np.where(unusable, NULL, self.energy_mwh) if any_true(unusable) else self.energy_mwh

    def usable_export_mwh(self) -> I64:
        """Likewise of exported energy."""
        unusable = (self.flags & Quality.EXPORT_IMPLAUSIBLE) != 0
        return np.where(unusable, NULL, self.energy_export_mwh) if any_true(unusable) else self.energy_export_mwh

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
            narrow = values.astype(dtype, copy=False)
            if column in ACCOUNTED:
                narrow = np.where(values == 0, NULL, values)
            elif dtype is np.int32 and column != "connector_key":
                np.copyto(narrow, NULL_I32, where=values == NULL)
            out[column] = narrow
        return out

    def extras(self, batch: Batch) -> list[bytes] | None:
        """What is stored as JSON with each reading: what has no column, and a session id that is not its session's."""
        own = (self.name != 0) & (self.named == 0)
        if batch.extra is None and not any_true(own):
            return None
        extras = [b"" for _ in range(len(self))]
        if batch.extra is not None:
            extras = [(batch.extra[row] or "").encode() for row in self.extra.tolist()]
        for row in rows_where(own).tolist():
            extras[row] = with_session_id(extras[row], batch.session_ids[int(self.name_code[row])])
        return extras

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
        if (export := int(self.energy_export_mwh[row])) != NULL:
            reading["energy_export_wh"] = export / MILLI
        if event := int(self.session_event[row]):
            reading["session_event"] = SESSION_EVENT_LABELS[event]  # type: ignore[index]  # likewise
        return reading


class _GivenId(msgspec.Struct):
    session_id: str | None = None


def session_id_in(extra: str | None) -> str | None:
    """The session id that is kept beside a reading because it is not its session's."""
    return msgspec.json.decode(extra, type=_GivenId).session_id if extra else None


def with_session_id(extra: bytes, session_id: str | None) -> bytes:
    """The JSON of what has no column, b"": none, with the session id that the device gave, or without one."""
    members: dict[str, object] = dict(msgspec.json.decode(extra, type=dict[str, msgspec.Raw])) if extra else {}
    members.pop("session_id", None)
    if session_id is not None:
        members["session_id"] = session_id
    return msgspec.json.encode(members, order="sorted") if members else b""


def arrange(batch: Batch, slot: I64, skew_tolerance_ms: int) -> StepReadings:
    """Sort a batch by connector (`slot` of each row), fingerprint it, and flag clocks that run ahead."""
    order, slot = sorted_by_arrival(slot)
    columns = {name: _arranged(column, order) for name, column in batch.columns.items()}
    received_ms, name = batch.received_ms.take(order), batch.name.take(order)
    hashed = (
        columns["ts_ms"],
        *(columns[c] for c in QUANTITY_COLUMNS),
        columns["status"],
        columns["session_event"],
        name,
    )
    fingerprint = payload_hash(hashed, len(order))
    if batch.extra is not None or batch.exports:  # else as before there were these
        fingerprint = _with_rest(fingerprint, columns["energy_export_mwh"], batch, order)
    skewed = columns["ts_ms"] > received_ms + skew_tolerance_ms
    return StepReadings(
        slot=slot,
        arrival=order,
        name=name,
        name_code=batch.name_code.take(order),
        received_ms=received_ms,
        fingerprint=fingerprint,
        part=np.zeros(len(order), np.int64),
        flags=skewed * np.int64(Quality.CLOCK_SKEW),
        session_key=np.full(len(order), NULL, np.int64),
        named=np.zeros(len(order), np.int64),
        **{column: np.zeros(len(order), np.int64) for column in ACCOUNTED},
        extra=order if batch.extra is not None else np.full(len(order), NO_NAME, np.int64),
        **columns,
    )


def _arranged(column: I64, order: I64) -> I64:
    """A column in this order. One in which no reading has a value, as of devices that never send it, needs none."""
    if not len(column) or (column[0] in (NULL, 0) and all_true(column == column[0])):
        return column
    return column.take(order)


def _with_rest(fingerprint: I64, export_mwh: I64, batch: Batch, order: I64) -> I64:
    """Fingerprints with the columns that readings did not always have, of those that have any."""
    extras = [None] * len(order) if batch.extra is None else batch.extra
    hashed = {text: fingerprint_of(text) for text in set(extras) if text}
    extra = np.array([hashed.get(extras[row], 0) if extras[row] else 0 for row in order.tolist()], np.int64)
    plain = (extra == 0) & (export_mwh == NULL)
    return np.where(plain, fingerprint, payload_hash((fingerprint, export_mwh, extra), len(order)))
