"""Where commands of billing write files."""

import os
from pathlib import Path

import pytest

from voltstream.cli.commands.billing_files import _file
from voltstream.errors import WrongUsage


def test_a_file_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "documents.csv"
    path.write_bytes(b"before")
    with _file(str(path)) as file:
        file.write(b"whole")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with _file(str(path)) as file:
            file.write(b"whole")
        assert os.read(reader, 100) == b"whole"
    finally:
        os.close(reader)
    assert path.is_fifo()


def test_a_link_stays_one_and_its_file_is_written(tmp_path: Path) -> None:
    path, link = tmp_path / "documents.csv", tmp_path / "link"
    path.write_bytes(b"before")
    link.symlink_to(path)
    with _file(str(link)) as file:
        file.write(b"whole")
    assert link.is_symlink()
    assert path.read_bytes() == b"whole"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="Is a directory"), _file(str(tmp_path)):
        pass
