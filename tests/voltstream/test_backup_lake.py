"""A lake's file that rots keeps its size: it comes into no backup, and is no reason to leave out a good copy."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.lake.folder import LakeFolder, LakeUnavailable
from streams.storage.ledger_check import FileOfLake, catalogue, check_file
from tests.private_servers import fresh_database
from tests.streams.lake_fleet import AFTER_DAYS, fill, move
from tests.voltstream.test_backup_urls import MANIFEST
from voltstream.backups.lake import copy_lake, put_lake
from voltstream.backups.manifest import LAKE, files_of
from voltstream.errors import BackupFailed, WrongUsage


def _nothing(_what: str, _done: int, _total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class FilledLake:
    """A folder with a fleet's old readings, and what the catalogue says of its files."""

    folder: Path
    files: list[FileOfLake]

    @property
    def opened(self) -> LakeFolder:
        return LakeFolder.at(str(self.folder))


@pytest.fixture(scope="module")
def lake(postgres_url: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[FilledLake]:
    folder = tmp_path_factory.mktemp("lake")
    with fresh_database(postgres_url) as url:
        fill(url, seed)
        move(url, folder, window_days=AFTER_DAYS)
        with psycopg.connect(url) as connection:
            yield FilledLake(folder, catalogue(connection))


def flip(path: Path, at: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[at % len(octets)] ^= 0x10
    path.write_bytes(octets)


def test_a_damaged_file_of_the_lake_is_named_and_comes_into_no_backup(lake: FilledLake, tmp_path: Path) -> None:
    copy_lake(lake.opened, lake.files, tmp_path / "whole", _nothing)
    assert sum(path.is_file() for path in (tmp_path / "whole").rglob("*")) == len(lake.files) > 2
    damaged = FilledLake(shutil.copytree(lake.folder, tmp_path / "damaged"), lake.files)
    victims = [file.path for file in lake.files[:2]]
    for victim in victims:
        flip(damaged.folder / victim, 40)
    with pytest.raises(BackupFailed, match="files that are damaged") as raised:
        copy_lake(damaged.opened, damaged.files, tmp_path / "copy", _nothing)
    assert [file.path for file in lake.files if file.path in str(raised.value)] == victims
    (damaged.folder / victims[0]).unlink()
    with pytest.raises(BackupFailed, match="`voltstream verify` says what else the lake lacks"):
        copy_lake(damaged.opened, damaged.files, tmp_path / "copy", _nothing)


@given(at=st.integers(0, 2**20))
def test_whatever_rots_in_a_file_is_said_or_costs_no_row(lake: FilledLake, at: int) -> None:
    file = lake.files[at % len(lake.files)]
    scratch = lake.folder.parent / "scratch"
    place = scratch / file.path
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(lake.folder / file.path, place)
    flip(place, at)
    try:
        check_file(LakeFolder.at(str(scratch)), file)  # compares every value of every row
    except (LakeUnavailable, ValueError) as error:
        assert file.path in str(error)  # noqa: PT017  # else no row was lost


def test_files_that_the_lake_has_otherwise_are_put_back_and_no_other(lake: FilledLake, tmp_path: Path) -> None:
    backup, target = tmp_path / "backup", tmp_path / "target"
    shutil.copytree(lake.folder, backup / LAKE)
    manifest = msgspec.structs.replace(MANIFEST, files=tuple(files_of(backup)))
    shutil.copytree(lake.folder, target)
    rotten, short, missing, *kept = [target / file.path for file in lake.files]
    flip(rotten, 40)
    short.write_bytes(short.read_bytes()[:-1])
    missing.unlink()
    before = {path: path.stat().st_ino for path in kept}
    put_lake(backup, manifest, LakeFolder.at(str(target)), _nothing)
    for file in lake.files:
        assert (target / file.path).read_bytes() == (lake.folder / file.path).read_bytes()
    assert {path: path.stat().st_ino for path in kept} == before
    assert not list((target / "tmp").iterdir())
    with pytest.raises(WrongUsage, match="set VOLTSTREAM_LAKE_URL"):
        put_lake(backup, manifest, None, _nothing)
