"""Hypothesis: a reading repeats most of the one before it. Sorted by connector and time, in columns, differences and
dictionaries leave what changes: ~10 B, where a row of PostgreSQL has 24 B of header alone. A window likewise.

Measured: bytes a reading and a window, indexes included, as PostgreSQL stores them and in the lake, of the Bolite data
set (if it is there) and of a simulated fleet, whose readings go through the step, the commit and the move as in the
product. Beside: the bare columns of readings, compressed by zstd alone. The layout is that of the server: TimescaleDB's
where it has it, and then also as its columnstore has them.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import zstandard

from benchmarks.report import Result, phase
from benchmarks.run import PARTITIONS, BenchmarkRun
from kit.clock import from_ms
from kit.lake.folder import LakeFolder
from schemas.frame import FrameHeader, FrameKind
from schemas.reading import MILLI, QUANTITIES, READING_SCHEMA
from simulator.fleet.fleet import PAST_BURST_MS, Fleet
from simulator.fleet.readings import NULL, Readings
from simulator.fleet.spec import FleetSpec
from streams.effects import StepParams
from streams.state.encoding import load_state, snapshot
from streams.storage.commit import Flush, commit
from streams.storage.connections import Connection, Connections, open_writer
from streams.storage.events import FlushContext
from streams.storage.lake_move import LakeMover
from streams.storage.lake_rows import READINGS, WINDOWS, Rows, copy_rows
from streams.storage.store import Store
from streams.worker.compute import compute_effects

TARGET_READING, TARGET_WINDOW = 10.0, 40.0  # bytes
STATIONS, STATIONS_QUICK = 20, 3
DAYS, DAYS_QUICK = 9, 8
_PERIOD_S: Final = 15  # of a connector
BOLITE: Final = Path(__file__).parents[3] / "shared" / "data" / "bolite" / "bolite_dc_timeseries.csv.gz"
_BOLITE_QUICK_ROWS: Final = 5_000
_FLUSH_ROWS: Final = 20_000
_START_MS: Final = 1_790_208_000_000  # the beginning of a week
_LATER_DAYS: Final = 100
# Of a week's tables; TimescaleDB keeps what it compressed in tables apart.
_SIZES: Final = """
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
WHERE h.inhparent = %s::regclass
"""
_COMPRESS: Final = "SELECT count(compress_chunk(chunk)) FROM show_chunks(%s) AS chunk"
_COMPRESSED_SIZE: Final = "SELECT hypertable_size(%s)"
_TABLES: Final = ("telemetry.reading", "telemetry.window_1m")


def run(bench: BenchmarkRun) -> list[Result]:
    """The `storage` stage."""
    sources = {"fleet": _fleet(bench)}
    if BOLITE.exists():
        sources["Bolite"] = _bolite(bench)
    else:
        bench.console.print("storage: the Bolite data set is not there")
    results = []
    for name, readings in sources.items():
        with phase(bench.console, f"storage: {name}"), bench.database() as url, tempfile.TemporaryDirectory() as folder:
            results += _measure(name, readings, url, Path(folder))
    return results


def _measure(name: str, readings: pa.Table, url: str, folder: Path) -> list[Result]:
    connections = Connections(partial(open_writer, url), 2)
    try:
        for partition, rows in _by_partition(readings):
            _store(Store(connections), partition, rows)
        with psycopg.connect(url) as connection:
            count, windows = (
                connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()  # noqa: S608  # our own names
                for table in _TABLES
            )
            reading_bytes, window_bytes = (connection.execute(_SIZES, (table,)).fetchone() for table in _TABLES)
            layout = connection.execute("SELECT layout FROM telemetry.storage").fetchone()
            compressed = _compressed(connection) if layout == ("community",) else None
        assert count
        assert windows
        assert layout
        assert reading_bytes
        assert window_bytes
        newest_ms = pc.max(readings.column("ts_ms")).as_py()
        mover = LakeMover(connections, LakeFolder.at(str(folder)))
        moved = mover.move(from_ms(newest_ms + _LATER_DAYS * 86_400_000), 1, window_days=1)
        files = [file for one in moved for file in one.files if one.kind == READINGS.kind]
        rows = sum(file.rows for file in files)
        of_windows = [file for one in moved for file in one.files if one.kind == WINDOWS.kind]
        window_rows = sum(file.rows for file in of_windows)
        bare = _bare_bytes(connections, url)
    finally:
        connections.close()
    lake = sum(file.file_bytes for file in files) / rows
    note = f"{rows:,} of {count[0]:,} readings in {len(files)} files; layout {layout[0]}"
    results = [
        Result(f"a reading in the lake, {name}", lake, "B", TARGET_READING, higher_is_better=False, note=note)
        .compare("as stored", reading_bytes[0] / count[0])
        .compare("its columns, zstd alone", bare),
        Result(
            f"a window at rest, {name}", sum(file.file_bytes for file in of_windows) / window_rows, "B", TARGET_WINDOW,
            higher_is_better=False,
            note=f"{window_rows:,} of {windows[0]:,} of a minute, {count[0] / windows[0]:.1f} readings each, "
            f"in {len(of_windows)} files",
        ).compare("as stored", window_bytes[0] / windows[0]),
    ]  # fmt: skip
    if compressed is not None:
        rows_of = (count[0], windows[0])
        results = [
            result.compare("compressed", octets / stored)
            for result, octets, stored in zip(results, compressed, rows_of, strict=True)
        ]
    return results


def _compressed(connection: Connection) -> list[int]:
    """Bytes of readings and of windows of a minute once TimescaleDB's policy has compressed them, indexes included."""
    for table in _TABLES:
        connection.execute(_COMPRESS, (table,))
    connection.commit()
    found = [connection.execute(_COMPRESSED_SIZE, (table,)).fetchone() for table in _TABLES]
    return [int(row[0]) for row in found if row]


