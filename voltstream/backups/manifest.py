"""What a backup is of: a folder of files. `manifest.json` is written last and says what every other file has.

manifest.json   this
database/       pg_dump's directory format
lake/           the lake's files by their path, where it is a folder of that machine
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal

import msgspec

from voltstream.errors import BackupFailed

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DATABASE: Final = "database"
LAKE: Final = "lake"
_READ_BYTES: Final = 1 << 20
_DIGEST: Final = "digest"
_LISTED_MAX: Final = 5


class BackupFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file by its path below the backup's folder."""

    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a restore has to know before it begins. Fields are only ever added, with a default."""

    format: int
    taken_at: datetime  # everything that was committed by then is in it, and nothing later
    voltstream: str  # version
    server_major: int  # of PostgreSQL
    tool_major: int  # of pg_dump
    timescaledb: str | None
    encoding: str
    collate: str
    ctype: str
    partitions: int
    roles: tuple[str, ...]  # that have rights in the database
    migrations: dict[str, str]  # the last one applied, by source
    rows: dict[str, int]  # by table
    offsets: dict[int, int]  # of the log, by partition: from there on its records are not in the backup
    lake: Literal["none", "included", "elsewhere"]  # elsewhere: its files are not in the backup
    lake_files: int
    lake_bytes: int
    files: tuple[BackupFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, with a digest of itself."""
    document = msgspec.to_builtins(manifest, str_keys=True)
    text = msgspec.json.format(msgspec.json.encode({**document, _DIGEST: _digest(document)}), indent=2)
    (folder / MANIFEST).write_bytes(text + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup. Raises BackupFailed."""
    path = folder / MANIFEST
    try:
        document = msgspec.json.decode(path.read_bytes())
        if not isinstance(document, dict):
            raise TypeError("no object")
        digest = document.pop(_DIGEST, None)
        form = document.get("format")
        if isinstance(form, int) and form > FORMAT:
            raise BackupFailed(
                f"{path}: the backup has format {form}, this version reads up to {FORMAT}: "
                f"restore it with voltstream {document.get('voltstream')} or newer"
            )
        if digest != _digest(document):
            raise BackupFailed(f"{path}: its digest is not of what it says: it was changed or damaged")
        manifest = msgspec.convert(document, Manifest, strict=False)
        if outside := [repr(file.path) for file in manifest.files if not _is_below(file.path)]:
            raise BackupFailed(f"{path}: names files that are not of the backup: {listed(outside)}")
        return manifest
    except FileNotFoundError:
        raise BackupFailed(
            f"{folder}: no backup is there, or one that was not finished ({MANIFEST} is missing)"
        ) from None
    except OSError as error:
        raise BackupFailed(f"{path}: cannot be read ({error.strerror})") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise BackupFailed(f"{path}: is damaged ({error})") from None


def _is_below(path: str) -> bool:
    """Whether it is written as `files_of` writes a file below the database's folder or the lake's."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and ".." not in parts and "\0" not in path
    return plain and len(parts) > 1 and parts[0] in (DATABASE, LAKE)


def _digest(document: dict[str, object]) -> str:
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def files_of(folder: Path, progress: Callable[[int], None] = lambda _: None) -> Iterator[BackupFile]:
    """Every file below the folder, but for the manifest. `progress` takes bytes read."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path != folder / MANIFEST:
            yield BackupFile(path.relative_to(folder).as_posix(), path.stat().st_size, _sha256(path, progress))


def check_files(folder: Path, manifest: Manifest, progress: Callable[[int], None] = lambda _: None) -> None:
    """Read everything. Raises BackupFailed, which names the files that are missing or not as they were written."""
    faults = []
    for file in manifest.files:
        path = folder / file.path
        try:
            size = path.stat().st_size
            if size != file.bytes:
                faults.append(f"{file.path} has {size:,} bytes instead of {file.bytes:,}")
            elif _sha256(path, progress) != file.sha256:
                faults.append(f"{file.path} is not as it was written")
        except FileNotFoundError:
            faults.append(f"{file.path} is missing")
        except OSError as error:
            faults.append(f"{file.path} cannot be read ({error.strerror})")
    if faults:
        raise BackupFailed(f"{folder}: the backup is damaged: {listed(faults)}. Take another one")


def listed(faults: list[str]) -> str:
    """The first ones, and how many more there are."""
    more = len(faults) - _LISTED_MAX
    return "; ".join(faults[:_LISTED_MAX]) + (f"; and {more:,} more" if more > 0 else "")


def _sha256(path: Path, progress: Callable[[int], None]) -> str:
    with path.open("rb") as file:
        return sha256_of(file, progress)


def sha256_of(file: BinaryIO, progress: Callable[[int], None] = lambda _: None) -> str:
    """Of an open file's bytes, to its end. `progress` takes bytes read."""
    found = hashlib.sha256()
    while part := file.read(_READ_BYTES):
        found.update(part)
        progress(len(part))
    return found.hexdigest()
