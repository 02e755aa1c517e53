"""What the image of the containers is made from."""

import re
import tomllib
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[2]
_PINNED: Final = re.compile(r"^([\w.-]+)==([\w.+!-]+)", re.MULTILINE)
_ONLY_TO_DEVELOP: Final = {"hypothesis", "import-linter", "mypy", "pytest", "ruff", "schemathesis"}


def _pinned(file: str) -> dict[str, str]:
    return dict(_PINNED.findall((ROOT / file).read_text("utf-8")))


def test_the_image_has_the_packages_and_nothing_else() -> None:
    """No tests, no benchmarks, no history: `.dockerignore` leaves out all that it does not name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    everything, *rest = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert everything == "*"
    assert {one[1:] for one in rest if one.startswith("!")} == packages | {
        "deploy/image.lock",
        "pyproject.toml",
        "README.md",
    }


def test_what_the_dockerfile_copies_is_let_in() -> None:
    sources = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "deploy" / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    let_in = {one[1:] for one in (ROOT / ".dockerignore").read_text("utf-8").split() if one.startswith("!")}
    assert [one for one in sources if one != "." and one not in let_in] == []


def test_the_image_runs_on_what_was_tested() -> None:
    """The same versions, and none of what only developers need."""
    tested, image = _pinned("requirements.lock"), _pinned("deploy/image.lock")
    assert {name: version for name, version in image.items() if tested.get(name) != version} == {}
    assert image.keys() & _ONLY_TO_DEVELOP == set()
    assert tested.keys() >= _ONLY_TO_DEVELOP
