"""`voltstream doctor` says what operators have set, where, from which file it cannot be read, and what was given up."""

import json
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from kit.clock import SystemClock
from voltstream.cli.doctor_data_checks import run_all_checks
from voltstream.cli.doctor_server_checks import Check
from voltstream.runtime.database import bring_up_to_date
from voltstream.settings import load_settings

_NOWHERE: Final = dict.fromkeys(("database_url", "rabbitmq_url", "kafka_url", "redis_url"), "")


async def config_check(folder: Path, name: str = "config", **settings: Any) -> Check:
    own = load_settings(data_dir=folder / "data", **{**_NOWHERE, **settings})
    (found,) = [check for check in await run_all_checks(own, SystemClock()) if check.name == name]
    return found


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "all by default"),
        ({"invoice_settle_s": 30}, "billing.settle_time = 30 (file)"),
        ({"billing_paused": True}, "billing.paused = true (file)"),
    ],
)
async def test_what_is_set_at_the_start_is_shown(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    check = await config_check(tmp_path, **settings)
    assert (check.ok, says in check.detail) == (True, True), check.detail


async def test_a_file_that_is_wrong_is_named_with_the_mend(tmp_path: Path) -> None:
    files = tmp_path / "config"
    missing = await config_check(tmp_path, config_dir=str(files))
    assert not missing.ok
    assert f"{files}: it cannot be read (No such file or directory)" in missing.detail
    files.mkdir()
    (files / "billing.settle_time").write_text("90")
    (files / "billing.settel_time").write_text("90")
    (files / "gateway.age_max").write_text("soon")
    check = await config_check(tmp_path, config_dir=str(files))
    assert not check.ok
    assert "billing.settel_time: there is no such setting; did you mean billing.settle_time" in check.detail
    assert "gateway.age_max: must be a valid integer" in check.detail
    assert "billing.settle_time = 90 (file)" in check.detail
    assert str(files) in check.mend


async def test_events_that_were_given_up_are_counted_by_their_queues(tmp_path: Path, database_url: str) -> None:
    bring_up_to_date(database_url, 2)
    assert (await config_check(tmp_path, "dead letters", database_url=database_url)).ok
    with psycopg.connect(database_url) as connection:
        for queue, replayed in (("a", None), ("b", None), ("b", None), ("c", "2026-03-29")):
            connection.execute(
                "INSERT INTO events.dead_letter (id, queue, exchange, routing_key, headers, body, error, attempts,"
                " replayed_at) VALUES (gen_random_uuid(), %s, 'e', 'r', '{}', '', 'full', 1, %s)",
                (queue, replayed),
            )
    check = await config_check(tmp_path, "dead letters", database_url=database_url)
    assert (check.ok, check.detail) == (False, "events that were not handled wait: b: 2, a: 1")


async def test_what_operators_set_at_the_service_is_shown_as_theirs(tmp_path: Path, database_url: str) -> None:
    bring_up_to_date(database_url, 2)
    rule = {"enabled": True, "percentage": "12.50", "targets": {"stations": ["DE-1"]}}
    documents = {"billing.settle_time": {"value": 120}, "pricing.demand": {"rule": rule}}
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE config.revision SET revision = 2")
        for name, document in documents.items():
            values = (name, json.dumps(document))
            connection.execute("INSERT INTO config.setting VALUES (%s, %s, 1, now(), 'test', 'test')", values)
    check = await config_check(tmp_path, database_url=database_url)
    assert check.ok
    assert check.detail == (
        "revision 2; billing.settle_time = 120 (service); pricing.demand = 12.5 % of stations, with exceptions (flag)"
    )
