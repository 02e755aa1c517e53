"""Vector's configuration fits our logs. Vector itself is in no registry that is used here: nothing else checks it."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import structlog
import yaml

from kit.observability.logs import get_logger, setup_logging
from tests.deploy.promql import ROOT

DOCUMENT: Final[dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "vector" / "vector.yaml").read_text())


@pytest.fixture
def line() -> Iterator[dict[str, Any]]:
    """A line of ours, as it is written; logging is as before after it."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    setup_logging("worker", human=False, stream=stream)
    get_logger("somewhere").warning("what_happened")
    yield json.loads(stream.getvalue())
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_labels_and_fields_are_of_our_lines(line: dict[str, Any]) -> None:
    used = {
        name for value in DOCUMENT["sinks"]["loki"]["labels"].values() for name in re.findall(r"{{ (\w+) }}", value)
    }
    assert used == {"service", "level"}
    assert {*used, "timestamp", "event"} <= line.keys()


def test_every_input_is_a_component() -> None:
    components = {name for kind in ("sources", "transforms", "sinks") for name in DOCUMENT[kind]}
    inputs = {name for kind in ("transforms", "sinks") for one in DOCUMENT[kind].values() for name in one["inputs"]}
    assert inputs <= components
