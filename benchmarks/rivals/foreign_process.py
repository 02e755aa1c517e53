"""A rival's process and all that it starts, ended by kill -9."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 20.0
_LOG_TAIL_CHARACTERS: Final = 1_500


class ForeignProcess:
    """A running process. Leaving the block is a kill -9 of it and its children."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        """`folder`: where it works and has its temporary files."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed at the end of the block
        environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(_ROOT)}
        self._process = subprocess.Popen(  # noqa: S603  # our own command
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        members = self._members()
        for member in members:
            member.kill()
        self._process.wait(_STOP_S)
        psutil.wait_procs(members, _STOP_S)
        self._log.close()

    def ended(self) -> bool:
        """Whether it has ended by itself. Raises RuntimeError with its log if it failed."""
        status = self._process.poll()
        if status:
            self._log.seek(0)
            raise RuntimeError(f"ended with {status}:\n{self._log.read()[-_LOG_TAIL_CHARACTERS:]}")
        return status is not None

    def rss_bytes(self) -> int:
        """Resident memory of all its processes now."""
        return sum(member.memory_info().rss for member in self._members())

    def _members(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
