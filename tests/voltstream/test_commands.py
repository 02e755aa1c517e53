"""The command line: what it says, and how it refuses."""

import io
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from billing.exports.service import ExportFormat
from kit.auth.scopes import Kind
from kit.auth.token_lifetimes import TokenLifetimes
from kit.auth.token_store import StoredToken
from tests.voltstream.platform import voltstream
from voltstream.cli.commands.ledger import energy_table, ledger_table
from voltstream.cli.commands.token import tokens_table
from voltstream.cli.main import _COMMANDS, app
from voltstream.cli.options import duration_s, moment, one_of, period
from voltstream.errors import WrongUsage

pytestmark = pytest.mark.usefixtures("processes")

_NOWHERE = {
    "database_url": "postgresql://somebody:hunter2@127.0.0.1:1/none",
    "rabbitmq_url": "amqp://somebody:hunter2@127.0.0.1:1/",
    "kafka_url": "127.0.0.1:1",
    "redis_url": "redis://:hunter2@127.0.0.1:1",
}
_TOKEN_COMMANDS = ("issue", "list", "revoke", "rotate")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of whoever runs the tests are not theirs."""
    for name in list(os.environ):
        if name.startswith("VOLTSTREAM_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("command", [*([name] for name in _COMMANDS), *(["token", name] for name in _TOKEN_COMMANDS)])
def test_help_of_every_command_shows_an_example(command: list[str]) -> None:
    shown = CliRunner().invoke(app, [*command, "--help"], prog_name="voltstream")
    assert shown.exit_code == 0
    if command != ["token"]:
        assert "Example: " in shown.output
        assert f"voltstream {' '.join(command)}" in shown.output.partition("Example: ")[2]


@pytest.mark.parametrize("command", ["up", "migrate", "gateway", "api", "bridge", "worker", "relay"])
def test_check_validates_and_connects_to_nothing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, url in _NOWHERE.items():
        monkeypatch.setenv(f"VOLTSTREAM_{name.upper()}", url)
    shown = CliRunner().invoke(app, [command, "--check", "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["ok"] is True
    assert "hunter2" not in shown.output


def test_a_wrong_setting_is_named_with_its_mend_and_no_traceback() -> None:
    refused = voltstream("up", "--json", portt="8080", lateness_s="soon")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "VOLTSTREAM_PORTT: there is no such setting; did you mean VOLTSTREAM_PORT?" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_debug_shows_the_traceback() -> None:
    refused = voltstream("up", "--check", "--debug", rabbitmq_url="amqp://127.0.0.1")
    assert refused.returncode == 1
    assert "Traceback" in refused.stderr
    assert "ConfigError" in refused.stderr


def test_a_service_alone_says_which_servers_it_needs() -> None:
    refused = voltstream("worker", database_url=_NOWHERE["database_url"])
    assert refused.returncode == 2
    assert "set VOLTSTREAM_REDIS_URL, VOLTSTREAM_KAFKA_URL, VOLTSTREAM_RABBITMQ_URL" in refused.stderr
    assert "VOLTSTREAM_DATABASE_URL" not in refused.stderr


def test_a_dependency_that_is_away_is_one_line() -> None:
    refused = voltstream("relay", database_url=_NOWHERE["database_url"], rabbitmq_url="", kafka_url="")
    assert refused.returncode == 2
    away = voltstream("api", **_NOWHERE, log_level="error")
    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr.count("\n") == 1
    assert "PostgreSQL does not answer" in away.stderr
    assert "hunter2" not in away.stderr


def test_the_doctor_finds_every_server_that_is_away_and_says_how_to_fix_it() -> None:
    examined = voltstream("doctor", "--json", **_NOWHERE)
    assert (examined.returncode, examined.stderr) == (1, "")
    document = json.loads(examined.stdout)
    wrong = {check["name"]: check["mend"] for check in document["checks"] if not check["ok"]}
    assert set(wrong) == {"postgresql", "clock", "rabbitmq", "kafka", "redis"}
    assert "VOLTSTREAM_REDIS_URL" in wrong["redis"]
    assert "hunter2" not in examined.stdout
    assert not document["ok"]


def test_the_doctor_asks_for_a_migration_and_then_is_content(database_url: str) -> None:
    before = json.loads(voltstream("doctor", "--json", database_url=database_url).stdout)
    assert [check["mend"] for check in before["checks"] if not check["ok"]] == ["run `voltstream migrate`"]
    migrated = json.loads(voltstream("migrate", "--json", database_url=database_url).stdout)
    assert migrated["applied"] == migrated["there"] != []
    again = json.loads(voltstream("migrate", "--json", database_url=database_url).stdout)
    assert again == {"applied": [], "there": migrated["there"]}
    after = voltstream("doctor", "--json", database_url=database_url)
    assert (after.returncode, json.loads(after.stdout)["ok"]) == (0, True)
    other = json.loads(voltstream("doctor", "--json", database_url=database_url, partitions="7").stdout)
    assert [check["mend"] for check in other["checks"] if not check["ok"]] == ["set VOLTSTREAM_PARTITIONS=4"]


def test_ledger_of_a_platform_that_is_not_there_is_one_line() -> None:
    refused = voltstream("ledger", "--url", "http://127.0.0.1:1", "--token", "vso_x")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert "start `voltstream up`" in refused.stderr


@pytest.mark.parametrize("token", ["vso_…", "vso_a\nb", "Bearer vso_a"])
def test_a_token_that_no_header_can_carry_is_one_line_without_it(token: str) -> None:
    refused = voltstream("ledger", "--url", "http://127.0.0.1:1", "--token", token)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "copy it whole" in refused.stderr
    assert token not in refused.stderr


def stored(kind: Kind, **more: Any) -> StoredToken:
    since = datetime(2026, 11, 28, 12, tzinfo=UTC)
    given = {"label": "", "created_at": since, "idle_from": since} | dict.fromkeys(
        (
            "stations",
            "organisation",
            "subject",
            "scopes",
            "expires_at",
            "last_used_at",
            "revoked_at",
            "previous_expires_at",
        )
    )
    return StoredToken(token_id=uuid4(), kind=kind, **{**given, **more})


def test_the_list_of_tokens_is_a_line_each_at_80_columns_and_its_ids_are_whole() -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    tokens = [
        stored("device", label="car park north, of the city's works", stations=("DE*VLT*E1", "DE*VLT*E2")),
        stored("operator", label="voltstream up", last_used_at=now - timedelta(minutes=130)),
        stored("driver", subject="D-4711", expires_at=now + timedelta(days=89, hours=5)),
        stored("support", scopes=("sessions:read",), expires_at=now),
        stored("finance", label="[red]books[/red]", revoked_at=datetime(2026, 11, 29, tzinfo=UTC)),
        stored("auditor", label="books of 2025", idle_from=now - timedelta(days=90)),
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(tokens_table(tokens, now, TokenLifetimes(unused_max=timedelta(days=90))))
    assert isinstance(console.file, io.StringIO)
    heading, *lines = console.file.getvalue().splitlines()
    assert heading.split() == ["id", "kind", "expires", "used", "for"]
    assert max(map(len, lines)) <= 80
    shown = ("DE*VLT*E1, DE*V", "2 h", "89 d", "expired", "revoked", "idle")
    purposes = ("DE*VLT*E1, DE*V", "voltstream up", "D-4711", "sessions:read", "[red]books[/red]", "books of 2025")
    for line, token, part, purpose in zip(lines, tokens, shown, purposes, strict=True):
        assert line.split()[:2] == [str(token.token_id), token.kind]
        assert part in line
        assert purpose in line


def test_the_ledger_is_a_line_a_partition_at_80_columns() -> None:
    entry = dict.fromkeys(("accepted", "stored"), 1_234_567)
    entry |= dict.fromkeys(("duplicate", "quarantined", "in_flight", "in_windows"), 12_345)
    entry |= {"partition": 1_023, "closed": True}
    console = Console(file=io.StringIO(), width=80)
    console.print(ledger_table({"partitions": [entry], "total": entry}))
    assert isinstance(console.file, io.StringIO)
    heading, *rows = console.file.getvalue().splitlines()
    assert "quarantined" in heading
    assert "in windows" in heading
    assert [row.split()[0] for row in rows] == ["1023", "all"]


def test_rejected_energy_has_its_reason() -> None:
    entry = {"rise_wh": 5.5, "in_sessions_wh": 2.0, "outside_wh": 0.5, "rejected_wh": 3.0}
    leapt, fine = (entry | {"rejected_by_reason_wh": {"register_leapt": wh}} for wh in (3.0, 0.0))
    console = Console(file=io.StringIO(), width=80)
    energy = {"connectors": [{"connector_id": 1, **leapt}, {"connector_id": 2, **fine}], "total": leapt}
    console.print(energy_table({**energy, "main_meter": None}))
    assert isinstance(console.file, io.StringIO)
    assert ["register_leapt" in row for row in console.file.getvalue().splitlines()] == [False, True, False, True]


@pytest.mark.parametrize(
    ("text", "moment_"),
    [
        ("2026-11-28", datetime(2026, 11, 28, tzinfo=UTC)),
        ("2026-11-28T01:00:00+01:00", datetime(2026, 11, 28, tzinfo=UTC)),
        ("1795824000000", datetime(2026, 11, 28, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_or_rfc_3339_or_ms(text: str, moment_: datetime) -> None:
    assert moment("--from", text) == moment_
    assert period(text, None) == (moment_, None)


@pytest.mark.parametrize("text", ["foo", "", "CSV"])
def test_what_is_none_of_the_choices_is_refused_with_all_of_them(text: str) -> None:
    with pytest.raises(WrongUsage, match=f"--format '{text}': write csv, jsonl, ocpi or parquet"):
        one_of("--format", ExportFormat)(text)
    assert one_of("--format", ExportFormat)("ocpi") is ExportFormat.OCPI


@pytest.mark.parametrize("text", ["2026-02-30", "2026-13-01", "28.11.2026", "2026-11", "1969-12-31", "2200-01-01", ""])
def test_what_is_no_moment_is_refused_with_its_option(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"--to '.*' is "):
        period(None, text)


def test_a_range_of_dates_is_half_open() -> None:
    since, until = period("2026-11-01", "2026-12-01")
    assert since is not None
    assert until is not None
    assert until - since == timedelta(days=30)
    with pytest.raises(WrongUsage, match="is not before"):
        period("2026-11-28", "2026-11-28")


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7_200), ("250ms", 0.25), ("7", 7)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3s", "0s", "1 week"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="30s"):
        duration_s(text)


def test_no_option_is_one_that_faust_takes_for_its_own() -> None:
    """When it is imported it looks for these in sys.argv, by their beginning."""
    for name in _COMMANDS:
        command = typer.main.get_command(app).get_command(None, name)  # type: ignore[attr-defined]  # it is a group
        options = [option for parameter in command.params for option in getattr(parameter, "opts", ())]
        assert not [option for option in options if option == "-L" or option.startswith(("--loop", "--datadir"))]
