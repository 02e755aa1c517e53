"""Readings that a step refuses: they go to the quarantine as a device would have sent them."""

from typing import Final

import msgspec

from schemas.reading import EXTRA_DROPPED
from streams.effects import NULL_I64, RefusedItems
from streams.engine.batch import Batch
from streams.engine.readings import StepReadings
from streams.kernels.runs import I64, any_true, rows_where
from streams.state.partition import PartitionState

TOO_OLD: Final = "ts_ancient"  # as the gateway refuses what is too old when it arrives
_TOO_OLD_DETAIL: Final = "older than the lake's border (telemetry.lake_after): readings of its time were moved there"


def refuse_too_old(
    state: PartitionState, rows: StepReadings, batch: Batch, oldest_ms: int, refused: RefusedItems
) -> tuple[StepReadings, int]:
    """The rows since `oldest_ms`; adds the others to `refused`. Returns how many these are, too.

    The gateway refuses them before; here are those that waited in the log while the border passed them.
    """
    if oldest_ms == NULL_I64:
        return rows, 0
    too_old = rows.ts_ms < oldest_ms
    if not any_true(too_old):
        return rows, 0
    refuse(state, rows, batch, others := rows_where(too_old), TOO_OLD, _TOO_OLD_DETAIL, refused)
    return rows.where(~too_old), len(others)


def refuse(
    state: PartitionState, rows: StepReadings, batch: Batch, which: I64, reason: str, detail: str, refused: RefusedItems
) -> None:
    """Add these rows to `refused`."""
    for row in which.tolist():
        station_id, connector_id = state.connector_index.connector(int(rows.slot[row]))
        refused.station_id.append(station_id)
        refused.connector_id.append(connector_id)
        refused.reason.append(reason)
        refused.detail.append(detail)
        refused.raw.append(_as_sent(state, rows, batch, row))
        refused.received_ms.append(int(rows.received_ms[row]))


def _as_sent(state: PartitionState, rows: StepReadings, batch: Batch, row: int) -> bytes:
    """The reading as JSON, with what has no column."""
    reading = rows.as_sent(state, row, batch.session_ids)
    extra = None if batch.extra is None else batch.extra[int(rows.extra[row])]
    if extra:
        details = msgspec.json.decode(extra, type=dict[str, msgspec.Raw])
        reading |= {name: value for name, value in details.items() if name != EXTRA_DROPPED and name not in reading}
    return msgspec.json.encode(reading)
