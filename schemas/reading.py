"""A reading: what a charger reports of one connector at one moment.

On the wire a reading has the usual units (Wh, W, V, A, °C, %); internally every quantity is an integer of
thousandths (mWh, mW, mV, mA, m°C, m%), so that sums are exact in any order and no float touches energy or money.
"""

from enum import IntEnum
from typing import Final

import pyarrow as pa


class Status(IntEnum):
    """OCPP 1.6 ChargePointStatus; NONE if the reading has no status. Values are persisted: never renumber."""

    NONE = 0
    AVAILABLE = 1
    PREPARING = 2
    CHARGING = 3
    SUSPENDED_EVSE = 4
    SUSPENDED_EV = 5
    FINISHING = 6
    RESERVED = 7
    UNAVAILABLE = 8
    FAULTED = 9


STATUS_NAMES: Final = {
    "Available": Status.AVAILABLE,
    "Preparing": Status.PREPARING,
    "Charging": Status.CHARGING,
    "SuspendedEVSE": Status.SUSPENDED_EVSE,
    "SuspendedEV": Status.SUSPENDED_EV,
    "Finishing": Status.FINISHING,
    "Reserved": Status.RESERVED,
    "Unavailable": Status.UNAVAILABLE,
    "Faulted": Status.FAULTED,
}
STATUS_LABELS: Final = {code: name for name, code in STATUS_NAMES.items()}


# Of an interval, never of a reading: the station was not heard for as long as it is expected to speak. Persisted.
SILENT: Final = -1
STATUS_INTERVAL_LABELS: Final[dict[int, str]] = {
    Status.NONE: "Unknown",  # the connector never gave a status
    **{int(code): name for code, name in STATUS_LABELS.items()},
    SILENT: "Silent",
}


class SessionEvent(IntEnum):
    """OCPP 2.0.1 TransactionEvent kinds; NONE if the reading has none. Values are persisted: never renumber."""

    NONE = 0
    STARTED = 1
    UPDATED = 2
    ENDED = 3


SESSION_EVENT_NAMES: Final = {
    "Started": SessionEvent.STARTED,
    "Updated": SessionEvent.UPDATED,
    "Ended": SessionEvent.ENDED,
}
SESSION_EVENT_LABELS: Final = {code: name for name, code in SESSION_EVENT_NAMES.items()}

STATION_ID_CHARS_MAX: Final = 36  # OCPI CiString(36)
SESSION_ID_CHARS_MAX: Final = 64  # OCPI CiString(36) for sessions; OCPP 2.0.1 allows 36; room for prefixes
CONNECTOR_ID_MAX: Final = 32_767  # OCPP numbers connectors from 1; 0 is the charge point itself
MAIN_METER: Final = 0
SEQ_MAX: Final = 2**53 - 1  # the largest integer that every JSON parser keeps exactly
MILLI: Final = 1_000

# Wire name -> (column name, Arrow type, lowest and highest sane value in wire units). Beyond them a value is absurd and
# is dropped: MCS, the strongest charging there is, ends at 3.75 MW, 1,250 V and 3,000 A.
QUANTITIES: Final = {
    "energy_wh": ("energy_mwh", pa.int64(), 0.0, 1e12),
    "power_w": ("power_mw", pa.int64(), -1e7, 1e7),  # negative: vehicle to grid
    "voltage_v": ("voltage_mv", pa.int32(), 0.0, 2e3),
    "current_a": ("current_ma", pa.int32(), -1e4, 1e4),
    "temperature_c": ("temperature_mc", pa.int32(), -100.0, 300.0),
    "soc_pct": ("soc_mpct", pa.int32(), 0.0, 100.0),
}

# The register of exported energy (vehicle to grid), as in QUANTITIES. It stands beside them because windows and live
# view treat each of those alike.
ENERGY_EXPORT: Final = ("energy_export_mwh", pa.int64(), 0.0, 1e12)

