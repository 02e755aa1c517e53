"""The progress of a replay: a small file, written after every acknowledgement, from which the next run resumes."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from simulator.errors import ProgressError

_KEY_CHARS: Final = 16  # 64 bits of a SHA-256: no two replays of one folder ever share a file


class Progress(msgspec.Struct, frozen=True):
    """Rows acknowledged, from the first without a hole, in the order of sending."""

    file: str  # for people
    target: str
    rows: int
    complete: bool = False


class ProgressFile:
    """The progress of one replay: of these bytes, to this target, in this order, with these columns."""

    def __init__(self, folder: Path, *parts: str) -> None:
        """`parts` is everything that decides which rows are sent where, and in which order."""
        key = sha256("\0".join(parts).encode()).hexdigest()[:_KEY_CHARS]
        self.path = folder / f"{key}.json"

    def read(self) -> Progress | None:
        """The record, or None. Raises ProgressError."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Progress)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise ProgressError(f"{self.path} cannot be read ({error}); start again with --restart") from error

    def write(self, progress: Progress) -> None:
        """Replace the record, atomically. Raises ProgressError."""
        fresh = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(progress))
            fresh.replace(self.path)
        except OSError as error:
            raise ProgressError(
                f"{self.path} cannot be written: {error.strerror}; choose another --data-dir"
            ) from error

    def clear(self) -> None:
        """Delete the record."""
        self.path.unlink(missing_ok=True)
