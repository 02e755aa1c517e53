"""A folder of files as a source of adjustable settings: a mounted ConfigMap, or any folder.

A file is named as its setting (`billing.paused`) and holds the value as text, or a flag's rule as JSON. Kubernetes
swaps the symlink `..data` to a new folder, so all files are read from where it points at one moment. Names that begin
with a dot are not settings. The folder is looked at by polling: a look costs one or two system calls a file, and the
kernel does not notify of changes on every kind of mount.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kit.config.adjustable import Adjustable, Scalar
from kit.config.flags import FlagRule
from kit.observability.logs import get_logger
from kit.spelling import did_you_mean

LOOK_EVERY_S: Final = 0.25
FILES_MAX: Final = 1_000
FILE_BYTES_MAX: Final = 256 << 10  # a rule with all of its targets is 120 kB
_READS_MAX: Final = 3  # a swap while the folder is read makes its files disappear: read the new one
_DATA: Final = "..data"
_UNREADABLE: Final = ("unreadable",)

Signature = tuple[object, ...]
_log = get_logger(__name__)


class ConfigFolder:
    """Reads the folder again when it has changed. A file that is wrong keeps the value it had before."""

    def __init__(self, folder: Path, adjustables: Mapping[str, Adjustable]) -> None:
        self._folder = folder
        self._adjustables = adjustables
        self._signature: Signature | None = None
        self._values: dict[str, Scalar | FlagRule] = {}
        self.faults: dict[str, str] = {}  # file, or the folder -> what was wrong at the last look

    def look(self) -> Mapping[str, Scalar | FlagRule] | None:
        """The values of all files; None: nothing has changed since the last look. Blocks for system calls.

        A folder that is not there or cannot be read changes nothing.
        """
        for attempt in range(1, _READS_MAX + 1):
            try:
                root = self._root()
                signature = _signature_of(root)
                if signature == self._signature:
                    return None
                texts = {path.name: _text_of(path) for path in _files_of(root)}
            except OSError as error:
                if attempt == _READS_MAX:
                    self._unreadable(error)
                continue
            self._signature = signature
            self._values = self._read(texts)
            return self._values
        return None

    def _unreadable(self, error: OSError) -> None:
        if self._signature != _UNREADABLE:  # else it was said before
            _log.warning("config_folder_unreadable", folder=str(self._folder), error=str(error))
        self._signature = _UNREADABLE
        self.faults = {str(self._folder): f"it cannot be read ({error.strerror})"}

    def _root(self) -> Path:
        """The folder that the files are in at this moment."""
        data = self._folder / _DATA
        return data.resolve(strict=True) if data.is_symlink() else self._folder

    def _read(self, texts: Mapping[str, str]) -> dict[str, Scalar | FlagRule]:
        values: dict[str, Scalar | FlagRule] = {}
        self.faults = {}
        for name, text in texts.items():
            one = self._adjustables.get(name)
            if one is None:
                self.faults[name] = f"there is no such setting{did_you_mean(name, self._adjustables)}"
                continue
            try:
                values[name] = one.rule_from_text(text) if one.is_flag else one.from_text(text)
            except ValueError as error:
                self.faults[name] = str(error)
                if name in self._values:
                    values[name] = self._values[name]
        for name, fault in self.faults.items():
            _log.error("config_file_refused", file=name, error=fault)
        return values


def _files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if not path.name.startswith(".") and path.is_file())[:FILES_MAX]


def _signature_of(root: Path) -> Signature:
    """Differs whenever a file was added, removed or written."""
    stats = [(path.name, path.stat()) for path in _files_of(root)]
    return (str(root), *((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats))


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
