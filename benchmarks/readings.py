"""Generates readings of a charging fleet as frames: unique, in order, one row per connector and second.

A row has session, register, power, voltage, current and SoC, as AC chargers send them.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from schemas.frame import FrameHeader, FrameKind, encode_frame
from schemas.reading import OPTIONAL_FIELDS, PLAIN_READING_SCHEMA, READING_SCHEMA, Status

FRAME_READINGS = 1_000
START_MS = 1_790_000_000_000
Frame = tuple[FrameHeader, pa.RecordBatch]


class FrameGenerator:
    """Generates consecutive frames of the connectors of one partition."""

    def __init__(
        self,
        connectors: int,
        partition: int = 0,
        source: str = "00000000000bench",
        *,
        prefix: str = "CS",
        start_ms: int = START_MS,
        frame_readings: int = FRAME_READINGS,
    ) -> None:
        """`start_ms`: event time of the first second; recent for a running worker, or sessions would time out."""
        self.frame_readings = frame_readings
        self.connectors, self.partition, self.source = connectors, partition, source
        self._station = pa.array([f"{prefix}-{partition}-{n:05d}" for n in range(connectors)])
        self._session = pa.array([f"S-{partition}-{n:06d}" for n in range(connectors)])
        self._second = 0
        self._start_ms = start_ms
        self._number = 0
        self._sent = 0

    def table(self, rounds: int) -> pa.Table:
        """The next `rounds` seconds of all connectors, `connectors` x `rounds` rows."""
        rows = self.connectors * rounds
        connector = pa.array(np.tile(np.arange(self.connectors), rounds))
        second = np.repeat(np.arange(self._second, self._second + rounds), self.connectors)
        self._second += rounds
        columns = {
            "station_id": self._station.take(connector),
            "connector_id": np.ones(rows, np.int16),
            "session_id": self._session.take(connector),
            "boot": pa.nulls(rows, pa.int64()),
            "seq": second,
            "ts_ms": self._start_ms + second * 1_000,
            "energy_mwh": second * 3_055,  # 11 kW
            "power_mw": np.full(rows, 11_000_000),
            "voltage_mv": np.full(rows, 230_000, np.int32),
            "current_ma": np.full(rows, 16_000, np.int32),
            "temperature_mc": pa.nulls(rows, pa.int32()),
            "soc_mpct": np.full(rows, 50_000, np.int32),
            "status": np.full(rows, Status.CHARGING, np.int8),
            "session_event": np.zeros(rows, np.int8),
            "energy_export_mwh": pa.nulls(rows, pa.int64()),
            "extra": pa.nulls(rows, pa.string()),
        }
        optional = {field.name: pa.nulls(rows, field.type) for field in OPTIONAL_FIELDS}
        arrays = [pa.array((columns | optional)[f.name], f.type) for f in READING_SCHEMA]
        return pa.table(arrays, schema=READING_SCHEMA)

    def frames(self, rounds: int, second: int | None = None) -> list[Frame]:
        """The same in frames of `frame_readings`, from `second` on if that is later than the next one."""
        self._second = max(self._second, second or 0)
        frames = []
        for batch in self.table(rounds).combine_chunks().to_batches(max_chunksize=self.frame_readings):
            self._sent += batch.num_rows
            received_ms = int(batch.column("ts_ms")[0].as_py())
            header = FrameHeader(
                FrameKind.READINGS, self.partition, self.source, self._number, batch.num_rows, self._sent, received_ms
            )
            frames.append((header, batch))
            self._number += 1
        return frames

    def encoded(self, rounds: int) -> Iterator[bytes]:
        """The readings of `frames`, as the gateway encodes them: without the columns that are optional."""
        plain = PLAIN_READING_SCHEMA.names
        return (encode_frame(header, batch.select(plain)) for header, batch in self.frames(rounds))
