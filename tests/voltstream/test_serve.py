"""`voltstream serve NAME…`: several services in one process of their own."""

import json
import os
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from tests.private_servers import PrivateServers
from tests.voltstream.platform import ENOUGH_S, served, voltstream
from tests.waiting import eventually
from voltstream.cli.main import _COMMANDS, app
from voltstream.services import SERVICES, SUBSETS

_NOWHERE = {
    "database_url": "postgresql://somebody:hunter2@127.0.0.1:1/none",
    "rabbitmq_url": "amqp://somebody:hunter2@127.0.0.1:1/",
    "kafka_url": "127.0.0.1:1",
    "redis_url": "redis://:hunter2@127.0.0.1:1",
}


async def test_two_services_in_a_process_answer_on_one_port_and_end_in_good_order(
    database_url: str, running_servers: PrivateServers, tmp_path: Path
) -> None:
    settings = running_servers.settings(database_url) | {"data_dir": str(tmp_path / "data")}
    assert voltstream("migrate", "--json", **settings).returncode == 0
    with served(tmp_path / "log", "worker", "relay", **settings) as (process, line):
        assert line["service"] == "worker+relay"
        async with httpx.AsyncClient(base_url=line["url"], trust_env=False, timeout=30) as client:
            assert (await client.get("/healthz")).status_code == 200
            ready = await eventually(lambda: _ready(client), ENOUGH_S)
            metrics = (await client.get("/metrics")).text
        assert set(ready.values()) == {"ok"}
        assert {"partitions", "database"} <= set(ready)
        assert "streams_flush_seconds" in metrics  # the worker's
        assert "events_published_total" in metrics  # the relay's
        process.terminate()
        rest, _ = process.communicate(timeout=ENOUGH_S)
    assert (process.returncode, rest) == (0, ""), (tmp_path / "log").read_text()[-2_000:]


async def test_a_worker_starts_while_the_broker_of_events_is_away(
    database_url: str, running_servers: PrivateServers, tmp_path: Path, unused_port: int
) -> None:
    """It only hears there of changed settings, which it reads from the database as well."""
    settings = running_servers.settings(database_url) | {
        "rabbitmq_url": f"amqp://guest:guest@127.0.0.1:{unused_port}/",
        "data_dir": str(tmp_path / "data"),
    }
    assert voltstream("migrate", "--json", **settings).returncode == 0
    with served(tmp_path / "log", "worker", **settings) as (process, line):
        async with httpx.AsyncClient(base_url=line["url"], trust_env=False, timeout=30) as client:
            assert "partitions" in await eventually(lambda: _ready(client), ENOUGH_S)
        process.terminate()
        assert process.wait(ENOUGH_S) == 0, (tmp_path / "log").read_text()[-2_000:]


async def _ready(client: httpx.AsyncClient) -> dict[str, str]:
    """Its checks; empty while one of them fails: at first the worker owns no partition."""
    response = await client.get("/ready")
    checks: dict[str, str] = response.json()["checks"] if response.status_code == 200 else {}
    return checks


@pytest.mark.usefixtures("processes")  # libraries ask for the kind of machine
@pytest.mark.parametrize("name", [name for name in (*SERVICES, *SUBSETS) if name not in _COMMANDS])
def test_the_short_form_of_a_service_is_serve_of_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in [setting for setting in os.environ if setting.startswith("VOLTSTREAM_")]:
        monkeypatch.delenv(setting)
    refused = [CliRunner().invoke(app, [*form, "--check"]) for form in (["serve", name], [name])]
    assert str(refused[0].exception) == str(refused[1].exception)
    assert "set VOLTSTREAM_" in str(refused[0].exception)
    for setting, url in _NOWHERE.items():
        monkeypatch.setenv(f"VOLTSTREAM_{setting.upper()}", url)
    checked = [CliRunner().invoke(app, [*form, "--check", "--json"]) for form in (["serve", name], [name])]
    assert [shown.exit_code for shown in checked] == [0, 0]
    assert checked[0].stdout == checked[1].stdout
    assert json.loads(checked[0].stdout)["ok"] is True
