"""The alerts: each fires on what it is for and not on its neighbour, names metrics that exist, and has a runbook."""

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = ("objectives.yml", "alerts.yml")
RUNBOOKS = ROOT / "docs" / "runbooks"
# A bound against hanging, never an expectation of speed.
ENOUGH_S = 120.0
_OF_PROMETHEUS: Final = frozenset({"up", "alertmanager"})
_SUFFIXES: Final = ("_total", "_bucket", "_count", "_sum")
_ROOMS: Final = ("kit", "ingest", "streams", "billing", "api", "voltstream")


class Case(NamedTuple):
    """Of alert_cases.yml."""

    alert: str
    fires: bool
    after: int  # minutes
    series: dict[str, str]  # values by minute, in promtool's notation


CASES: Final = tuple(Case(**case) for case in yaml.safe_load((Path(__file__).parent / "alert_cases.yml").read_text()))


def _rules() -> list[dict[str, Any]]:
    documents = [yaml.safe_load((PROMETHEUS / name).read_text()) for name in RULES]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


ALERTS: Final = {rule["alert"]: rule for rule in _rules() if "alert" in rule}


def _promtool(*arguments: str | Path) -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: python -m deploy.servers install")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=ENOUGH_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("processes")
def test_every_alert_fires_on_what_it_is_for_and_on_nothing_beside_it(tmp_path: Path) -> None:
    firing = 'count by (alertname) (ALERTS{{alertname="{0}",alertstate="firing"}}) > bool 0'
    tests = [
        {
            "name": f"{case.alert} {number}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {
                    "expr": firing.format(case.alert),
                    "eval_time": f"{case.after}m",
                    "exp_samples": [{"labels": f'{{alertname="{case.alert}"}}', "value": 1}] if case.fires else [],
                }
            ],
        }
        for number, case in enumerate(CASES)
    ]
    path = tmp_path / "cases.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(PROMETHEUS / name) for name in RULES], "tests": tests}))
    _promtool("test", "rules", path)


@pytest.mark.usefixtures("processes")
def test_the_configuration_is_prometheus_own() -> None:
    _promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_every_alert_is_tested_both_ways() -> None:
    assert {case.alert for case in CASES if case.fires} == ALERTS.keys()
    assert {case.alert for case in CASES if not case.fires} == ALERTS.keys()


def test_every_alert_has_a_severity_a_summary_and_a_runbook() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"]["summary"], name
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == ALERTS.keys()


def declared_metrics() -> set[str]:
    """Every metric that the code makes: the first argument of what makes one."""
    makers = {"Counter", "Gauge", "Histogram", "LoopCounter", "LoopHistogram", "counter", "gauge"}
    found = set()
    for path in (path for room in _ROOMS for path in (ROOT / room).rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            maker = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if maker in makers and call.args and isinstance(call.args[0], ast.Constant):
                name = str(call.args[0].value)
                found.add(f"streams_{name}" if maker in ("counter", "gauge") else name)
            found |= {
                str(keyword.value.value)
                for keyword in call.keywords
                if keyword.arg == "count_name" and isinstance(keyword.value, ast.Constant)
            }
    return {name.removesuffix("_total") for name in found}


def test_every_metric_of_a_rule_exists() -> None:
    declared, recorded = declared_metrics(), {rule["record"] for rule in _rules() if "record" in rule}
    used = set()
    for rule in _rules():
        expression = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", rule["expr"])
        expression = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", expression)
        used |= set(re.findall(r"[a-z][a-z0-9_]*:[a-z0-9_:]+|\b[a-z]+_[a-z0-9_]+\b(?!\s*\()|\bup\b", expression))
    known = declared | recorded | _OF_PROMETHEUS
    bases = {name: [name, *(name.removesuffix(suffix) for suffix in _SUFFIXES)] for name in used}
    assert {name for name, forms in bases.items() if not known.intersection(forms)} == set()
