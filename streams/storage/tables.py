"""The tables that a commit writes: their columns, and the SQL that follows from them.

Effects name columns with their unit (`ts_ms`), tables by their type (`ts timestamptz`); the names differ in that only.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.effects import READING_COLUMNS, REVISED_COLUMNS, SESSION_COLUMNS, WINDOW_COLUMNS, Columns

SqlType = Literal["int2", "int4", "int8", "timestamptz", "uuid", "text"]

# Raw readings and windows are stored in pieces of seven days. By arithmetic: the largest fleet one server is meant for
# (10,000 connectors, a reading each 10 s) fills a piece with 600 M rows, 70 GB, which can still be dropped, vacuumed
# and summarised one at a time; a fleet of 100 fills it with 6 M. And the five years that a back-fill may span are 262
# pieces, few enough for planning and locking (a commit to all takes ~1,000 of 6,400 locks); days would be 1,830.
WEEK_MS: Final = 7 * 86_400_000

_INTEGERS: Final[dict[type[object], SqlType]] = {np.int16: "int2", np.int32: "int4", np.int64: "int8"}


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column: `source` in the effects, `name` in the table."""

    source: str
    name: str
    type: SqlType
    nullable: bool
    default: int | None = None  # the table's, for rows that are sent without the column; None: null

    def is_default(self, values: NDArray[np.generic]) -> bool:
        """Whether a row that is sent without the column has the same, in every row of these (at least one)."""
        if self.default is None and not self.nullable:
            return False
        value: object = self.default
        if value is None:
            value = b"" if self.type == "text" else np.iinfo(values.dtype.type).min  # type: ignore[type-var]  # integers
        return bool(values[-1] == value) and bool((values == value).all())


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table and the columns that a commit writes."""

    name: str
    fields: tuple[StoredColumn, ...]

    @property
    def columns(self) -> str:
        """The names of the columns, for SQL."""
        return ", ".join(field.name for field in self.fields)

    @property
    def given(self) -> str:
        """SQL: rows given as parameters, a binary array a column.

        Compared with a temporary table filled by COPY this saves two round trips, and the server the time to write,
        read and empty it: a third of what merging a window costs.
        """
        return f"unnest({', '.join(f'%b::{field.type}[]' for field in self.fields)}) AS given ({self.columns})"

    def without_defaults(self, columns: Columns) -> "StoredTable":
        """Without the columns of which every row has what it has if they are not sent: sending one costs 20 ns a row.

        `columns` by `StoredColumn.source`: integers and texts, at least one row.
        """
        return StoredTable(self.name, tuple(f for f in self.fields if not f.is_default(columns[f.source])))

    def copy_into(self, target: str) -> bytes:
        """SQL: binary COPY of all fields into `target`."""
        return f"COPY {target} ({self.columns}) FROM STDIN (FORMAT binary)".encode()


def field_of(
    source: str, dtype: type[object], nullable: bool, *, moment: str, default: int | None = None
) -> StoredColumn:
    """The column of integers of these effects. `moment` replaces a trailing `_ms` where it is a moment."""
    if not source.endswith("_ms"):
        return StoredColumn(source, source, _INTEGERS[dtype], nullable, default)
    return StoredColumn(source, source.removesuffix("_ms") + moment, "timestamptz", nullable)


_READING_NULLABLE: Final = {"session_key", "boot", "seq", "energy_mwh", "power_mw", "voltage_mv", "current_ma",
                            "temperature_mc", "soc_mpct", "in_session_mwh", "outside_mwh", "rejected_mwh",
                            "energy_export_mwh"}  # fmt: skip
_READING_DEFAULTS: Final = {"session_event": 0, "flags": 0, "part": 0, "named": 1}
READING: Final = StoredTable(
    "telemetry.reading",
    (
        *(
            field_of(name, dtype, name in _READING_NULLABLE, moment="", default=_READING_DEFAULTS.get(name))
            for name, dtype in READING_COLUMNS.items()
        ),
        StoredColumn("extra", "extra", "text", nullable=True),
    ),
)
REVISED: Final = StoredTable(
    "telemetry.reading",
    (
        *(field_of(name, dtype, name in _READING_NULLABLE, moment="") for name, dtype in REVISED_COLUMNS.items()),
        StoredColumn("extra", "extra", "text", nullable=True),
    ),
)

_WINDOW_KEY: Final = ("connector_key", "bucket")
_COUNTS: Final = {"readings", "flagged", "energy_n"}
_REGISTER: Final = re.compile(r"(energy|energy_export)_(first|last)_(ts|mwh)")
WINDOW: Final = StoredTable(
    "telemetry.window_1m",
    tuple(
        field_of(
            name,
            dtype,
            name.endswith(("_min", "_max")) or _REGISTER.match(name) is not None,
            moment="",
            default=0 if name.endswith(("_n", "_sum")) else None,
        )
        for name, dtype in WINDOW_COLUMNS.items()
    ),
)
# What is not sent and merged costs nothing: groups of columns that are sent if one of the rows has any of them. Few
# groups, because the server prepares a statement for each choice of them that it gets.
_GROUPS: Final = (("temperature_mc_",), ("soc_mpct_",), ("outside_mwh_", "rejected_mwh_"), ("energy_export_",))

_SESSION_NULLABLE: Final = {"ended_ms", "register_first_mwh", "register_last_mwh", "tariff_key", "register_before_mwh",
                            "register_before_ms", "series_mwh", "register_after_mwh", "register_after_ms"}  # fmt: skip
SESSION: Final = StoredTable(
    "telemetry.session",
    (
        *(
            field_of(name, dtype, name in _SESSION_NULLABLE or name.startswith("cost_"), moment="_at")
            for name, dtype in SESSION_COLUMNS.items()
        ),
        StoredColumn("id", "id", "uuid", nullable=False),
        StoredColumn("session_id", "session_id", "text", nullable=True),
        StoredColumn("tariff_version", "tariff_version", "uuid", nullable=True),
        StoredColumn("currency", "currency", "text", nullable=True),
        StoredColumn("consumption", "consumption", "text", nullable=True),
    ),
)


class WindowMerge(NamedTuple):
    """A statement that adds rows to the stored windows, and the columns of the rows."""

    table: StoredTable
    statement: bytes


def merge_windows(windows: Columns) -> WindowMerge:
    """SQL: add the given rows, at least one, to the stored ones, as effects.WINDOW_COLUMNS defines.

    Without the groups of columns of which no row has any.
    """
    absent = [
        group
        for group in _GROUPS
        if all(field.is_default(windows[field.source]) for field in WINDOW.fields if field.name.startswith(group))
    ]
    return _merge_without(*absent)


@lru_cache(maxsize=1 << len(_GROUPS))
def _merge_without(*groups: tuple[str, ...]) -> WindowMerge:
    absent = sum(groups, ())
    table = StoredTable(WINDOW.name, tuple(field for field in WINDOW.fields if not field.name.startswith(absent)))
    names = [field.name for field in table.fields if field.name not in _WINDOW_KEY]
    changes = ", ".join(["revision = w.revision + 1", *(f"{name} = {_merged(name)}" for name in names)])
    statement = (
        f"INSERT INTO {table.name} AS w ({table.columns}) SELECT {table.columns} FROM {table.given} "  # noqa: S608  # our own names
        f"ON CONFLICT ({', '.join(_WINDOW_KEY)}) DO UPDATE SET {changes}"
    )
    return WindowMerge(table, statement.encode())


def _merged(name: str) -> str:
    if name in _COUNTS or name.endswith(("_n", "_sum")):
        return f"w.{name} + excluded.{name}"
    if name == "first_ts" or name.endswith("_min"):
        return f"least(w.{name}, excluded.{name})"
    if name == "last_ts" or name.endswith("_max"):
        return f"greatest(w.{name}, excluded.{name})"
    # The register at one end: the earlier (later) moment wins, of equal moments the smaller (larger) register.
    place, end = _end(name)
    mine, other = (f"{row}.{place}_ts, {row}.{place}_mwh" for row in ("w", "excluded"))
    before = "<" if end == "first" else ">"
    return f"CASE WHEN w.{place}_ts IS NULL OR ({other}) {before} ({mine}) THEN excluded.{name} ELSE w.{name} END"


def _end(name: str) -> tuple[str, str]:
    """Of a column of a register: what moment and value have in common, and which end of the window it is of."""
    found = _REGISTER.fullmatch(name)
    if found is None:
        raise ValueError(name)
    return f"{found[1]}_{found[2]}", found[2]


def merge_sessions() -> bytes:
    """SQL: the given rows replace the stored ones."""
    names = [field.name for field in SESSION.fields if field.name not in ("session_key", "id")]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    return (
        f"INSERT INTO telemetry.session AS s ({SESSION.columns}) SELECT {SESSION.columns} FROM {SESSION.given} "  # noqa: S608  # our own names
        f"ON CONFLICT (session_key) DO UPDATE SET {changes}"
    ).encode()


COARSE: Final = {"window_15m": "15 minutes", "window_1h": "1 hour", "window_1d": "1 day"}


def kept_of(name: str) -> str:
    """The table of a coarse window's rows whose minutes were dropped."""
    return f"telemetry.{name}_kept"


