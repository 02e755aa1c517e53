"""Clocks of services that are stepped while they run, by libfaketime. What counts time that passes is not changed."""

from pathlib import Path
from typing import Final

# As Debian's package `libfaketime` installs it, for the architecture of this machine.
_LIBRARIES: Final = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
_READ_AGAIN_S: Final = 1


class Clocks:
    """The clock of each service, as a file that it reads. Raises FileNotFoundError where there is no libfaketime."""

    def __init__(self, folder: Path) -> None:
        if not _LIBRARIES:
            raise FileNotFoundError("no libfaketime: apt-get install libfaketime")
        self._folder = folder

    def environment(self, name: str) -> dict[str, str]:
        """What makes a process read the clock of that name."""
        if not self._file(name).exists():
            self.step(name, 0)
        return {
            "LD_PRELOAD": str(_LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": str(_READ_AGAIN_S),
        }

    def step(self, name: str, offset_s: int) -> None:
        """From now on its clock is so many seconds ahead of the real one."""
        written = self._file(name).with_suffix(".new")
        written.write_text(f"{offset_s:+d}")
        written.replace(self._file(name))

    def reset(self) -> None:
        """All are right again."""
        for file in self._folder.glob("clock-*.txt"):
            file.write_text("+0")

    def _file(self, name: str) -> Path:
        return self._folder / f"clock-{name.replace(' ', '-')}.txt"
