"""The bill of materials names what the image has."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.deploy
def test_the_bill_of_materials_has_every_package_of_the_image_with_its_hashes(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    command = ["/usr/bin/env", "make", "sbom", f"SBOM={file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    bill = json.loads(file.read_text("utf-8"))
    lock = (ROOT / "deploy" / "image.lock").read_text("utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", lock, re.MULTILINE))
    assert {one["name"]: one["version"] for one in bill["components"]} == pinned
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])
    assert bill["metadata"]["component"]["name"] == "voltstream"
