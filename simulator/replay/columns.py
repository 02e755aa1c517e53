"""What a file calls things, and what a reading calls them: columns renamed, put together, left out.

`power_w=h` (map) takes the column h for power_w. `station_id=BOLITE-{session_id[:4]}` (set) writes a text for every
row, in which `{column}` or `{column[from:to]}` stands for the row's value or a part of it. Every column of the file is
used, or named in `ignore`: nothing is left out by accident. An empty cell, null and NaN are "the device gave none".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from kit.clock import parse_rfc3339, to_ms
from kit.spelling import nearest_name
from schemas.reading import DETAIL_QUANTITIES, DETAIL_TEXTS, QUANTITIES
from simulator.errors import SourceError

WIRE_SCHEMA: Final = pa.schema(
    [
        ("station_id", pa.string()),
        ("connector_id", pa.int64()),
        ("session_id", pa.string()),
        ("boot", pa.int64()),
        ("seq", pa.int64()),
        ("ts", pa.int64()),  # Unix epoch, ms
        *((name, pa.float64()) for name in QUANTITIES),
        ("status", pa.string()),
        ("session_event", pa.string()),
        ("energy_export_wh", pa.float64()),
        *((name, pa.float64()) for name in DETAIL_QUANTITIES),
        *((name, pa.string()) for name in DETAIL_TEXTS),
    ]
)
REQUIRED: Final = ("station_id", "connector_id", "ts")
_NEAR: Final = 0.5  # ts_ms is near ts; h is near nothing
_HOLE: Final = re.compile(r"\{([^{}\[\]]+)(?:\[(-?\d*):(-?\d*)\])?\}")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a template: a text, or a column's value from character `start` to `stop`."""

    text: str = ""
    column: str | None = None
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """How the file's columns become a reading's fields. Its repr is the same for the same options in any order."""

    templates: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)  # by field
    ignored: tuple[str, ...] = ()

    @classmethod
    def parse(cls, maps: Iterable[str] = (), sets: Iterable[str] = (), ignore: Iterable[str] = ()) -> "Columns":
        """Read the options `--map field=column`, `--set field=template`, `--ignore column`. Raises SourceError."""
        templates: dict[str, tuple[Part, ...]] = {}
        for option, text in [("--map", text) for text in maps] + [("--set", text) for text in sets]:
            name, equals, value = text.partition("=")
            if not equals or not value:
                raise SourceError(
                    f"{option} {text}: write it as {option} field={'column' if option == '--map' else 'text'}"
                )
            if name not in WIRE_SCHEMA.names:
                raise SourceError(f"{option} {text}: a reading has no field {name}{_near(name, WIRE_SCHEMA.names)}")
            if name in templates:
                raise SourceError(f"{option} {text}: {name} is given twice")
            templates[name] = (Part(column=value),) if option == "--map" else _parse_template(text, value)
        return cls(dict(sorted(templates.items())), tuple(sorted(set(ignore))))

    def apply(self, table: pa.Table, first_row: int) -> pa.Table:
        """Rows of WIRE_SCHEMA. `first_row` is the number of the table's first row in its file, from 1, for messages.

        Raises SourceError for columns that are missing or left over and for cells of the wrong type.
        """
        self._check(table.column_names)
        columns = []
        for wire in WIRE_SCHEMA:
            if wire.name in self.templates:
                values = _fill(self.templates[wire.name], table)
            elif wire.name in table.column_names and wire.name not in self.ignored:
                values = table[wire.name]
            else:
                values = pa.nulls(table.num_rows, wire.type)
            columns.append(_cast(wire.name, values, wire.type, first_row))
        return pa.table(columns, schema=WIRE_SCHEMA)

    def _check(self, names: list[str]) -> None:
        used = {part.column for parts in self.templates.values() for part in parts if part.column is not None}
        for column in sorted(used.union(self.ignored)):
            if column not in names:
                raise SourceError(f"the file has no column {column}{_near(column, names)}; it has {', '.join(names)}")
        for column in names:
            if column in used or column in self.ignored:
                continue
            if column in self.templates:
                raise SourceError(f"{column} is in the file and is set too; add --ignore {column} to use what is set")
            if column not in WIRE_SCHEMA.names:
                free = [name for name in WIRE_SCHEMA.names if name not in names and name not in self.templates]
                raise SourceError(
                    f"the file's column {column} is no field of a reading{_near(column, free)}; "
                    f"say which it is (--map {nearest_name(column, free, _NEAR) or 'FIELD'}={column}) "
                    f"or leave it out (--ignore {column})"
                )
        for name in REQUIRED:
            if name not in self.templates and (name not in names or name in self.ignored):
                raise SourceError(
                    f"every reading needs {name}, the file has none: say which column it is (--map {name}=COLUMN) "
                    f"or what to write (--set {name}=TEXT, with {{column}} or {{column[:4]}} in it)"
                )


