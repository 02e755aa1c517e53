"""Readings as they stand in frames, anything that the columns' types allow."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from schemas.reading import READING_SCHEMA

_texts = st.sampled_from(["CP1", "", "DE*ABC*E1", "ö", "\N{GRINNING FACE}"]) | st.text(max_size=40)


def _values(field: pa.Field) -> st.SearchStrategy[Any]:
    if pa.types.is_string(field.type):
        values: st.SearchStrategy[Any] = _texts
    else:
        bounds = np.iinfo(field.type.to_pandas_dtype())
        # The least int64 is null to the kernels; no connector has a negative number.
        lowest = 0 if field.name == "connector_id" else int(bounds.min) + (field.type == pa.int64())
        values = st.integers(0, 3) | st.integers(lowest, int(bounds.max)) | st.sampled_from([lowest, int(bounds.max)])
    return values | st.none() if field.nullable else values


rows = st.fixed_dictionaries({field.name: _values(field) for field in READING_SCHEMA})


def batches(rows_max: int = 5) -> st.SearchStrategy[pa.RecordBatch]:
    """Batches of READING_SCHEMA."""
    return st.lists(rows, max_size=rows_max).map(lambda some: pa.RecordBatch.from_pylist(some, READING_SCHEMA))
