"""Hypothesis: documents as they can stand in the billing, by SQL, with anything in the texts that are not ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import psycopg
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from kit.clock import format_rfc3339
from tests.billing.exports.registry import CONNECTOR, STATION, Facts, Station

Row = dict[str, Any]
_NAMESPACE = UUID("44444444-4444-4444-8444-444444444444")
VERSIONS = [uuid5(_NAMESPACE, f"tariff {number}") for number in range(3)]
ELEMENTS = [{"price_components": [{"type": "ENERGY", "price": 0.3456, "step_size": 1}]}]
TARIFFS: tuple[Row, ...] = (
    {"currency": "EUR", "elements": ELEMENTS},
    {
        "id": 'odd "one"\\',
        "currency": "JPY",
        "elements": ELEMENTS,
        "tariff_alt_text": [{"language": "nl", "text": "dag\nen\u2028nacht"}],
        "start_date_time": "2025-12-31T23:00:00+01:00",
        "energy_mix": {"is_green_energy": False, "energy_sources": [{"source": "TIDES", "percentage": 100}]},
        "last_updated": "2026-01-01T00:00:00Z",
    },
    {
        "id": "",
        "currency": "KWD",
        "party_id": "ABC",
        "min_price": {"excl_vat": 1.250},
        "elements": ELEMENTS,
        "tariff_alt_url": "x\ty",
        "end_date_time": None,
        "energy_mix": {"is_green_energy": True, "supplier_name": "a\x7fb", "energy_product_name": None},
    },
)
ODD = (
    '"',
    "\\",
    "\\.",
    "",
    "#NA",
    "null",
    "\x01",
    "\x02",
    "a\x01\x01b",
    "\n",
    "\r\n",
    "\t",
    "\x1f",
    "\x7f",
    "\u2028",
    "🔌",
)
_texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
_long_texts = st.builds(lambda text, times: text * times, _texts, st.sampled_from([1, 60, 250]))
_stations = st.sampled_from(["NL-1", "NL-1", "NL-2", "A|1", "ü"]) | _texts.filter(bool)  # a station has a name
_micros = st.integers(-(10**15), 10**15) | st.sampled_from([0, 1, -1, 999_999, -1_000_000])
_moments = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # they are given one
_durations = st.integers(0, 400 * 86_400_000_000).map(lambda us: timedelta(microseconds=us))
_since_ms = st.sampled_from([-86_400_000, -1, 0, 0, 0, 1, 1_800_000]) | st.integers(-(10**6), 10**8)


@dataclass(frozen=True)
class Document:
    """One, with its CDR and lines, as rows."""

    cdr: Row
    invoice: Row
    lines: list[Row]


@st.composite
def documents(draw: st.DrawFn) -> list[Document]:
    """Some, of two years, in no order."""
    places = draw(st.lists(st.tuples(st.sampled_from([2025, 2026]), st.integers(1, 50)), max_size=8, unique=True))
    return [draw(_document(year, sequence)) for year, sequence in places]


@st.composite
def registries(draw: st.DrawFn) -> dict[str, Station]:
    """Stations, as a rule whole, with a fact missing here and there."""

    def some(facts: Facts) -> Facts:
        lost = draw(st.sets(st.sampled_from(sorted(facts)), max_size=1))
        if lost & {"latitude_udeg", "longitude_udeg"}:
            lost = {"latitude_udeg", "longitude_udeg"}
        return {name: None if name in lost else value for name, value in facts.items()}

    names = draw(st.sets(st.sampled_from(["NL-1", "NL-2", "A|1", "ü", *ODD])))
    bounds = {"latitude_udeg": 90 * 10**6, "longitude_udeg": 180 * 10**6}
    degrees = {axis: st.integers(-most, most) for axis, most in bounds.items()}
    return {
        name: Station(
            some({**STATION, **{axis: draw(one) for axis, one in degrees.items()}}),
            {
                number: some({**CONNECTOR, "evse_id": f"DE*MUL*E{'1' * draw(st.sampled_from([1, 31]))}"})
                for number in draw(st.sets(st.integers(0, 3)) | st.just({1, 2}))
            },
        )
        for name in names
    }


@st.composite
def _document(draw: st.DrawFn, year: int, sequence: int) -> Document:
    number = f"{year}-{sequence:07d}"
    id_, cdr_id, subject_id = (uuid5(_NAMESPACE, f"{kind} {number}") for kind in ("invoice", "cdr", "subject"))
    credit, reserved, started_at = draw(st.booleans()), draw(st.booleans()), draw(_moments)
    consumption = draw(st.lists(_used(started_at), max_size=6))
    station_id, currency = draw(_stations), draw(st.sampled_from(["EUR", "JPY", "KWD", "HUF"]))
    cdr = {
        "id": cdr_id,
        "kind": "reservation" if reserved else "session",
        "subject_id": subject_id,
        "version": 1,
        "current": True,
        "revision": 1,
        "status": "invoiced",
        "station_id": station_id,
        "connector_id": draw(st.sampled_from([None, 1, 1, 1, 2, 3, 2**31 - 1])),
        "started_at": started_at,
        "ended_at": started_at + draw(_durations),
        "end_reason": draw(st.sampled_from(["ended", "timeout"]) | _texts),
        "estimated": draw(st.booleans()),
        "energy_uj": draw(st.integers(0, 2**63 - 1) | st.integers(0, 10**14)),
        "readings": 1,
        "flagged": 0,
        "tariff_version": draw(st.none() | st.sampled_from(VERSIONS)),
        "consumption": Jsonb(consumption),
        "created_at": started_at,
    }
    invoice = {
        "id": id_,
        "kind": "credit_note" if credit else "invoice",
        "credits": id_ if credit else None,  # which it may well be: no other is needed
        "year": year,
        "sequence": sequence,
        "number": number,
        "cdr_id": cdr_id,
        "subject_id": subject_id,
        "session_id": None if reserved else subject_id,
        "reservation_id": draw(_texts) if reserved else None,
        "version": 1,
        "status": "settled" if credit else "open",
        "driver_id": draw(st.none() | _texts),
        "station_id": station_id,
        "currency": currency,
        "minor_digits": 2,
        "total_excl_micros": draw(_micros),
        "total_incl_micros": draw(_micros),
        "payable_excl_minor": 0,
        "payable_minor": 0,
        "rounding": "",
        "reason": draw(_long_texts),
        "issued_at": draw(_moments),
        "changed_at": started_at,
    }
    return Document(cdr, invoice, draw(_lines(id_, consumption, -1 if credit else 1)))


def _used(started_at: datetime) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(
        {
            "element": st.integers(0, 3),
            "dimension": st.sampled_from(["FLAT", "ENERGY", "TIME", "PARKING_TIME"]),
            "volume": st.integers(0, 10**10) | st.sampled_from([0, 1, 9, 18, 2**60]),
            "since": _since_ms.map(lambda ms: format_rfc3339(started_at + timedelta(milliseconds=ms))),
            "last": st.booleans(),
        }
    )


@st.composite
def _lines(draw: st.DrawFn, invoice_id: UUID, consumption: Sequence[Row], sign: int) -> list[Row]:
    """Those of components as they were consumed, then adjustments."""
    bounds = [{"dimension": name, "element": None, "volume": 1} for name in ("MIN_PRICE", "MAX_PRICE")]
    adjustments = draw(st.lists(st.sampled_from(bounds), max_size=2))
    return [
        {
            "invoice_id": invoice_id,
            "line": number,
            "dimension": of["dimension"],
            "element": of["element"],
            "volume": sign * of["volume"],
            "billed": sign * of["volume"],
            "excl_micros": draw(_micros),
            "incl_micros": draw(_micros),
        }
        for number, of in enumerate([*consumption, *adjustments], 1)
    ]


def store(url: str, stored: Sequence[Document]) -> None:
    """In place of whatever was there."""
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM billing.invoice_line")
        connection.execute("DELETE FROM billing.invoice")
        connection.execute("DELETE FROM billing.cdr")
        tariffs = [
            {"version": version, "tariff": Jsonb(tariff)} for version, tariff in zip(VERSIONS, TARIFFS, strict=True)
        ]
        _insert(connection, "tariff_version", tariffs)
        _insert(connection, "cdr", [one.cdr for one in stored])
        _insert(connection, "invoice", [one.invoice for one in stored])
        _insert(connection, "invoice_line", [line for one in stored for line in one.lines])


def _insert(connection: psycopg.Connection[tuple[Any, ...]], table: str, rows: Sequence[Row]) -> None:
    if rows:
        values = ", ".join(f"%({name})s" for name in rows[0])
        statement = f"INSERT INTO billing.{table} ({', '.join(rows[0])}) VALUES ({values}) ON CONFLICT DO NOTHING"
        with connection.cursor() as cursor:
            cursor.executemany(statement.encode(), rows)