def _parse_template(option: str, text: str) -> tuple[Part, ...]:
    parts, at = [], 0
    for hole in _HOLE.finditer(text):
        parts.append(Part(text=text[at : hole.start()]))
        column, start, stop = hole.groups()
        parts.append(Part(column=column, start=int(start or 0), stop=int(stop) if stop else None))
        at = hole.end()
    parts.append(Part(text=text[at:]))
    for part in parts:
        if "{" in part.text or "}" in part.text:
            raise SourceError(f"--set {option}: write a column as {{column}} or {{column[0:4]}}")
    return tuple(part for part in parts if part.text or part.column is not None)


def _fill(parts: tuple[Part, ...], table: pa.Table) -> Any:
    """The template's value for every row; null where a column it uses is null."""
    if len(parts) == 1 and parts[0].column is not None and not parts[0].start and parts[0].stop is None:
        return table[parts[0].column]  # a column as it is keeps its type
    pieces = []
    for part in parts:
        if part.column is None:
            pieces.append(pa.repeat(part.text, table.num_rows))
        else:
            texts = pc.cast(table[part.column], pa.string())
            pieces.append(pc.utf8_slice_codeunits(texts, part.start, part.stop))
    return pc.binary_join_element_wise(*pieces, "") if len(pieces) > 1 else pieces[0]


def _cast(name: str, values: Any, target: pa.DataType, first_row: int) -> Any:
    if pa.types.is_string(values.type) and not pa.types.is_string(target):
        values = pc.utf8_trim_whitespace(values)
    if name == "ts" and pa.types.is_timestamp(values.type):
        if values.type.tz is None:
            raise SourceError("ts has no time zone: write it with one, or as epoch milliseconds")
        return pc.cast(pc.cast(values, pa.timestamp("ms", "UTC"), safe=False), pa.int64())
    try:
        cast = pc.cast(values, target)
    except pa.ArrowException:
        cells = [_cell(name, value, target, first_row + at) for at, value in enumerate(values.to_pylist())]
        return pa.array(cells, target)
    if not pa.types.is_floating(target):
        return cast
    infinite = pc.index(pc.is_inf(cast), value=True).as_py()
    if infinite >= 0:
        raise SourceError(f"row {first_row + infinite}: {name} is infinite; leave the cell empty where there is none")
    return pc.if_else(pc.is_nan(cast), None, cast)


def _cell(name: str, value: Any, target: pa.DataType, row: int) -> Any:
    """One cell alone, to find the one that is wrong, or to read an RFC 3339 moment."""
    try:
        if name == "ts" and isinstance(value, str) and not value.lstrip("-").isdigit():
            return to_ms(parse_rfc3339(value))
        return pa.scalar(value).cast(target).as_py()
    except (pa.ArrowException, ValueError) as error:
        raise SourceError(f"row {row}: {name} is {value!r}, which is no {_WORDS[target]}; {error}") from error


_WORDS: Final = {
    pa.int64(): "whole number (or, for ts, RFC 3339 moment)",
    pa.float64(): "number",
    pa.string(): "text",
}


def _near(name: str, names: Iterable[str]) -> str:
    near = nearest_name(name, list(names), _NEAR)
    return f" (did you mean {near}?)" if near else ""
