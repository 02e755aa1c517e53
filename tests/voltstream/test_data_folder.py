"""What commands find in the data folder of `up`: the platform's address, tokens, and whether there is a database."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kit.errors import ConfigError
from kit.settings import CLIENT_VARIABLES, Settings
from tests.voltstream.platform import readings, up, voltstream
from voltstream.cli.main import _defaults
from voltstream.errors import PlatformFailed, WrongUsage
from voltstream.runtime.data_folder import (
    platform_database,
    platform_name,
    platform_url,
    published_address,
    read_entries,
    write_entry,
)

URL = "http://127.0.0.1:54321"
FILE = "address.json"


def settings_of(folder: Path, **more: object) -> Settings:
    return Settings(data_dir=folder, **more)  # type: ignore[arg-type]  # as keywords of every type


def write_address(folder: Path, pid: int, started_s: float) -> None:
    write_entry(settings_of(folder), FILE, {"url": URL, "pid": pid, "started_s": started_s})


def test_an_address_is_found_while_the_platform_runs_and_by_its_owner_alone(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data", port=8123)
    assert platform_url(settings) == "http://127.0.0.1:8123"
    with published_address(settings, URL):
        assert platform_url(settings) == URL
        assert stat.S_IMODE((tmp_path / "data" / FILE).stat().st_mode) == 0o600
    assert platform_url(settings) == "http://127.0.0.1:8123"


def test_two_databases_of_one_folder_have_an_address_each(tmp_path: Path) -> None:
    first, second = (settings_of(tmp_path, database_url=f"postgresql://u:secret@h/{name}") for name in "ab")
    with published_address(first, URL):
        with published_address(second, "http://127.0.0.1:2"):
            assert (platform_url(first), platform_url(second)) == (URL, "http://127.0.0.1:2")
            assert "secret" not in (tmp_path / FILE).read_text()
        assert (platform_url(first), platform_url(second)) == (URL, "http://127.0.0.1:8080")


@pytest.mark.usefixtures("processes")
def test_an_address_whose_process_is_gone_is_told_and_how_to_go_on(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    write_address(tmp_path, gone.pid, 1.0)
    with pytest.raises(PlatformFailed, match=rf"was at {URL} and is gone \(process {gone.pid}\).*--url"):
        platform_url(settings_of(tmp_path))


def test_a_pid_that_another_process_has_by_now_is_not_the_platform(tmp_path: Path) -> None:
    me = psutil.Process()
    write_address(tmp_path, me.pid, me.create_time() - 100)
    with pytest.raises(PlatformFailed, match="is gone"):
        platform_url(settings_of(tmp_path))
    write_address(tmp_path, me.pid, me.create_time())
    assert platform_url(settings_of(tmp_path)) == URL


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"embedded": 7}', '{"embedded": {"url": "x"}}'])
def test_a_file_that_is_no_address_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert platform_url(settings_of(tmp_path)) == "http://127.0.0.1:8080"
    with published_address(settings_of(tmp_path), URL):
        assert platform_url(settings_of(tmp_path)) == URL


def test_a_file_that_cannot_be_read_or_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ConfigError, match=FILE):
        read_entries(settings_of(tmp_path), FILE)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"tokens\.json: cannot be read"):
        write_entry(settings_of(tmp_path / "file"), "tokens.json", {})
    (tmp_path / "tokens.new").mkdir()
    with pytest.raises(ConfigError, match=r"VOLTSTREAM_DATA_DIR=.*cannot be written"):
        write_entry(settings_of(tmp_path), "tokens.json", {})


def test_a_folder_without_a_database_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="--data-dir or VOLTSTREAM_DATA_DIR"), platform_database(settings_of(tmp_path)):
        raise AssertionError("there is none")
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # names only


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "issue", "--any-station"),
        ("token", "list"),
        ("events", "dlq", "list"),
        ("billing", "export", "--out", "-"),
        ("billing", "pdf", "2026-0000001", "--out", "x.pdf"),
    ],
)
@pytest.mark.usefixtures("processes")
def test_no_command_makes_a_second_platform(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    folder = tmp_path / "other"
    refused = voltstream(*arguments, "--data-dir", str(folder))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{folder} has no platform's database" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not folder.exists()


def test_a_platform_is_named_by_its_folder_or_its_database_without_the_password(tmp_path: Path) -> None:
    assert platform_name(settings_of(tmp_path)) == str(tmp_path)
    assert "secret" not in platform_name(settings_of(tmp_path, database_url="postgresql://u:secret@h/d"))


@pytest.fixture
def platform_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder as this process's platform at URL leaves it, named by VOLTSTREAM_DATA_DIR alone."""
    for name in [name for name in os.environ if name.startswith("VOLTSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VOLTSTREAM_DATA_DIR", str(tmp_path))
    me = psutil.Process()
    write_address(tmp_path, me.pid, me.create_time())
    write_entry(settings_of(tmp_path), "tokens.json", {"device_token": "vsd_x", "operator_token": "vso_x"})
    return tmp_path


@pytest.mark.parametrize("command", [["replay", "a.csv"], ["simulate", "--for", "1s"], ["--debug", "simulate"]])
def test_senders_use_address_and_token_of_the_data_folder(platform_folder: Path, command: list[str]) -> None:
    name = next(word for word in command if word in ("replay", "simulate"))
    assert _defaults(command) == {name: {"url": URL, "token": "vsd_x"}}
    assert _defaults([*command, "--help"]) == {}
    for here in (["--url", "http://localhost:1"], ["--url=http://127.0.0.1:1"]):
        assert _defaults([*command, *here]) == {name: {"token": "vsd_x"}}
    assert _defaults([*command, "--url", "http://elsewhere"]) == {name: {}}, "our token is for this machine only"


def test_the_address_of_the_environment_comes_before_that_of_the_folder(
    platform_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLTSTREAM_URL", "http://elsewhere")
    assert _defaults(["simulate"]) == {"simulate": {}}


def test_another_data_folder_is_another_platform(platform_folder: Path) -> None:
    for other in (["--data-dir", str(platform_folder / "x")], [f"--data-dir={platform_folder / 'x'}"]):
        assert _defaults(["replay", "a.csv", *other]) == {"replay": {"url": "http://127.0.0.1:8080"}}


def test_other_commands_have_no_such_defaults(platform_folder: Path) -> None:
    assert _defaults(["ledger"]) == _defaults([]) == _defaults(["up"]) == {}


@pytest.mark.usefixtures("processes")
def test_operators_commands_go_to_the_platform_of_the_data_folder(tmp_path: Path) -> None:
    me = psutil.Process()
    write_entry(settings_of(tmp_path), "tokens.json", {"device_token": "vsd_x", "operator_token": "vso_x"})
    entry = {"url": "http://127.0.0.1:1", "pid": me.pid, "started_s": me.create_time()}
    write_entry(settings_of(tmp_path), FILE, entry)
    asked = voltstream("ledger", data_dir=str(tmp_path))
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "http://127.0.0.1:1 does not answer" in asked.stderr
    named = voltstream("ledger", "--data-dir", str(tmp_path), url="http://127.0.0.1:2")
    assert "http://127.0.0.1:1 does not answer" in named.stderr, "an option beats the environment"
    write_entry(settings_of(tmp_path), FILE, entry | {"started_s": 1.0})
    gone = voltstream("ledger", data_dir=str(tmp_path))
    assert (gone.returncode, gone.stdout, gone.stderr.count("\n")) == (1, "", 1)
    assert "is gone" in gone.stderr


def test_an_address_file_is_json_for_whoever_looks(tmp_path: Path) -> None:
    with published_address(settings_of(tmp_path), URL):
        entry = json.loads((tmp_path / FILE).read_text())["embedded"]
    assert (entry["url"], entry["pid"]) == (URL, os.getpid())


@pytest.mark.usefixtures("processes")
def test_up_prints_lines_for_another_shell_and_leaves_no_address_behind(data_dir: Path) -> None:
    shown = voltstream("up", "--for", "10ms", "--no-simulator", "--port", "0", data_dir=str(data_dir))
    assert shown.returncode == 0, shown.stderr
    exported = dict(
        line.removeprefix("export ").split("=", 1) for line in shown.stdout.splitlines() if line.startswith("export ")
    )
    assert set(exported) == CLIENT_VARIABLES - {
        "VOLTSTREAM_FINANCE_TOKEN",
        "VOLTSTREAM_ADMIN_TOKEN",
    }  # issued to them alone
    tokens = read_entries(settings_of(data_dir), "tokens.json")["embedded"]
    assert exported["VOLTSTREAM_DEVICE_TOKEN"] == tokens["device_token"]
    assert exported["VOLTSTREAM_OPERATOR_TOKEN"] == tokens["operator_token"]
    assert exported["VOLTSTREAM_URL"].startswith("http://127.0.0.1:")
    assert read_entries(settings_of(data_dir), FILE) == {}


@pytest.mark.usefixtures("processes")
def test_commands_beside_up_need_no_address_and_issue_tokens_that_it_takes(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        here = {"data_dir": str(data_dir)}
        ledger = voltstream("ledger", "--json", **here)
        assert (ledger.returncode, json.loads(ledger.stdout)["total"]["accepted"]) == (0, 0), ledger.stderr
        issued = voltstream("token", "issue", "--any-station", **here)
        assert issued.stderr.strip() == f"A token of kind device for the platform of {data_dir}:"
        sent = platform.post(readings("A", 3, 1_767_600_000_000), issued.stdout.strip())
        assert sent.status_code == 202
        file = data_dir.parent / "a.csv"
        file.write_text("station_id,connector_id,ts,power_w\nB,1,2026-01-05T08:00:00Z,7\n")
        replayed = voltstream("replay", str(file), "--json", **here)
        assert (replayed.returncode, json.loads(replayed.stdout)["accepted"]) == (0, 1), replayed.stderr
        assert platform.ledger()["accepted"] == 4
