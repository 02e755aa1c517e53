"""Files of readings as tables of at most CHUNK_ROWS rows, the columns as the file names them.

CSV cells come as strings (an id of digits keeps its leading zeros), the other formats with their own types. The rows
of a chunk are the same whatever the format.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from simulator.errors import SourceError

CHUNK_ROWS: Final = 65_536  # ~20 MB as strings; large enough to shuffle minutes of a large fleet
_READ_BYTES: Final = 1 << 20
_LINE_BYTES_MAX: Final = 1 << 20  # of NDJSON: no reading comes near
_COMPRESSED: Final = (".gz", ".zst", ".bz2")
_LINES: Final = (".ndjson", ".jsonl")


def read_file(path: Path) -> Iterator[pa.Table]:
    """The file's rows in order. Raises SourceError for a file that is not there, unreadable or of no known kind."""
    kind = _kind(path)
    try:
        yield from _rechunk({"csv": _csv, "parquet": _parquet, "ndjson": _ndjson}[kind](path))
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read as {kind}: {error}") from error


def count_rows(path: Path) -> int:
    """How many rows the file has, for a progress bar: lines, where counting rows would mean to parse them."""
    try:
        if _kind(path) == "parquet":
            return int(pyarrow.parquet.ParquetFile(path).metadata.num_rows)
        with pa.input_stream(str(path), compression="detect") as stream:
            lines = sum(bytes(block).count(b"\n") for block in iter(lambda: stream.read(_READ_BYTES), b""))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    return lines - (_kind(path) == "csv")


def fingerprint(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex. Raises SourceError."""
    digest = sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    if last in _LINES:
        return "ndjson"
    if last in (".csv", ".parquet"):
        return last[1:]
    raise SourceError(f"{path}: replay reads .csv, .ndjson, .jsonl (also .gz, .zst, .bz2 of them) and .parquet")


def _csv(path: Path) -> Iterator[pa.Table]:
    with pa.input_stream(str(path), compression="detect") as stream:
        header = pyarrow.csv.open_csv(stream).schema.names
    if len(set(header)) < len(header):
        raise SourceError(f"{path}: a column name stands twice in its first line; rename one")
    strings = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    with pa.input_stream(str(path), compression="detect") as stream:
        for batch in pyarrow.csv.open_csv(stream, convert_options=strings):
            yield pa.Table.from_batches([batch])


def _parquet(path: Path) -> Iterator[pa.Table]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(CHUNK_ROWS):
            yield pa.Table.from_batches([batch])


def _ndjson(path: Path) -> Iterator[pa.Table]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines_of(path), 1):
        if not line.strip():
            continue
        try:
            rows.append(decode(line))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}, line {number}: {error}; every line must be one JSON object") from error
        if len(rows) == CHUNK_ROWS:
            yield _table(path, rows)
            rows = []
    if rows:
        yield _table(path, rows)


def _lines_of(path: Path) -> Iterator[bytes]:
    rest = b""
    with pa.input_stream(str(path), compression="detect") as stream:
        while block := stream.read(_READ_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > _LINE_BYTES_MAX:
                raise SourceError(f"{path}: a line is longer than {_LINE_BYTES_MAX} bytes; one reading a line")
            yield from lines
    if rest:
        yield rest


def _table(path: Path, rows: list[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except pa.ArrowException as error:
            raise SourceError(f"{path}: column {name} holds values of several types: {error}") from error
    return pa.table(columns)


def _rechunk(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    pending: list[pa.Table] = []
    count = 0
    for table in tables:
        pending.append(table)
        count += table.num_rows
        while count >= CHUNK_ROWS:
            joined = pa.concat_tables(pending, promote_options="permissive")
            yield joined.slice(0, CHUNK_ROWS)
            pending, count = [joined.slice(CHUNK_ROWS)], count - CHUNK_ROWS
    if count:
        yield pa.concat_tables(pending, promote_options="permissive")
