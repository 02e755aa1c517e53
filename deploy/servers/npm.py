"""Packages of a server that runs on Node, fetched by npm as a package.json names them."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.servers.errors import ServerUnavailable


@dataclass(frozen=True, slots=True)
class NodePackages:
    """The packages of a folder's package.json, and its own modules beside them: they find packages only there."""

    server: str  # whose they are, for messages
    source: Path
    folder: Path

    @property
    def complete(self) -> bool:
        """Whether they are there, of this package.json."""
        stamp = self.folder / "installed.json"
        return stamp.exists() and stamp.read_bytes() == (self.source / "package.json").read_bytes()

    def install(self) -> None:
        """Fetch them unless they are there. Raises ServerUnavailable with the reason."""
        if self.complete:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise ServerUnavailable(f"{self.server}: no npm to fetch it with; install Node and npm")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        shutil.copyfile(self.source / "package.json", self.folder / "package.json")
        quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(
            [npm, "install", *quiet], cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode != 0:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            reason = lines[0] if lines else "no reason given"
            raise ServerUnavailable(f"{self.server}: npm could not fetch it: {reason}")
        shutil.copyfile(self.source / "package.json", self.folder / "installed.json")

    def command(self, module: str) -> list[str]:
        """What runs a module of the source folder. Raises ServerUnavailable."""
        node = shutil.which("node")
        if node is None:
            raise ServerUnavailable(f"{self.server}: no Node; install Node and npm")
        if not self.complete:
            raise ServerUnavailable(
                f"{self.server}: its packages are missing; `python -m deploy.servers install` fetches them"
            )
        shutil.copyfile(self.source / module, self.folder / module)
        return [node, str(self.folder / module)]