def select_coarse(width: str, *, timescale: bool, where: str = "", kept: str = "") -> str:
    """SQL: windows of `width` (UTC) merged from those of a minute; columns and types as window_1m, but for revision.

    `where` chooses among the minutes; `kept`: a table whose rows count as minutes. Sums are bigint again; TimescaleDB
    requires its own time_bucket, and has first() and last() with partial states.
    """
    bucket = f"time_bucket('{width}', bucket)" if timescale else f"date_bin('{width}', bucket, 'epoch')"
    fields = [field for field in WINDOW.fields if field.name not in _WINDOW_KEY]
    lines = [f"{_coarse(field, timescale)} AS {field.name}" for field in fields]
    source = f"telemetry.window_1m {where}"
    if kept:
        columns = f"SELECT {WINDOW.columns} FROM"
        source = f"({columns} {source} UNION ALL {columns} {kept} {where}) AS w"
    return (
        f"SELECT connector_key, {bucket} AS bucket,\n    "
        + ",\n    ".join(lines)
        + f"\nFROM {source}\nGROUP BY connector_key, 2"
    )


def _coarse(field: StoredColumn, timescale: bool) -> str:
    name = field.name
    if name in _COUNTS or name.endswith(("_n", "_sum")):
        return f"sum({name})::{field.type}"
    if name.endswith(("first_ts", "_min")):
        return f"min({name})"
    if name.endswith(("last_ts", "_max")):
        return f"max({name})"
    place, end = _end(name)
    if timescale:
        return f"{end}({name}, {place}_ts)"
    order = "" if end == "first" else " DESC"
    return f"(array_agg({name} ORDER BY {place}_ts{order}) FILTER (WHERE {place}_ts IS NOT NULL))[1]"
