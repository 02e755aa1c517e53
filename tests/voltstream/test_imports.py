"""The product's modules as a graph."""

import tomllib
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from tests.voltstream.platform import ROOT


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions and those for types alone count too: a circle is one subject cut in two."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = pyproject["tool"]["importlinter"]["root_packages"]
    graph = grimp.build_graph(*rooms, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imported) > len(rooms)
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}", pytrace=False)
