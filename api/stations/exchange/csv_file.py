"""Stations as CSV: a line for each connector, its cells between commas, semicolons or tabs. Pure.

The facts of a station stand in its first line, and may be left empty in the next ones. A fact that is no text is JSON.
An empty cell is a fact that nobody gave. What has no column stays as it is; without the column connector_id all
connectors do. A line without a connector_id is of a station without connectors.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from api.stations.exchange.models import STATIONS_MAX, Wanted, check_id, upper_id
from api.stations.registry.models import CONNECTORS_MAX, ConnectorFacts, Station, StationDocument, StationFacts
from kit.spelling import did_you_mean
from kit.spreadsheets import as_text, text_of
from kit.validation import explain_error

STATION_COLUMNS: Final = tuple(StationFacts.model_fields)
CONNECTOR_COLUMNS: Final = tuple(ConnectorFacts.model_fields)
COLUMNS: Final = ("station_id", *STATION_COLUMNS, "connector_id", *CONNECTOR_COLUMNS)
LINES_MAX: Final = STATIONS_MAX * 10
_CELL_CHARS_MAX: Final = 256 * 1024  # the bays of the largest station
_SEPARATORS: Final = (",", ";", "\t")  # of which the first counts where none splits better
_BOOLEANS: Final = {"TRUE": True, "FALSE": False}  # as spreadsheets write them
_TEXTS: Final = {
    *("name", "address", "city", "postal_code", "country", "latitude", "longitude", "time_zone", "site", "group"),
    *("organisation", "parking_type", "standard", "format", "power_type", "evse_id"),
}
"""Columns whose cells are what they say; those of all others are JSON."""
_NUMBERS: Final = {"latitude", "longitude"}  # in such cells


class WrongFile(ValueError):
    """The file as a whole cannot be read; the message says why."""


def write(stations: Iterable[Station], *, header: bool = True) -> str:
    """The file, or a part of it."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for station in stations:
        writer.writerows(_lines(station))
    return output.getvalue()


def read(text: str, known: Mapping[str, Station]) -> list[Wanted]:
    """The stations of a file; facts whose column is not there are those of `known`. Raises WrongFile."""
    csv.field_size_limit(_CELL_CHARS_MAX)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        header = next(rows, None)
        columns = _checked_header(header)
        grouped: dict[str, list[tuple[int, dict[str, str]]]] = {}
        for row in rows:
            if not any(row):
                continue
            line = rows.line_num
            if line > LINES_MAX:
                raise WrongFile(f"the file has more than {LINES_MAX} lines: import it in parts")
            cells = dict(zip(columns, row, strict=False))
            if len(row) != len(columns):
                cells = {
                    "station_id": cells.get("station_id", ""),
                    "": f"has {len(row)} cells, and the header {len(columns)}",
                }
            grouped.setdefault(upper_id(text_of(cells["station_id"].strip())), []).append((line, cells))
    except csv.Error as error:
        raise WrongFile(f"line {rows.line_num} is no CSV: {error}") from None
    return [_wanted(name, lines, columns, known.get(name)) for name, lines in grouped.items()]


def station_ids(text: str) -> list[str]:
    """Those that the file may name, for a look at what is known of them. Raises WrongFile."""
    return [one.station_id for one in read(text, {})]


def _lines(station: Station) -> Iterator[list[str]]:
    facts = station.model_dump(mode="json")
    first = [_cell(name, facts[name]) for name in STATION_COLUMNS]
    connectors = facts["connectors"] or [None]
    for number, connector in enumerate(connectors):
        own = first if number == 0 else [""] * len(STATION_COLUMNS)
        plug = [""] * (1 + len(CONNECTOR_COLUMNS))
        if connector is not None:
            plug = [str(connector["connector_id"]), *(_cell(name, connector[name]) for name in CONNECTOR_COLUMNS)]
        yield [as_text(station.station_id), *own, *plug]


def _cell(name: str, value: Any) -> str:
    if value is None or value == []:
        return ""
    if name in _NUMBERS:
        return str(value)
    return as_text(str(value)) if name in _TEXTS else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _value(name: str, cell: str) -> Any:
    """Raises ValueError."""
    text = cell.strip()
    if name in _TEXTS:
        return text_of(text)
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: is no number and no JSON") from None


