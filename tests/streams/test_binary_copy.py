"""The binary encoding: what goes in is what PostgreSQL reads."""

from typing import Any

import numpy as np
import psycopg
import pytest

from streams.effects import NULL_I64, READING_COLUMNS
from streams.storage.binary_copy import BinaryArray, BinaryArrayDumper, encode, encode_arrays
from streams.storage.tables import READING, SESSION, WINDOW, StoredTable
from tests.streams.frames_and_effects import T0_MS, columns, plain, random_readings, sessions, windows_of


def through_postgres(url: str, table: StoredTable, values: dict[str, Any]) -> list[list[Any]]:
    """By columns, moments as ms: what COPY stores, which is what arrays say."""
    shown = [
        f"(extract(epoch FROM {f.name}) * 1000)::bigint" if f.type == "timestamptz" else f.name for f in table.fields
    ]
    with psycopg.connect(url) as connection:
        fields = ", ".join(f"{field.name} {field.type}" for field in table.fields)
        connection.execute(f"CREATE TEMP TABLE copied ({fields})".encode())
        with connection.cursor() as cursor, cursor.copy(table.copy_into("copied")) as copy:
            for chunk in encode(table, values):
                copy.write(chunk)
        rows = connection.execute(f"SELECT {', '.join(shown)} FROM copied".encode()).fetchall()
        connection.adapters.register_dumper(BinaryArray, BinaryArrayDumper)
        given = f"SELECT {', '.join(shown)} FROM {table.given}".encode()
        assert connection.execute(given, encode_arrays(table, values)).fetchall() == rows
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("rows", [1, 40_000])
def test_readings_arrive_as_they_are(postgres_url: str, seed: int, rows: int) -> None:
    readings = random_readings(np.random.default_rng(seed), [1, 7, 9], rows)
    for name in ("status", "session_event", "flags"):
        readings[name] = np.abs(readings[name])
    readings["boot"][:] = NULL_I64  # null in every row, here and in the first chunk alone
    readings["soc_mpct"][:4_096] = np.iinfo(np.int32).min
    extra = np.array([[b"", '{"fehler":"ü"}'.encode(), b"{}"][n % 3] for n in range(rows)], np.object_)
    extra[:4_096] = b""
    found = through_postgres(postgres_url, READING, readings | {"extra": extra})
    assert found[:-1] == [plain(readings[field.source]) for field in READING.fields[:-1]]
    assert found[-1] == [text.decode() or None for text in extra]


def test_windows_arrive_as_they_are(postgres_url: str, seed: int) -> None:
    windows = windows_of(random_readings(np.random.default_rng(seed), [1, 7, 9], 300))
    assert through_postgres(postgres_url, WINDOW, windows) == [plain(windows[f.source]) for f in WINDOW.fields]


def test_texts_of_any_length_and_ids_arrive_as_they_are(postgres_url: str) -> None:
    names = ["tx", None, "Ladesäule " * 20, "x"]
    values = sessions([1, 2, 3, 4], 5) | {
        "id": np.frombuffer(bytes(range(64)), "V16"),
        "session_id": np.array([(name or "").encode() for name in names]),
        "tariff_version": np.frombuffer(bytes(16) + bytes(range(48)), "V16"),
        "currency": np.array([b"", b"EUR", b"JPY", b""]),
        "consumption": np.zeros(4, "S1"),
    }
    found = dict(zip((f.name for f in SESSION.fields), through_postgres(postgres_url, SESSION, values), strict=True))
    assert found["session_id"] == names
    assert [uuid.bytes for uuid in found["id"]] == [bytes(range(at, at + 16)) for at in range(0, 64, 16)]
    versions = [None, *(bytes(range(at, at + 16)) for at in range(0, 48, 16))]
    assert [uuid and uuid.bytes for uuid in found["tariff_version"]] == versions
    assert (found["currency"], found["consumption"]) == ([None, "EUR", "JPY", None], [None] * 4)
    assert found["ended_at"] == [None] * 4
    assert found["started_at"] == [T0_MS] * 4


def test_the_ends_of_what_a_column_holds_arrive(postgres_url: str) -> None:
    readings = columns(READING_COLUMNS, 2)
    for name in READING_COLUMNS:
        limits = np.iinfo(readings[name].dtype.type)  # type: ignore[type-var]  # all are integers
        readings[name][:] = [limits.min + 1, limits.max]
    readings["ts_ms"][:] = [-62_135_596_800_000, 8_640_000_000_000_000]
    found = through_postgres(postgres_url, READING, readings | {"extra": np.zeros(2, "S1")})
    assert found == [*(plain(readings[field.source]) for field in READING.fields[:-1]), [None, None]]


@pytest.mark.parametrize("ts_ms", [8_640_000_000_000_001, np.iinfo(np.int64).max, NULL_I64])
def test_a_moment_that_cannot_be_stored_is_refused_and_never_another_one(ts_ms: int) -> None:
    readings = columns(READING_COLUMNS, 1)
    readings["ts_ms"][:] = ts_ms
    with pytest.raises(ValueError, match="moment"):
        list(encode(READING, readings | {"extra": np.zeros(1, "S1")}))
