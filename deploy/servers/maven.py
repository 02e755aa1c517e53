"""Jars of a server that is started from them, fetched by Maven as a pom names them."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.servers.errors import ServerUnavailable


@dataclass(frozen=True, slots=True)
class Jars:
    """The jars of a pom in a folder of their own."""

    server: str  # whose they are, for messages
    pom: Path
    folder: Path

    @property
    def complete(self) -> bool:
        """Whether they are there, of this pom."""
        stamp = self.folder / self.pom.name
        return stamp.exists() and stamp.read_bytes() == self.pom.read_bytes()

    @property
    def classpath(self) -> str:
        """For java -cp."""
        return f"{self.folder}/*"

    def install(self) -> None:
        """Fetch them unless they are there. Raises ServerUnavailable with the reason."""
        if self.complete:
            return
        maven = shutil.which("mvn")
        if maven is None:
            raise ServerUnavailable(f"{self.server}: no Maven to fetch it with")
        shutil.rmtree(self.folder, ignore_errors=True)
        output = f"-DoutputDirectory={self.folder}"
        command = [maven, "-q", "-B", "-f", str(self.pom), "dependency:copy-dependencies", output]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            reason = lines[0] if lines else "no reason given"
            raise ServerUnavailable(f"{self.server}: Maven could not fetch it: {reason}")
        shutil.copyfile(self.pom, self.folder / self.pom.name)

    def require(self) -> None:
        """Raises ServerUnavailable unless they are there."""
        if not self.complete:
            raise ServerUnavailable(
                f"{self.server}: its jars are missing; `python -m deploy.servers install` fetches them"
            )


def java(server: str) -> str:
    """The installed Java. Raises ServerUnavailable."""
    found = shutil.which("java")
    if found is None:
        raise ServerUnavailable(f"{server}: no Java; `python -m deploy.servers install` as root adds it")
    return found
