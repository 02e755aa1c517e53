"""What `up` leaves in its data folder for the commands beside it: files for their owner alone, and the database."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from kit.errors import ConfigError
from kit.masking import mask_url
from kit.settings import Settings
from voltstream.errors import PlatformFailed, WrongUsage
from voltstream.runtime.database import any_database

_ADDRESS_FILE: Final = "address.json"
_EMBEDDED: Final = "embedded"
_DATABASE_MARK: Final = Path("postgres", "PG_VERSION")  # as initdb leaves it
_START_S_TOLERANCE: Final = 1.0  # two readings of one process's start differ by less; another process's by more
_NAME_ANOTHER: Final = "name another address: --url or VOLTSTREAM_URL"


def database_key(settings: Settings) -> str:
    """What entries of a file are known by: one data folder may be used with several databases."""
    return mask_url(settings.database_url) if settings.database_url else _EMBEDDED


def read_entries(settings: Settings, file: str) -> dict[str, Any]:
    """The entries of a file in the data folder, by database. Raises ConfigError where it cannot be read."""
    path = settings.data_dir / file
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # a file that is not JSON is as good as none: it is written again
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give this account the right to") from None
    return document if isinstance(document, dict) else {}


def write_entry(settings: Settings, file: str, entry: object) -> None:
    """Replace this database's entry, None removes it; readable for the file's owner alone. Raises ConfigError."""
    entries = {name: kept for name, kept in read_entries(settings, file).items() if name != database_key(settings)}
    if entry is not None:
        entries[database_key(settings)] = entry
    path = settings.data_dir / file
    new = path.with_suffix(".new")
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            json.dump(entries, out, indent=2)
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"VOLTSTREAM_DATA_DIR={settings.data_dir}: cannot be written ({error.strerror})") from None


@contextmanager
def published_address(settings: Settings, url: str) -> Iterator[None]:
    """Within the block commands that use this data folder find the platform at `url`. Raises ConfigError."""
    me = psutil.Process()
    write_entry(settings, _ADDRESS_FILE, {"url": url, "pid": me.pid, "started_s": me.create_time()})
    try:
        yield
    finally:
        with suppress(ConfigError):  # an address that stays is known by its process, which is gone
            write_entry(settings, _ADDRESS_FILE, None)


def platform_url(settings: Settings) -> str:
    """The address of the platform that runs on this data folder; where none does, VOLTSTREAM_HOST and PORT.

    Raises PlatformFailed where the one that wrote its address was killed.
    """
    match _published(settings):
        case url, _, True:
            return url
        case url, pid, _:
            raise PlatformFailed(
                f"the platform of {settings.data_dir} was at {url} and is gone (process {pid}): "
                f"start `voltstream up`, or {_NAME_ANOTHER}"
            )
    return f"http://{settings.host}:{settings.port}"


def running_platform(settings: Settings) -> str | None:
    """The `voltstream up` that runs on this data folder with this database, for people; None: there is none."""
    match _published(settings):
        case url, pid, True:
            return f"`voltstream up` at {url} (process {pid})"
    return None


def _published(settings: Settings) -> tuple[str, int, bool] | None:
    """The address in the data folder, the process that wrote it, and whether that runs."""
    match read_entries(settings, _ADDRESS_FILE).get(database_key(settings)):
        case {"url": str(url), "pid": int(pid), "started_s": int() | float() as started_s}:
            return url, pid, _runs(pid, started_s)
    return None


@contextmanager
def platform_database(settings: Settings) -> Iterator[str]:
    """The URL of a platform's database, as `any_database`, but none is made new. Raises WrongUsage."""
    if not settings.database_url and not _has_database(settings.data_dir):
        raise WrongUsage(
            f"{settings.data_dir.absolute()} has no platform's database: name the data folder of `voltstream up` by "
            "--data-dir or VOLTSTREAM_DATA_DIR (or its server by VOLTSTREAM_DATABASE_URL)"
        )
    with any_database(settings) as url:
        yield url


def platform_name(settings: Settings) -> str:
    """The platform that these settings name, for people: its database's URL without password, or its data folder."""
    return mask_url(settings.database_url) if settings.database_url else str(settings.data_dir.absolute())


def _has_database(data_dir: Path) -> bool:
    try:
        return (data_dir / _DATABASE_MARK).exists()
    except PermissionError:
        return True  # the server's own account may have closed the folder; whether it can be used shows later


def _runs(pid: int, started_s: float) -> bool:
    """Whether it is still that process: pids are used again."""
    try:
        return abs(psutil.Process(pid).create_time() - started_s) < _START_S_TOLERANCE
    except psutil.NoSuchProcess:
        return False
