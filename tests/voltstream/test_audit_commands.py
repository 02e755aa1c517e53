"""The audit as whoever runs the platform sees it: what is kept of requests and commands, and of changes after that."""

import json
from pathlib import Path

import httpx
import psycopg
import pytest

from kit.database.embedded import EmbeddedPostgres
from tests.voltstream.platform import Up, readings, up, voltstream
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")


def _listed(platform: Up, data_dir: Path, *arguments: str) -> list[dict[str, object]]:
    done = voltstream("audit", "list", "--data-dir", str(data_dir), "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_who_did_what_is_listed_and_what_was_changed_since_is_found(data_dir: Path) -> None:
    where = ("--data-dir", str(data_dir))
    with up(data_dir, "--no-simulator") as platform:
        issued = voltstream("token", "issue", "--kind", "finance", *where, "--json")
        token_id = json.loads(issued.stdout)["id"]
        setting = {"name": "billing.settle_time", "value": 90, "version": 0, "reason": "a test"}
        token = platform.first_line["operator_token"]
        for given, status in ((token, 200), ("vso_" + "x" * 43, 401)):
            headers = {"authorization": f"Bearer {given}", "x-correlation-id": f"test-{status}"}
            async with httpx.AsyncClient(base_url=platform.api, timeout=30, trust_env=False) as client:
                answer = await client.post("/api/v1/config", json=setting, headers=headers)
            assert answer.status_code == status, answer.text
        assert platform.post(readings("CP1", 3, 1_700_000_000_000)).status_code == 202

        def written() -> list[dict[str, object]]:
            return _listed(platform, data_dir, "--endpoint", "/api/v1/config", "--status", "401")

        (refused,) = await eventually(written, within_s=60)
        assert (refused["actor"], refused["correlation_id"]) == ("anonymous", "test-401")
        (changed,) = _listed(platform, data_dir, "--action", "setting.changed")
        assert (changed["entity"], changed["before"], changed["after"]) == (
            "setting/billing.settle_time", None, {"value": 90},
        )  # fmt: skip
        assert (changed["role"], changed["reason"]) == ("operator", "a test")
        (made,) = _listed(platform, data_dir, "--entity", f"token/{token_id}")
        assert (made["action"], str(made["actor"])[:4]) == ("token.issued", "cli/")
        table = voltstream("audit", "list", *where, "--limit", "2")
        assert table.returncode == 0
        assert len(table.stdout.splitlines()) >= 3
        assert '"action": "request"' in platform.log()
        assert token not in platform.log()

        def verified() -> dict[str, object]:
            done = voltstream("audit", "verify", *where, "--json")
            assert done.returncode == 0, done.stderr
            found: dict[str, object] = json.loads(done.stdout)
            return found if found["unsealed"] == 0 else {}

        found = await eventually(verified, within_s=120)
        assert found["ok"]
        assert platform.stop()[0] == 0
    with EmbeddedPostgres.start(data_dir) as server, psycopg.connect(server.url, autocommit=True) as owner:
        kept = owner.execute("SELECT sum((SELECT sum(n) FROM unnest(requests) AS n)) FROM audit.telemetry_minute")
        assert kept.fetchone() == (1,)
        owner.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        owner.execute("UPDATE audit.entry SET after = '{\"value\": 60}' WHERE id = %s", (changed["id"],))
    done = voltstream("audit", "verify", *where)
    assert done.returncode == 1
    assert f"entry {changed['id']}: was changed" in done.stdout
    assert "1 faults" in done.stderr
    logged = f"{found['last_block']}={found['hash']}"
    for block, what in ((f"9{logged}", "was logged, and is not there"), (f"1={'0' * 64}", "is another one")):
        again = voltstream("audit", "verify", "--block", logged, "--block", block, *where)
        assert what in again.stdout
    wrong = voltstream("audit", "verify", "--block", "x", *where)
    assert (wrong.returncode, "NUMBER=HASH" in wrong.stderr) == (2, True)
