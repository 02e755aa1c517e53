"""Alertmanager: its configuration is its own, alerts go where their severity says, and one really arrives."""

import asyncio
import json
from typing import Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.servers import run_folder
from deploy.servers.monitoring import Alertmanager, Prometheus
from kit.web.app import make_app, serve
from tests.deploy.promql import PROMETHEUS, ROOT, RULES, rules
from tests.deploy.tools import ENOUGH_S, run_tool
from tests.posts_received import posts_received
from tests.waiting import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.usefixtures("processes")]

FILE: Final = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"


def test_the_configuration_is_alertmanagers_own() -> None:
    assert "SUCCESS" in run_tool("amtool", "check-config", FILE)


@pytest.mark.parametrize(
    ("labels", "receiver"), [("severity=page", "pager"), ("severity=ticket", "tickets"), ("a=b", "tickets")]
)
def test_alerts_go_where_their_severity_says(labels: str, receiver: str) -> None:
    routed = ("config", "routes", "test", f"--config.file={FILE}", f"--verify.receivers={receiver}")
    run_tool("amtool", *routed, "alertname=Any", labels)


def test_what_inhibits_and_what_is_inhibited_are_alerts() -> None:
    alerts = {f'alertname="{rule["alert"]}"' for rule in rules() if "alert" in rule}
    for rule in yaml.safe_load(FILE.read_text())["inhibit_rules"]:
        assert {*rule["source_matchers"], *rule["target_matchers"]} <= alerts


async def test_a_process_that_is_gone_reaches_the_pager() -> None:
    """The rules as they stand; only the times between scrapes, evaluations and messages are a second."""
    received: list[tuple[str, dict[str, Any]]] = []
    with posts_received(lambda path, _, body: received.append((path, json.loads(body)))) as address:
        alertmanager = Alertmanager(run_folder() / Alertmanager.name)
        prometheus = Prometheus(run_folder() / Prometheus.name)
        try:
            alertmanager.configuration = _routed_to(address)
            await asyncio.to_thread(alertmanager.start)
            async with serve(make_app("gone soon", "0", registry=CollectorRegistry()), "127.0.0.1", 0) as server:
                prometheus.configuration = _scraping(server.url.removeprefix("http://"), alertmanager.address)
                await asyncio.to_thread(prometheus.start)
                await eventually(lambda: _is_up(prometheus), ENOUGH_S)
                assert received == []
            await eventually(lambda: received, ENOUGH_S)
        finally:
            await asyncio.to_thread(prometheus.destroy)
            await asyncio.to_thread(alertmanager.destroy)
    path, message = received[0]
    assert path == "/page"
    assert (message["receiver"], message["status"]) == ("pager", "firing")
    assert message["groupLabels"] == {"alertname": "ProcessesAreDown"}
    assert "of the processes are not there" in message["alerts"][0]["annotations"]["summary"]


def _routed_to(address: str) -> str:
    document = yaml.safe_load(FILE.read_text())
    for route in (document["route"], *document["route"]["routes"]):
        route.update(group_wait="1s", group_interval="1s")
    for receiver in document["receivers"]:
        for webhook in receiver["webhook_configs"]:
            webhook["url"] = webhook["url"].replace("alert-receiver:9094", address)
    return yaml.safe_dump(document)


def _scraping(target: str, alertmanager: str) -> str:
    document = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    document["rule_files"] = [str(PROMETHEUS / name) for name in RULES]
    document["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    document["scrape_configs"] = [{"job_name": "voltstream", "static_configs": [{"targets": [target]}]}]
    return yaml.safe_dump(document)


def _is_up(prometheus: Prometheus) -> bool:
    shown = run_tool("promtool", "query", "instant", "-o", "json", prometheus.url, 'up{job="voltstream"}')
    return [one["value"][1] for one in json.loads(shown)] == ["1"]
