"""State and frames are readable by the version before and by this one, so that both work on a platform at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.version_before import ROOT, unpacked, with_modules_of

pytestmark = pytest.mark.usefixtures("processes")

_PROGRAM = Path(__file__).parent / "state_exchange.py"


def _run(version: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(_PROGRAM), *arguments], cwd="/", env=with_modules_of(version), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "roll-back"])
def test_what_one_version_wrote_the_other_goes_on_with(tmp_path: Path, seed: int, upgrade: bool) -> None:
    print(f"seed {seed}")
    before = unpacked(tmp_path / "before")
    writer, reader = (before, ROOT) if upgrade else (ROOT, before)
    _run(writer, "write", str(tmp_path), str(seed))
    found = json.loads(_run(reader, "go-on", str(tmp_path)))
    assert found["theirs"] == found["ours"]
    assert len(found["ours"][0]) > 5
