"""The dashboards: what is committed is what the builders make, and every query is PromQL on metrics that exist."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("grafana_foundation_sdk", reason="of `make check-deploy`")

from deploy.grafana.__main__ import DASHBOARDS, FOLDER, documents
from tests.deploy.promql import faults
from tests.deploy.tools import run_tool

pytestmark = pytest.mark.deploy


def test_what_is_committed_is_what_the_builders_make() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == documents(), "run `python -m deploy.grafana`"


def test_every_query_is_promql(tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "5m") for board in DASHBOARDS for query in board.queries]
    rules = [{"record": f"q:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run_tool("promtool", "check", "rules", path)


def test_every_query_names_metrics_and_labels_that_exist() -> None:
    wrong = {query: found for board in DASHBOARDS for query in board.queries if (found := list(faults(query)))}
    assert wrong == {}


def test_panels_have_units_ids_and_the_datasource() -> None:
    for text in documents().values():
        document: dict[str, Any] = json.loads(text)
        panels = [panel for panel in document["panels"] if panel["type"] != "row"]
        ids = [panel["id"] for panel in document["panels"]]
        assert len(set(ids)) == len(ids)
        assert panels
        for panel in panels:
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["targets"], panel["title"]