# Fields that a reading may have and that are in no column of their own but in `extra`; named after OCPP's measurands.
# Wire name -> lowest and highest sane value in wire units.
DETAIL_QUANTITIES: Final = {
    "power_export_w": (0.0, 1e7),  # subtracted from power_w
    "power_offered_w": (0.0, 1e7),
    "current_offered_a": (0.0, 1e4),
    **{f"voltage_l{phase}_v": (0.0, 2e3) for phase in (1, 2, 3)},
    **{f"current_l{phase}_a": (-1e4, 1e4) for phase in (1, 2, 3)},
    **{f"power_l{phase}_w": (-1e7, 1e7) for phase in (1, 2, 3)},
    "power_factor": (-1.0, 1.0),
    "frequency_hz": (0.0, 1e3),
    "reactive_power_var": (-1e7, 1e7),  # negative: export
    "reactive_energy_varh": (0.0, 1e12),  # register of import
    "reactive_energy_export_varh": (0.0, 1e12),
}
# Wire name -> most characters. OCPP allows 50 for codes and 36 for tokens. `id_tag` is personal data and never logged.
DETAIL_TEXTS: Final = {"error_code": 64, "vendor_error_code": 64, "stop_reason": 64, "id_tag": 64}

# The event of a parking bay's sensor is a reading of the station itself with these two in `extra`, which measures
# nothing.
BAY: Final = "bay"
OCCUPIED: Final = "occupied"  # true or false
BAY_CHARS_MAX: Final = 36  # as the registry's

# Bounds of `extra`, per reading: a full set of details is below 1 KiB, the rest is for fields that are not known here.
EXTRA_BYTES_MAX: Final = 4_096
EXTRA_UNKNOWN_MAX: Final = 32
EXTRA_DROPPED: Final = "dropped"  # its member that has the values which could not be, by field

# The columns of a frame of readings that have nothing in the optional columns, as most have not.
PLAIN_READING_SCHEMA: Final = pa.schema(
    [
        pa.field("station_id", pa.string(), nullable=False),  # upper case: a CiString compares without case
        pa.field("connector_id", pa.int16(), nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("boot", pa.int64()),
        pa.field("seq", pa.int64()),
        pa.field("ts_ms", pa.int64(), nullable=False),  # event time, Unix epoch, UTC
        *(pa.field(column, dtype) for column, dtype, _, _ in QUANTITIES.values()),
        pa.field("status", pa.int8(), nullable=False),
        pa.field("session_event", pa.int8(), nullable=False),
    ]
)
OPTIONAL_FIELDS: Final = (
    pa.field(ENERGY_EXPORT[0], ENERGY_EXPORT[1]),
    # A compact JSON object with sorted keys, of all that has no column: details, unknown fields, and `dropped` values.
    pa.field("extra", pa.string()),
)
# All columns of readings. A frame has these or those of PLAIN_READING_SCHEMA.
READING_SCHEMA: Final = pa.schema([*PLAIN_READING_SCHEMA, *OPTIONAL_FIELDS])


def with_all_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of PLAIN_READING_SCHEMA with the optional columns, null; another one as it is."""
    if batch.schema != PLAIN_READING_SCHEMA:
        return batch
    for field in OPTIONAL_FIELDS:
        batch = batch.append_column(field, pa.nulls(batch.num_rows, field.type))
    return batch


# The columns of a frame of refused items, which the gateway quarantines and lists in its response.
REFUSED_SCHEMA: Final = pa.schema(
    [
        pa.field("station_id", pa.string()),  # null if it could not be read
        pa.field("reason", pa.string(), nullable=False),  # a code of ingest/admission
        pa.field("detail", pa.string(), nullable=False),  # one sentence for people
        pa.field("raw", pa.binary(), nullable=False),  # the item as received, at most RAW_ITEM_BYTES_MAX
    ]
)
RAW_ITEM_BYTES_MAX: Final = 16_384
