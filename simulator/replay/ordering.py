"""The order in which a file's rows are sent: the file's, or one disturbed for a test, the same for the same seed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simulator.errors import SourceError

SORT_ROWS_MAX: Final = 10_000_000  # ~1.5 GB in memory; larger files want a database's sort
_RESEND_ROWS: Final = 100  # without a shuffle, a re-sent row comes up to this many rows after itself


@dataclass(frozen=True, slots=True)
class Ordering:
    """How the order of sending differs from the file's."""

    sort: bool = False  # by ts, equal ones as in the file; needs the whole file in memory
    shuffle_s: float = 0.0  # rows whose ts are this near may change places
    resend_pct: float = 0.0  # of the rows are sent a second time, unchanged
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shuffle_s < 0 or not 0 <= self.resend_pct <= 100:
            raise ValueError("shuffle must not be negative, and resend is a percentage: 0 to 100")

    def apply(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The rows (of WIRE_SCHEMA) in the order of sending. Rows move within their table only, unless sorted."""
        for number, table in enumerate(self._sorted(tables) if self.sort else tables):
            rng = np.random.default_rng([self.seed, number])
            order = self._order(table, rng) if self.shuffle_s or self.resend_pct else None
            yield table if order is None else table.take(order)

    def _order(self, table: pa.Table, rng: np.random.Generator) -> NDArray[np.int64]:
        count = table.num_rows
        rows = np.arange(count)
        again = rows[rng.random(count) * 100 < self.resend_pct]
        if not self.shuffle_s:
            places = np.concatenate([rows, again + rng.uniform(0, _RESEND_ROWS, len(again))])
            both = np.concatenate([rows, again])
            return both[np.argsort(places, kind="stable")]
        window_ms = self.shuffle_s * 1_000
        ts_ms = pc.fill_null(table["ts"], 0).to_numpy()
        # Where the file goes back in time by more than the window, another station's readings begin: not mixed.
        part = np.concatenate([[0], np.cumsum(np.diff(ts_ms) < -window_ms)]) if count else rows
        both = np.concatenate([rows, again])
        moved_ms = ts_ms[both] + rng.uniform(0, window_ms, len(both))
        return both[np.lexsort((moved_ms, part[both]))]

    def _sorted(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        pending, count, rows_each = [], 0, 0
        for table in tables:
            pending.append(table)
            count += table.num_rows
            rows_each = max(rows_each, table.num_rows)
            if count > SORT_ROWS_MAX:
                raise SourceError(f"sorting keeps the file in memory, {SORT_ROWS_MAX} rows at most; sort it beforehand")
        if pending:
            whole = pa.concat_tables(pending)
            order = np.argsort(pc.fill_null(whole["ts"], 0).to_numpy(), kind="stable")
            for at in range(0, count, rows_each):
                yield whole.take(order[at : at + rows_each])
