"""The lake's files of a backup: copied out of the lake, and put back into one.

What is copied is compared with what was written, in both directions: a file that rots keeps its size.
"""

import shutil
from pathlib import Path
from typing import Final

from pyarrow.fs import LocalFileSystem

from kit.lake.folder import TEMPORARY, LakeFolder, LakeUnavailable
from streams.storage.ledger_check import FileOfLake, check_file
from voltstream.backups.manifest import LAKE, BackupFile, Manifest, listed, sha256_of
from voltstream.backups.progress import Progress, adding_up
from voltstream.errors import BackupFailed, WrongUsage

_COPY_BYTES: Final = 1 << 20


def copy_lake(lake: LakeFolder, files: list[FileOfLake], to: Path, progress: Progress) -> None:
    """Copy these files, and read every copy: one that is damaged in the lake would be so in a backup that is whole.

    Raises BackupFailed, which names the files that are missing or damaged.
    """
    copied = adding_up(progress, "copying the lake", sum(file.file_bytes for file in files))
    copies, damaged = LakeFolder(LocalFileSystem(), str(to)), list[str]()
    for file in files:
        place = to / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with lake.open(file.path) as source, place.open("wb") as copy:
                shutil.copyfileobj(source, copy, _COPY_BYTES)
        except LakeUnavailable as error:
            raise BackupFailed(f"{error}; `voltstream verify` says what else the lake lacks") from None
        try:
            check_file(copies, file)
        except (LakeUnavailable, ValueError) as error:
            damaged.append(str(error))
        copied(file.file_bytes)
    if damaged:
        raise BackupFailed(
            f"the lake has files that are damaged: {listed(damaged)}. Put them back from the folder {LAKE} of an "
            "older backup, or back up without the lake's files (--no-lake)"
        )


def put_lake(source: Path, manifest: Manifest, lake: LakeFolder | None, progress: Progress) -> None:
    """Copy the backup's files to the lake, but for those that are there as they were written. A file's name has the
    hash of its rows, and one that nobody's catalogue has is none of the lake: whatever a restore leaves that fails does
    no harm. Raises WrongUsage, LakeUnavailable."""
    if lake is None:
        raise WrongUsage(
            f"the backup has {manifest.lake_files:,} files of a lake: set VOLTSTREAM_LAKE_URL to where they are to be"
        )
    files = [file for file in manifest.files if file.path.startswith(f"{LAKE}/")]
    copied = adding_up(progress, "copying the lake", sum(file.bytes for file in files))
    for file in files:
        path = file.path.removeprefix(f"{LAKE}/")
        if not _is_there(lake, path, file):
            temporary = f"{TEMPORARY}/{path.rpartition('/')[2]}"
            with (source / file.path).open("rb") as original, lake.write(temporary) as copy:
                shutil.copyfileobj(original, copy)
            lake.rename(temporary, path)
        copied(file.bytes)


def _is_there(lake: LakeFolder, path: str, file: BackupFile) -> bool:
    """Whether the lake has the file as the backup has it; one that is there and cannot be read is written again."""
    try:
        with lake.open(path) as found:
            return int(found.size()) == file.bytes and sha256_of(found) == file.sha256
    except LakeUnavailable:
        return False
