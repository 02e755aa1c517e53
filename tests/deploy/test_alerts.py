"""The alerts: each fires on what it is for and not on its neighbour, names metrics that exist, and has a runbook."""

from pathlib import Path
from typing import Final, NamedTuple

import pytest
import yaml

from kit.settings import Settings
from tests.deploy.promql import PROMETHEUS, ROOT, RULES, faults, rules
from tests.deploy.tools import run_tool
from voltstream.cli.commands.serve import health_port_of
from voltstream.services import named

RUNBOOKS: Final = ROOT / "docs" / "runbooks"


class Case(NamedTuple):
    """Of alert_cases.yml."""

    alert: str
    fires: bool
    after: int  # minutes
    series: dict[str, str]  # values by minute, in promtool's notation


CASES: Final = tuple(Case(**case) for case in yaml.safe_load((Path(__file__).parent / "alert_cases.yml").read_text()))


ALERTS: Final = {rule["alert"]: rule for rule in rules() if "alert" in rule}


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
    run_tool("promtool", "test", "rules", path)


@pytest.mark.usefixtures("processes")
def test_the_configuration_is_prometheus_own() -> None:
    run_tool("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.usefixtures("processes")  # croniter, which faust imports, starts `file`
def test_every_process_of_compose_is_scraped_where_it_listens() -> None:
    scraped = {
        (name, entry["port"])
        for job in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
        for entry in job.get("dns_sd_configs", [])
        for name in entry["names"]
    }
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    served = {name: one["command"][1:] for name, one in compose.items() if one.get("command", [""])[0] == "serve"}
    assert scraped == {
        (name, health_port_of(named(names), Settings.model_validate({}))) for name, names in served.items()
    }


def test_every_alert_is_tested_both_ways() -> None:
    assert {case.alert for case in CASES if case.fires} == ALERTS.keys()
    assert {case.alert for case in CASES if not case.fires} == ALERTS.keys()


def test_every_alert_has_a_severity_a_summary_and_a_runbook() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"]["summary"], name
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == ALERTS.keys()


def test_every_rule_names_metrics_and_labels_that_exist() -> None:
    wrong = {rule["expr"]: found for rule in rules() if (found := list(faults(rule["expr"])))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("sum(rate(http_request_total[5m]))", ["no metric http_request_total"]),
        ('http_requests_total{code=~"5.."}', ["http_requests_total has no label code"]),
        ("sum by (partion, le) (rate(streams_flush_seconds_bucket[5m]))", ["nothing here has the label partion"]),
        ("streams_flush_seconds", ["no metric streams_flush_seconds"]),
    ],
)
def test_a_wrong_name_is_found(expression: str, found: list[str]) -> None:
    assert list(faults(expression)) == found