def _separator(text: str) -> str:
    """What splits the first line into most names of columns: spreadsheets of many countries write semicolons."""
    header = text.partition("\n")[0][:_CELL_CHARS_MAX]
    return max(_SEPARATORS, key=lambda one: sum(name.strip(' "\r') in COLUMNS for name in header.split(one)))


def _checked_header(header: Sequence[str] | None) -> list[str]:
    if not header:
        raise WrongFile(f"the file is empty: its first line has names of columns, of {', '.join(COLUMNS)}")
    columns = [name.strip() for name in header]
    for name in columns:
        if name not in COLUMNS:
            raise WrongFile(f"line 1: there is no column {name[:64]!r}{did_you_mean(name, set(COLUMNS))}")
    if len(set(columns)) < len(columns):
        raise WrongFile("line 1: a column is there twice; leave one out")
    if "station_id" not in columns:
        raise WrongFile("line 1: there is no column station_id, which every line needs")
    if "connector_id" not in columns and set(columns) & set(CONNECTOR_COLUMNS):
        raise WrongFile("line 1: facts of connectors need the column connector_id")
    return columns


def _wanted(
    station_id: str, lines: Sequence[tuple[int, dict[str, str]]], columns: Sequence[str], known: Station | None
) -> Wanted:
    line, first = lines[0]
    try:
        check_id("station_id", station_id)
        for number, cells in lines:
            if "" in cells:
                raise ValueError(f"line {number} {cells['']}")
        facts = _station(first, lines[1:], columns, known)
        connectors = _connectors(lines, columns, known) if "connector_id" in columns else None
        document = StationDocument.model_validate({**facts, "connectors": connectors})
    except ValidationError as error:
        return Wanted(line, station_id, None, _reason(error, lines))
    except ValueError as error:
        return Wanted(line, station_id, None, str(error))
    return Wanted(line, station_id, document)


def _reason(error: ValidationError, lines: Sequence[tuple[int, dict[str, str]]]) -> str:
    """Of the first error, with its line where it is of a connector."""
    one = error.errors()[0]
    place = one["loc"]
    says = explain_error(one, StationDocument)
    if place[:1] != ("connectors",) or len(place) == 1:
        return ": ".join(filter(None, ("/".join(map(str, place)), says)))
    field = "/".join(map(str, place[2:]))
    return ": ".join(filter(None, (f"line {lines[int(place[1])][0]}", field, says)))


def _station(
    first: Mapping[str, str],
    others: Sequence[tuple[int, dict[str, str]]],
    columns: Sequence[str],
    known: Station | None,
) -> dict[str, Any]:
    facts = {} if known is None else known.model_dump(include=set(STATION_COLUMNS) - set(columns))
    for name in STATION_COLUMNS:
        if name not in columns:
            continue
        for number, cells in others:
            if cells[name].strip() not in ("", first[name].strip()):
                raise ValueError(f"line {number}: {name} is another than in the station's first line; leave it empty")
        if first[name].strip():
            facts[name] = _value(name, first[name])
    return facts


def _connectors(
    lines: Sequence[tuple[int, dict[str, str]]], columns: Sequence[str], known: Station | None
) -> list[dict[str, Any]]:
    if len(lines) > CONNECTORS_MAX:
        raise ValueError(f"has {len(lines)} lines, and a station has at most {CONNECTORS_MAX} connectors")
    before = {one.connector_id: one for one in (known.connectors if known is not None else ())}
    found: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for number, cells in lines:
        given = {name: cells[name] for name in CONNECTOR_COLUMNS if name in columns and cells[name].strip()}
        if not cells["connector_id"].strip():
            if given or len(lines) > 1:
                raise ValueError(f"line {number}: connector_id is empty; write its number")
            return []
        connector_id = _value("connector_id", cells["connector_id"])
        seen = first.setdefault(str(connector_id), number)
        if seen != number:
            raise ValueError(f"line {number}: connector {str(connector_id)[:64]} is there already, in line {seen}")
        old = before.get(connector_id) if isinstance(connector_id, int) else None
        facts = {} if old is None else old.model_dump(include=set(CONNECTOR_COLUMNS) - set(columns))
        facts |= {name: _value(name, cell) for name, cell in given.items()}
        found.append({**facts, "connector_id": connector_id})
    return found
