"""`voltstream lake`, and what the doctor says of it, on a database that has a fleet's readings."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from schemas.settings import Retention
from tests.streams.lake_fleet import everything, fill, moved
from voltstream.cli.doctor_data_checks import _lake
from voltstream.cli.main import app

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def filled_url(database_url: str, seed: int) -> str:
    """A database with all tables, and the fleet's readings."""
    fill(database_url, seed)
    return database_url


def asked(url: str, lake: Path, *arguments: str) -> list[dict[str, Any]]:
    """The lines of JSON that `voltstream lake …` prints."""
    environment = {"VOLTSTREAM_DATABASE_URL": url, "VOLTSTREAM_LAKE_URL": str(lake), "VOLTSTREAM_LAKE_AFTER_DAYS": "7"}
    found = CliRunner().invoke(app, ["lake", *arguments, "--json"], env=environment, prog_name="voltstream")
    assert found.exit_code == 0, f"{found.output} {found.exception!r}"
    return [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]


def test_status_move_and_query_say_the_same(filled_url: str, tmp_path: Path) -> None:
    before = everything(filled_url, tmp_path)
    (empty,) = asked(filled_url, tmp_path, "status")
    assert (empty["files"], empty["readings"], empty["refused_before"]) == (0, 0, None)
    *files, done = asked(filled_url, tmp_path, "move")
    assert everything(filled_url, tmp_path) == before
    gone = moved(filled_url, tmp_path)
    assert sum(file["rows"] for file in files) == sum(one["rows"] for one in done["moves"]) == len(gone) > 0
    (status,) = asked(filled_url, tmp_path, "status")
    assert (status["files"], status["readings"], status["fault"]) == (len(files), len(gone), None)
    (counted,) = asked(filled_url, tmp_path, "query", "SELECT count(*) AS n, sum(energy_mwh) AS mwh FROM readings")
    assert counted == {"n": len(gone), "mwh": sum(row[5] for row in gone)}
    stations = asked(filled_url, tmp_path, "query", "SELECT DISTINCT station_id FROM readings ORDER BY 1")
    assert {"station_id": "P0-A"} in stations


def test_a_wrong_question_and_a_lake_that_is_not_set_are_one_line(filled_url: str, tmp_path: Path) -> None:
    environment = {"VOLTSTREAM_DATABASE_URL": filled_url}
    for arguments, lake, words in (
        (["query", "SELEC 1"], str(tmp_path), "DuckDB: Parser Error"),
        (["query", "SELECT * FROM read_csv('/etc/passwd')"], str(tmp_path), "DuckDB: "),
        (["move"], "", "set VOLTSTREAM_LAKE_URL"),
    ):
        found = CliRunner().invoke(app, ["lake", *arguments], env=environment | {"VOLTSTREAM_LAKE_URL": lake})
        assert found.exit_code != 0
        assert words in str(found.exception), arguments


def test_the_doctor_says_why_the_lake_was_not_asked(database_url: str, unused_port: int) -> None:
    empty = _lake(database_url, Retention())
    assert (empty.ok, empty.detail) == (True, "not asked: see the check of migrations")
    away = _lake(f"postgresql://u:hush@127.0.0.1:{unused_port}/d", Retention())
    assert not away.ok
    assert "does not answer" in away.detail
    assert "hush" not in away.detail


def test_the_doctor_says_how_the_lake_is(filled_url: str, tmp_path: Path) -> None:
    place = tmp_path / "lake"
    there = Retention(lake_url=str(place), lake_after_days=7)
    assert _lake(filled_url, Retention()).ok
    assert _lake(filled_url, there).ok
    place.write_text("not a folder")
    wrong = _lake(filled_url, there)
    assert (wrong.ok, "cannot" in wrong.detail) == (False, True)
    place.unlink()
    asked(filled_url, place, "move")
    assert _lake(filled_url, there).ok
    lost = _lake(filled_url, Retention())
    assert (lost.ok, "VOLTSTREAM_LAKE_URL" in lost.mend) == (False, True)