def _store(store: Store, partition: int, readings: pa.Table) -> None:
    """All of them, by the step and the commit."""
    acquired = store.acquire(partition)
    state, sent = load_state(partition, acquired.bodies), 0
    for number, batch in enumerate(readings.combine_chunks().to_batches(max_chunksize=_FLUSH_ROWS)):
        sent += batch.num_rows
        now_ms = pc.max(batch.column("ts_ms")).as_py()
        header = FrameHeader(FrameKind.READINGS, partition, "bench", number, batch.num_rows, sent, now_ms)
        _commit(store, acquired, number, compute_effects(state, [(header, batch)], now_ms, store, StepParams()), state)
    for more in range(3):  # what waits to be written, and what the clock ends
        effects = compute_effects(state, [], now_ms + 86_400_000, store, StepParams())
        _commit(store, acquired, number + 1 + more, effects, state)


def _commit(store: Store, acquired: Any, number: int, effects: Any, state: Any) -> None:
    start = acquired.next + number
    commit(
        store,
        Flush(
            acquired.partition, acquired.epoch, acquired.commits + number + 1, start, start + 1, effects,
            snapshot(state), base=True, context=FlushContext(_START_MS, ""),
        ),
    )  # fmt: skip


def _by_partition(readings: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """In order of time, a station in one partition."""
    stations = pc.unique(readings.column("station_id")).sort()
    partition = pc.index_in(readings.column("station_id"), stations).to_numpy() % PARTITIONS
    for number in range(PARTITIONS):
        if (partition == number).any():
            yield number, readings.filter(pa.array(partition == number)).sort_by("ts_ms")


def _bare_bytes(connections: Connections, url: str) -> float:
    """Bytes a reading of what stayed in the database, as plain columns of 64 bits in order, compressed."""
    query = f"SELECT {READINGS.selected} FROM telemetry.reading AS r ORDER BY r.connector_key, {READINGS.order}"  # noqa: S608  # our own names
    compressor, octets, count = zstandard.ZstdCompressor(level=9), 0, 0
    with connections.lend() as connection:
        parts: Iterator[Rows] = copy_rows(connection, READINGS, query, {})
        for rows in parts:
            count += len(rows)
            octets += sum(len(compressor.compress(values.tobytes())) for values in rows.columns.values())
    return octets / max(count, 1)


def _bolite(bench: BenchmarkRun) -> pa.Table:
    """The data set as chargers would send it: of each session its pile is the station."""
    found = pyarrow.csv.read_csv(BOLITE)
    if bench.quick:
        found = found.slice(0, _BOLITE_QUICK_ROWS)
    names = found.column("session_id")
    columns: dict[str, Any] = {
        "station_id": pc.binary_join_element_wise(
            "BOLITE", pc.utf8_slice_codeunits(found.column("session_id"), 0, 4), "-"
        ),
        "connector_id": np.ones(found.num_rows, np.int16),
        "session_id": names,
        "seq": found.column("seq"),
        "ts_ms": found.column("ts_ms"),
    }
    for name in ("power_w", "voltage_v", "current_a"):
        column = QUANTITIES[name][0]
        columns[column] = pc.cast(pc.round(pc.multiply(found.column(name).cast(pa.float64()), MILLI)), pa.int64())
    return _readings(columns, found.num_rows)


def _fleet(bench: BenchmarkRun) -> pa.Table:
    """A seeded fleet, each connector every 15 s."""
    stations, days = bench.pick(STATIONS, STATIONS_QUICK), bench.pick(DAYS, DAYS_QUICK)
    spec = FleetSpec(seed=1, start_ms=_START_MS, stations=stations, rate=stations * 2 / _PERIOD_S)
    parts: list[Readings] = []
    for burst in Fleet(spec).stream(_START_MS + days * 86_400_000, burst_ms=PAST_BURST_MS):
        parts.append(burst.readings)
    rows = np.concatenate(parts)
    columns: dict[str, Any] = {name: rows[name] for name in rows.dtype.names or () if name in READING_SCHEMA.names}
    for name, values in columns.items():
        if values.dtype.kind == "S":
            columns[name] = pa.array(values.astype(str)).cast(pa.string())
        elif values.dtype == np.int64:
            columns[name] = pa.array(values, mask=values == NULL)
    columns["session_id"] = pc.if_else(pc.equal(columns["session_id"], ""), None, columns["session_id"])
    return _readings(columns, len(rows))


def _readings(columns: dict[str, Any], rows: int) -> pa.Table:
    plain = {"status": 0, "session_event": 0}
    arrays = []
    for field in READING_SCHEMA:
        given = columns.get(field.name)
        if given is None:
            given = pa.nulls(rows, field.type) if field.name not in plain else pa.array(np.zeros(rows, np.int8))
        whole = given if isinstance(given, pa.ChunkedArray | pa.Array) else pa.array(given)
        arrays.append(whole.cast(field.type))
    return pa.table(arrays, schema=READING_SCHEMA)
