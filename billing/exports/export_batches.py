"""An export batch (documents and their lines, as the store reads them), parsed into columns."""

from copy import copy
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from billing.exports.store import CDR_COLUMNS, DELIMITER, LINE_COLUMNS, QUOTE
from kit.columnar_json import Bools, Ints, Texts

_US_PER_MS: Final = 1_000
_MOMENT: Final = pa.timestamp("us", tz="UTC")
_TYPES: Final[dict[str, Any]] = {
    **dict.fromkeys(("credit", "estimated"), pa.bool_()),
    **dict.fromkeys(("issued_at", "started_at", "ended_at"), _MOMENT),
    **dict.fromkeys(("total_excl_micros", "total_incl_micros", "energy_uj", "year", "sequence", "item"), pa.int64()),
}
_PARSE: Final = csv.ParseOptions(delimiter=DELIMITER, quote_char=QUOTE, newlines_in_values=True)
_CONVERT: Final = csv.ConvertOptions(
    column_types={name: _TYPES.get(name, pa.string()) for name in CDR_COLUMNS},
    strings_can_be_null=True,
    quoted_strings_can_be_null=False,
    null_values=[""],
    true_values=["t"],
    false_values=["f"],
)

# COPY's binary format: this, rows of fields with the length of each before it, and two more bytes.
_HEADER_BYTES: Final = 19
_SIZES: Final = {"year": ">i4", "item": ">i2", "line": ">i2", "dimension": "u1"}
_LINE: Final = np.dtype(
    [("fields", ">i2")]
    + [field for name in LINE_COLUMNS for field in ((f"{name}_bytes", ">i4"), (name, _SIZES.get(name, ">i8")))]
)
_SEQUENCE_BITS: Final = 34  # of a document's place: 17 thousand million in a year
_PLACE: Final = ("year", "sequence", "item")
_ITEM_BITS: Final = 15  # of a charge's on a collective invoice: a smallint


class DocumentBatch:
    """The documents of a batch, as columns by name."""

    def __init__(self, rows: bytearray) -> None:
        """`rows`: CDR_COLUMNS as CSV, of at least one document."""
        reading = csv.ReadOptions(column_names=list(CDR_COLUMNS), block_size=len(rows) + 1, use_threads=False)
        self._table = csv.read_csv(pa.BufferReader(rows), reading, _PARSE, _CONVERT)
        self.count: int = self._table.num_rows

    def keep(self, mask: Bools) -> "DocumentBatch":
        """The documents where `mask` is true, of which there is at least one."""
        kept = copy(self)
        kept._table = self._table.filter(pa.array(mask)).combine_chunks()
        kept.count = kept._table.num_rows
        return kept

    def texts(self, name: str) -> Texts:
        """A column of any type."""
        return self._table.column(name).chunk(0)

    def ints(self, name: str) -> Ints:
        """A column of integers, none of them null."""
        return np.asarray(self.texts(name))

    def bools(self, name: str) -> Bools:
        """A column of booleans, none of them null."""
        return np.asarray(self.texts(name).to_numpy(zero_copy_only=False))

    def missing(self, name: str) -> Bools:
        """Whether each value of a column is null."""
        return np.asarray(self.texts(name).is_null().to_numpy(zero_copy_only=False))

    def moments_ms(self, name: str) -> Ints:
        """A column of instants, in ms since the epoch, rounded down."""
        return np.asarray(self.texts(name).cast(pa.int64())) // _US_PER_MS

    def places(self) -> Ints:
        """Keys that lines and documents share, ascending."""
        return _places(*(self.ints(name) for name in _PLACE))


class Lines(NamedTuple):
    """Components of the tariff, as they were used: columns."""

    document: npt.NDArray[np.intp]  # its place in the batch
    dimension: npt.NDArray[np.uint8]  # the first letter
    since_ms: Ints  # when it was first used
    volume: Ints  # as are the amounts, of a credit note below 0
    excl_micros: Ints
    incl_micros: Ints


def keep_lines(lines: Lines, mask: Bools) -> Lines:
    """The lines of the documents where `mask` is true, numbered by their places among these."""
    kept = mask[lines.document]
    place = np.cumsum(mask) - 1
    document, dimension, *amounts = lines
    return Lines(place[document[kept]], dimension[kept], *(column[kept] for column in amounts))


def letter(dimension: str) -> int:
    """The code by which Lines distinguish dimensions."""
    return ord(dimension[0])


def parse_lines(documents: DocumentBatch, rows: bytearray) -> Lines:
    """Parses the lines of a batch. Raises ValueError for a line whose component was not consumed."""
    read = np.frombuffer(rows, _LINE, offset=_HEADER_BYTES, count=(len(rows) - _HEADER_BYTES) // _LINE.itemsize)
    document = np.searchsorted(documents.places(), _places(*(read[name] for name in _PLACE)))
    moments_ms, starts = _moments(documents.texts("since"))
    place = starts[document] + read["line"] - 1
    unknown = place >= starts[document + 1]
    if unknown.any():
        number = documents.texts("number")[int(document[unknown][0])]
        raise ValueError(f"{number} has a line of no component that its CDR says was used")
    amounts = (read[name].astype(np.int64) for name in ("volume", "excl_micros", "incl_micros"))
    return Lines(document, read["dimension"], moments_ms[place], *amounts)


def _places(*columns: npt.NDArray[np.integer[Any]]) -> Ints:
    year, sequence, item = (column.astype(np.int64) for column in columns)
    return (((year << _SEQUENCE_BITS) + sequence) << _ITEM_BITS) + item


def _moments(since: Texts) -> tuple[Ints, Ints]:
    """Parses the JSON lists of instants of all documents; returns the instants concatenated, and the list offsets."""
    inner = pc.utf8_trim(since, '["]')
    lists = pc.split_pattern(pc.if_else(pc.equal(inner, ""), pa.scalar(None, pa.string()), inner), '", "')
    starts = np.zeros(len(since) + 1, np.int64)
    np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(lists), 0)), out=starts[1:])
    return np.asarray(lists.flatten().cast(_MOMENT).cast(pa.int64())) // _US_PER_MS, starts
