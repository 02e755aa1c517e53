"""Numbers of statuses, as they are stored: schemas.reading.Status, and silent."""

from typing import Final

from schemas.reading import STATUS_LABELS, STATUS_NAMES, Status

UNKNOWN: Final = int(Status.NONE)
AVAILABLE: Final = int(Status.AVAILABLE)
SILENT: Final = 10
SILENT_LABEL: Final = "Silent"
BUSY: Final = tuple(
    int(one)
    for one in (Status.PREPARING, Status.CHARGING, Status.SUSPENDED_EVSE, Status.SUSPENDED_EV, Status.FINISHING)
)
"""Of a connector that a vehicle is at: no other of its EVSE can charge."""
CODES: Final = {**{name: int(code) for name, code in STATUS_NAMES.items()}, SILENT_LABEL: SILENT}
LABELS: Final = {int(code): name for code, name in STATUS_LABELS.items()} | {SILENT: SILENT_LABEL}
