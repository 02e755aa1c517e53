"""The folder of a lake, on a file system or in an object store: files are written under a temporary name, and put in
their place by a rename when they are known to be whole. Nothing is ever changed in place.

Every method blocks and raises LakeUnavailable where the store does not answer, refuses or is full.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs

from kit.errors import Unavailable
from kit.secrets.urls import check_url, without_secrets, wrong_url

TEMPORARY: Final = "tmp"  # the folder of files that are being written


class LakeUnavailable(Unavailable):
    """The lake's store does not answer, refuses, or has no space. Nothing is lost by trying again."""


class LakeFolder:
    """Files by their path below the lake's URL, with `/` between folders."""

    def __init__(self, files: fs.FileSystem, root: str, url: str = "") -> None:
        """`url`: for secrets in it, which the store's errors shall not have."""
        self.files = files
        self._url = url
        self._root = root.rstrip("/")

    @classmethod
    def at(cls, url: str) -> "LakeFolder":
        """The folder at a path, or at a URL that pyarrow.fs knows (file, s3, gs, abfs, hdfs). Raises ConfigError."""
        place = url if "://" in url else Path(url).absolute().as_posix()
        try:
            check_url(url)
            files, root = fs.FileSystem.from_uri(place)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = f"{error}; write a folder, or a URL such as s3://bucket/folder"
            raise wrong_url(url, reason, "VOLTSTREAM_LAKE_URL") from None
        return cls(files, root, url)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.files, fs.LocalFileSystem)

    def place_of(self, path: str) -> str:
        """The path as the file system has it."""
        return f"{self._root}/{path}"

    @contextmanager
    def write(self, path: str) -> Iterator[Any]:
        """A stream of the new file, which is durable after the block; after an error it may be there in part."""
        place = self.place_of(path)
        with self._unavailable(f"write {path}"):
            self.files.create_dir(place.rpartition("/")[0], recursive=True)
            with self.files.open_output_stream(place) as stream:
                yield stream
            self._sync(place)

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        """A file for reading at any place."""
        with self._unavailable(f"read {path}"), self.files.open_input_file(self.place_of(path)) as file:
            yield file

    def size(self, path: str) -> int:
        """Bytes of a file."""
        with self._unavailable(f"look at {path}"):
            info = self.files.get_file_info(self.place_of(path))
            if info.type is not fs.FileType.File:
                raise LakeUnavailable(f"the lake has no file {path}")
            return int(info.size)

    def rename(self, path: str, to: str) -> None:
        """Give a file its place. Where one is there already, it is replaced."""
        place = self.place_of(to)
        with self._unavailable(f"rename {path} to {to}"):
            self.files.create_dir(place.rpartition("/")[0], recursive=True)
            self.files.move(self.place_of(path), place)
            self._sync(place.rpartition("/")[0])

    def remove(self, path: str) -> None:
        """Remove a file; it may be gone already."""
        with self._unavailable(f"remove {path}"):
            if self.files.get_file_info(self.place_of(path)).type is fs.FileType.File:
                self.files.delete_file(self.place_of(path))

    def paths(self, folder: str) -> list[str]:
        """All files below a folder, which need not be there."""
        selector = fs.FileSelector(self.place_of(folder), allow_not_found=True, recursive=True)
        with self._unavailable(f"list {folder}"):
            found = self.files.get_file_info(selector)
        return sorted(one.path[len(self._root) + 1 :] for one in found if one.type is fs.FileType.File)

    def check(self) -> None:
        """Look at the folder."""
        with self._unavailable("look at the folder"):
            self.files.get_file_info(self._root)
            if self.is_local:
                there = next(path for path in (Path(self._root), *Path(self._root).parents) if path.exists())
                if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
                    raise LakeUnavailable(f"the lake's folder {there} cannot be written to")

    def _sync(self, place: str) -> None:
        """A kill leaves what was written; a power cut, only what was synced."""
        if self.is_local:
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    @contextmanager
    def _unavailable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise LakeUnavailable(f"the lake cannot {what}: {without_secrets(error, self._url)}") from error
