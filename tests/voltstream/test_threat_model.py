"""The pages of docs/ name tests and files that exist, and those on security every requirement of OWASP."""

import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = sorted((ROOT / "docs").rglob("*.md"))
# Folders that hold no files of ours.
_ELSEWHERE: Final = frozenset({"node_modules", "build", "__pycache__"})
_NAMED_TEST: Final = re.compile(r"`(test_\w+)`")
_CODE: Final = re.compile(r"`([^`\s]+)`")
_FILE: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|md|sql|toml|yaml|yml|lock|txt)|[\w.-]+(?:/[\w.-]+)*/")
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_ROW: Final = re.compile(r"^\| (\d+\.\d+\.\d+[\d., –]*) \|", re.MULTILINE)
_RANGE: Final = re.compile(r"(\d+\.\d+)\.(\d+)(?:–(\d+))?")  # as it is written: 6.2.1-12 with a dash
# ASVS 5.0.0: of each section, how many requirements of level 1 and 2 it has. They are numbered from 1.
REQUIREMENTS: Final = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1, "3.2": 2, "3.3": 4,
    "3.4": 6, "3.5": 5, "3.7": 2, "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4, "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5,
    "7.5": 2, "7.6": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "10.1": 2, "10.2": 2, "10.3": 4,
    "10.4": 11, "10.5": 5, "10.6": 2, "10.7": 3, "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1,
    "12.1": 3, "12.2": 2, "12.3": 4, "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5, "14.1": 2, "14.2": 4, "14.3": 3,
    "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3, "17.1": 1, "17.2": 4,
    "17.3": 2,
}  # fmt: skip


@cache
def existing_tests() -> frozenset[str]:
    """The names of all tests."""
    found = re.compile(r"^\s*(?:async )?def (test_\w+)\(", re.MULTILINE)
    return frozenset(name for path in (ROOT / "tests").rglob("*.py") for name in found.findall(path.read_text("utf-8")))


@cache
def paths() -> frozenset[str]:
    """All files, and folders with a slash at their end."""
    found: set[str] = set()
    for top in ROOT.iterdir():
        if top.name in _ELSEWHERE or (top.is_dir() and top.name.startswith(".")):
            continue
        for path in (top, *(top.rglob("*") if top.is_dir() else ())):
            if not _ELSEWHERE & set(path.parts):
                found.add(path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else ""))
    return frozenset(found)


@cache
def endings() -> frozenset[str]:
    """All paths, and what of them follows a slash: a page of a folder names its files without it."""
    return frozenset(path.split("/", at)[-1] for path in paths() for at in range(path.rstrip("/").count("/") + 1))


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_names_tests_and_files_that_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    assert set(_NAMED_TEST.findall(text)) - existing_tests() == set()
    named = {one for one in _CODE.findall(text) if _FILE.fullmatch(one) and "://" not in one}
    assert named - endings() == set()
    links = {link for link in _LINK.findall(text) if "://" not in link}
    assert {link for link in links if not (page.parent / link).exists()} == set()


def test_every_risk_of_the_api_top_10_has_a_row() -> None:
    rows = re.findall(r"^\| API(\d+) ", (ROOT / "docs" / "asvs.md").read_text("utf-8"), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 11))


def test_every_requirement_of_asvs_level_2_has_one_row() -> None:
    covered: list[str] = []
    for cell in _ROW.findall((ROOT / "docs" / "asvs.md").read_text("utf-8")):
        for section, first, last in _RANGE.findall(cell):
            covered += [f"{section}.{number}" for number in range(int(first), int(last or first) + 1)]
    wanted = [f"{section}.{number}" for section, count in REQUIREMENTS.items() for number in range(1, count + 1)]
    assert sorted(covered) == sorted(wanted)


def test_a_row_says_met_or_why_not() -> None:
    """Met with what shows it, not met and does not apply with why."""
    for line in (ROOT / "docs" / "asvs.md").read_text("utf-8").splitlines():
        if _ROW.match(line):
            _, what, answer, shown = (cell.strip() for cell in line.strip("|").split(" | "))
            assert answer in ("met", "not met", "–"), line  # a dash
            assert len(what.split()) <= 8, line
            assert shown, line


@pytest.mark.parametrize("file", ["requirements.lock", "deploy/requirements.lock", "deploy/image.lock"])
def test_every_package_is_locked_by_hash(file: str) -> None:
    lock = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    packages = [line for line in lock.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(packages) > 20
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []


def test_what_is_installed_is_locked() -> None:
    """By every command that downloads packages."""
    for file in ("Makefile", "deploy/Dockerfile"):
        text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
        installs = [line for line in re.split(r"\n|&&", text) if re.search(r"-m pip install ", line)]
        downloads = [line for line in installs if "--no-deps" not in line and not line.rstrip().endswith(" uv")]
        assert downloads
        assert [line for line in downloads if "--require-hashes -r" not in line] == []
