"""Admission: bytes of a request to readings that may pass, item by item. Pure: no I/O, no clock, no settings.

Reasons an item is refused for (`Refused.reason`): malformed, not_an_object, unknown_field, missing_field, wrong_type,
out_of_range, absurd, not_finite, station_id_invalid, session_id_invalid, status_unknown, session_event_unknown,
ts_invalid, ts_naive, ts_ancient, ts_future, station_forbidden.
"""

from ingest.admission.admitted import STATION_FORBIDDEN, Admitted, Refused, Rules, Structs
from ingest.admission.arrow import admit_arrow
from ingest.admission.columns import packed, to_batch
from ingest.admission.items import admit_json, admit_ndjson
from ingest.admission.wire import WireReading

__all__ = [
    "STATION_FORBIDDEN",
    "Admitted",
    "Refused",
    "Rules",
    "Structs",
    "WireReading",
    "admit_arrow",
    "admit_json",
    "admit_ndjson",
    "packed",
    "to_batch",
]
