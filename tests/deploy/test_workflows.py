"""The workflows: they run what `.ci/run` runs, by commands of the Makefile that there are, and give nothing away."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_TARGET: Final = re.compile(r"^([a-z-]+):", re.MULTILINE)
_MAKE: Final = re.compile(r"\bmake ((?:[a-z][a-z-]*(?: |$))+)", re.MULTILINE)


def _parsed(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return document


def _steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in _parsed(path)["jobs"].values():
        yield from job.get("steps", [])


def _targets(path: Path) -> set[str]:
    """What of the Makefile a workflow makes, by a matrix too."""
    runs = "\n".join(step.get("run", "") for step in _steps(path))
    named = {target for targets in _MAKE.findall(runs) for target in targets.split()}
    matrices = (job.get("strategy", {}).get("matrix", {}) for job in _parsed(path)["jobs"].values())
    return named | {part for matrix in matrices for part in matrix.get("part", [])}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_can_do_no_more_than_it_must(path: Path) -> None:
    document = _parsed(path)
    assert document["permissions"] == {"contents": "read"}
    for name, job in document["jobs"].items():
        assert "uses" in job or 0 < job["timeout-minutes"] < 360, name
    for step in _steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step  # a tag may move
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # A shell sees values of others as variables only: else a branch's name is a command.
        assert "${{" not in step.get("run", ""), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_target_that_a_workflow_makes_is_one(path: Path) -> None:
    known = set(_TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
    assert _targets(path) - known == set()


def test_a_change_passes_what_a_clean_clone_does() -> None:
    """`make test` in its parts, which are that target's."""
    ci = set(re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (parts,) = re.findall(r"for part in ([a-z ]+);", makefile)
    wanted = (ci - {"test"}) | {f"test-{part}" for part in parts.split()}
    assert "test" in ci
    assert wanted - _targets(ROOT / ".github" / "workflows" / "checks.yml") == set()


def test_a_workflow_that_is_called_is_there() -> None:
    called = {job["uses"] for path in WORKFLOWS for job in _parsed(path)["jobs"].values() if "uses" in job}
    assert called
    assert [one for one in called if not (ROOT / one).is_file()] == []
