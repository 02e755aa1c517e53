"""Laws of decoding: frames of all ages become the same columns, and what is no frame of readings is refused."""

from typing import Any

import pyarrow as pa
import pytest

from schemas.frame import FrameError, FrameHeader, FrameKind, encode_frame
from schemas.reading import PLAIN_READING_SCHEMA, READING_SCHEMA
from streams.worker.decoding import read_frame

ROW: dict[str, Any] = {"station_id": "A", "connector_id": 1, "ts_ms": 1, "status": 0, "session_event": 0, "seq": 7}


def read(batch: pa.RecordBatch) -> pa.RecordBatch:
    header = FrameHeader(FrameKind.READINGS, 0, "s", 0, batch.num_rows, batch.num_rows, 0)
    _, rows = read_frame(header, encode_frame(header, batch), 0)
    return rows


@pytest.mark.parametrize("schema", [PLAIN_READING_SCHEMA, READING_SCHEMA])
def test_a_frame_without_the_optional_columns_has_nulls_there(schema: pa.Schema) -> None:
    rows = read(pa.RecordBatch.from_pylist([ROW, ROW], schema))
    assert rows.equals(pa.RecordBatch.from_pylist([ROW, ROW], READING_SCHEMA))


def test_the_optional_columns_are_read() -> None:
    row = ROW | {"energy_export_mwh": 5, "extra": "{}"}
    assert read(pa.RecordBatch.from_pylist([row], READING_SCHEMA)).to_pylist() == [
        dict.fromkeys(READING_SCHEMA.names) | row
    ]


@pytest.mark.parametrize(
    "schema",
    [
        PLAIN_READING_SCHEMA.remove(3),
        READING_SCHEMA.remove(len(PLAIN_READING_SCHEMA)),
        PLAIN_READING_SCHEMA.append(pa.field("extra", pa.string())),
        PLAIN_READING_SCHEMA.append(pa.field("more", pa.string())),
    ],
)
def test_a_frame_of_other_columns_is_refused(schema: pa.Schema) -> None:
    with pytest.raises(FrameError, match="columns"):
        read(pa.RecordBatch.from_pylist([ROW], schema))
