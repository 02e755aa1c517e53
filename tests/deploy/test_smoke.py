"""The look at a platform that was just deployed: it works on one that works, and says what is wrong with another."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from deploy.smoke import Smoke
from tests.voltstream.platform import ENOUGH_S, ROOT, Up, environment, up

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """All in one process."""
    with up(tmp_path_factory.mktemp("platform") / "data", "--no-simulator") as running:
        yield running


@pytest.fixture(scope="module")
def tokens(platform: Up, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The variables that name their files."""
    folder, found = tmp_path_factory.mktemp("tokens"), {}
    for kind in ("operator", "device"):
        file = folder / kind
        file.write_text(f"{platform.first_line[f'{kind}_token']}\n")
        found[f"{kind}_token_file"] = str(file)
    return found


def _smoke(url: str, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.smoke", url, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=ENOUGH_S, check=False
    )


def test_a_platform_that_works_passes_every_step(platform: Up, tokens: Mapping[str, str]) -> None:
    for _ in range(2):  # a station that is new, and one that is known
        done = _smoke(platform.api, "--json", **tokens)
        assert done.returncode == 0, done.stdout + done.stderr
        steps = [json.loads(line) for line in done.stdout.splitlines()]
        assert [step["error"] for step in steps] == ["", "", ""]


def test_nothing_is_written_without_a_devices_token(platform: Up, tokens: Mapping[str, str]) -> None:
    before = platform.ledger()["accepted"]
    done = _smoke(platform.api, operator_token_file=tokens["operator_token_file"])
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert platform.ledger()["accepted"] == before


def test_what_fails_is_named_and_ends_it(platform: Up, tokens: Mapping[str, str]) -> None:
    wrong = _smoke(platform.api, operator_token_file=tokens["device_token_file"])
    assert wrong.returncode == 1
    assert "403 where 200 was expected" in wrong.stdout
    away = _smoke("http://127.0.0.1:1", **tokens)
    assert (away.returncode, len(away.stdout.splitlines())) == (1, 1)
    assert "VOLTSTREAM_OPERATOR_TOKEN_FILE is not set" in _smoke(platform.api).stderr


def test_another_server_at_that_address_is_no_platform() -> None:
    answers = {"GET": httpx.Response(401, text="<html>")}
    client = httpx.Client(base_url="http://a", transport=httpx.MockTransport(lambda request: answers[request.method]))
    (step,) = Smoke(client, "operator").steps()
    assert "but no JSON: '<html>'" in step.error


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    done = _smoke("http://127.0.0.1:1", operator_token_file=str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "VOLTSTREAM_OPERATOR_TOKEN_FILE: " in done.stderr
