"""The version before this one, from the history: its processes run beside ours in proofs of upgrade and roll-back."""

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The last one that was landed; once there are tags, the newest of them (v1.2.3) in this history.
LANDED = "5f73fae2"


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)  # noqa: S607  # whichever git


def version_before() -> str:
    """Its commit. Skips the test where there is no history, or a part of it; fails it where all of it lacks that."""
    tag = _git("describe", "--tags", "--abbrev=0", "--match=v[0-9]*").stdout.decode().strip()
    commit = tag or LANDED
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        if _git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false":
            pytest.skip(f"the version before, {commit}, is not here: git fetch --unshallow --tags")
        pytest.fail(f"the version before, {commit}, is not in this history", pytrace=False)
    return commit


def unpacked(folder: Path) -> Path:
    """The folder with its files."""
    archive = _git("archive", "--format=tar", version_before())
    assert archive.returncode == 0, archive.stderr.decode()
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def environment_of(folder: Path) -> dict[str, str]:
    """With which Python takes the modules of the version in that folder."""
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def with_modules_of(folder: Path) -> dict[str, str]:
    """This process's environment, and that."""
    return {**os.environ, **environment_of(folder)}
