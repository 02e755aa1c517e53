"""What the image of the containers is made from."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_image_has_the_packages_and_nothing_else() -> None:
    """No tests, no benchmarks, no history: `.dockerignore` leaves out all that it does not name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    everything, *rest = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert everything == "*"
    assert {one[1:] for one in rest if one.startswith("!")} == packages | {
        "requirements.lock",
        "pyproject.toml",
        "README.md",
    }
