"""Admission: decodes and checks the readings of a request, item by item. Pure: no I/O, no clock, no settings.

Reasons for which an item is refused (`RefusedItem.reason`): malformed, not_an_object, unknown_field, missing_field,
wrong_type, out_of_range, absurd, not_finite, station_id_invalid, session_id_invalid, status_unknown,
session_event_unknown, ts_invalid, ts_naive, ts_ancient, ts_future, station_forbidden.
"""

from ingest.admission.admitted import STATION_FORBIDDEN, AdmissionRules, Admitted, DecodedReadings, RefusedItem
from ingest.admission.arrow import admit_arrow
from ingest.admission.columns import to_batch, to_columns
from ingest.admission.json_bodies import admit_json, admit_ndjson
from ingest.admission.wire import WireReading

__all__ = [
    "STATION_FORBIDDEN",
    "AdmissionRules",
    "Admitted",
    "DecodedReadings",
    "RefusedItem",
    "WireReading",
    "admit_arrow",
    "admit_json",
    "admit_ndjson",
    "to_batch",
    "to_columns",
]
