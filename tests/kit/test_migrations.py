"""Migrations, against a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kit.database.migrations import Migrations, migrate, status
from kit.database.postgres import connect_sync
from kit.errors import ConfigError, MigrationError
from tests.kit.conftest import ACCESS

_ACCESS = [f"access/{file.stem}" for file in sorted(ACCESS.folder.glob("*.sql"))]


@pytest.fixture
def source(tmp_path: Path) -> Migrations:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "0001.first.sql").write_text("CREATE SCHEMA shop; CREATE TABLE shop.item (id int); SELECT pg_sleep(0.2);")
    return Migrations("shop", folder)


def _tables(url: str) -> list[str]:
    with connect_sync(url, name="test") as connection:
        query = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY 1"
        return [row[0] for row in connection.execute(query).fetchall()]


def test_migrating_again_changes_nothing(database_url: str, source: Migrations) -> None:
    assert [step.applied for step in status(database_url, [ACCESS, source])] == [False] * len([*_ACCESS, source])
    assert migrate(database_url, [ACCESS, source]) == [*_ACCESS, "shop/0001.first"]
    assert migrate(database_url, [ACCESS, source]) == []
    assert [step.applied for step in status(database_url, [ACCESS, source])] == [True] * len([*_ACCESS, source])


def test_many_at_once_apply_each_migration_once(database_url: str, source: Migrations) -> None:
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(lambda _: migrate(database_url, [ACCESS, source]), range(4)))
    assert sorted(id_ for ids in applied for id_ in ids) == [*_ACCESS, "shop/0001.first"]


def test_a_failed_migration_leaves_nothing_and_can_be_mended(database_url: str, source: Migrations) -> None:
    second = source.folder / "0002.second.sql"
    second.write_text("CREATE TABLE shop.half (id int); SELECT no_such_column;")
    with pytest.raises(MigrationError, match="no_such_column"):
        migrate(database_url, [source])
    assert _tables(database_url) == ["item"]
    second.write_text("CREATE TABLE shop.whole (id int);")
    assert migrate(database_url, [source]) == ["shop/0002.second"]
    assert _tables(database_url) == ["item", "whole"]


def test_sql_reaches_the_server_as_it_is_written(database_url: str, source: Migrations) -> None:
    (source.folder / "0002.second.sql").write_text(
        """CREATE FUNCTION shop.rate(x int) RETURNS text LANGUAGE plpgsql AS $$
           BEGIN IF x > 0 THEN RETURN '50 % :of'; END IF; RETURN x::text; END $$;
           COMMENT ON SCHEMA shop IS 'half; done';"""
    )
    migrate(database_url, [source])
    with connect_sync(database_url, name="test") as connection:
        assert connection.execute("SELECT shop.rate(1)").fetchone() == ("50 % :of",)


def test_a_database_ahead_of_the_code_is_refused(database_url: str, source: Migrations) -> None:
    newer = source.folder / "0002.newer.sql"
    newer.write_text("CREATE TABLE shop.newer (id int);")
    migrate(database_url, [source])
    newer.unlink()
    for run in (migrate, status):
        with pytest.raises(MigrationError, match="ahead of this voltstream: it has migration 0002 of shop"):
            run(database_url, [source])


def test_a_migration_slipped_in_before_an_applied_one_is_refused(database_url: str, source: Migrations) -> None:
    first = source.folder / "0001.first.sql"
    first.rename(source.folder / "0002.first.sql")
    migrate(database_url, [source])
    (source.folder / "0001.late.sql").write_text("CREATE TABLE shop.late (id int);")
    with pytest.raises(MigrationError, match="Give it a number after"):
        migrate(database_url, [source])


@pytest.mark.parametrize("name", ["second.sql", "0001.twice.sql", "2.second.sql"])
def test_a_file_that_would_be_misread_is_refused_before_anything_runs(
    database_url: str, source: Migrations, name: str
) -> None:
    (source.folder / name).write_text("SELECT 1;")
    with pytest.raises(ConfigError, match=name):
        migrate(database_url, [source])
    assert _tables(database_url) == []


def test_an_empty_folder_is_a_mistake(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are none"):
        migrate(database_url, [Migrations("shop", tmp_path)])
