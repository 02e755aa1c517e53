"""Admission: decodes and checks the readings of a request, item by item. Pure: no I/O, no clock, no settings.

Reasons for which an item is refused (`RefusedItem.reason`): malformed, not_an_object, missing_field, wrong_type,
out_of_range, station_id_invalid, bay_invalid, ts_invalid, ts_naive, ts_ancient, ts_future, station_forbidden; with
`strict` also those for which a field of an accepted reading is dropped (`Remarks.dropped`), and unknown_field:
wrong_type, absurd, not_finite, session_id_invalid, status_unknown, session_event_unknown, text_invalid, not_of_bay.
Unknown fields that cannot be kept are dropped with too_large, too_deep, name_invalid or name_reserved; a bay's two
fields from what is no event of a bay with bay_apart.
"""

from ingest.admission.admitted import STATION_FORBIDDEN, AdmissionRules, Admitted, DecodedReadings, RefusedItem
from ingest.admission.arrow import admit_arrow, admit_batch
from ingest.admission.columns import to_batch, to_columns, to_numbers
from ingest.admission.items import Remarks
from ingest.admission.json_bodies import admit_items, admit_json, admit_ndjson
from ingest.admission.splitting import damaged_member
from ingest.admission.wire import WireReading

__all__ = [
    "STATION_FORBIDDEN",
    "AdmissionRules",
    "Admitted",
    "DecodedReadings",
    "RefusedItem",
    "Remarks",
    "WireReading",
    "admit_arrow",
    "admit_batch",
    "admit_items",
    "admit_json",
    "admit_ndjson",
    "damaged_member",
    "to_batch",
    "to_columns",
    "to_numbers",
]
