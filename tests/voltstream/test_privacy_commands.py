"""`voltstream privacy`: a driver of a running platform exported and erased by an administrator."""

import json
from pathlib import Path

import httpx
import pytest

from tests.voltstream.platform import Up, up, voltstream
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")


def _preferences(platform: Up, token: str, body: dict[str, object] | None = None) -> httpx.Response:
    return httpx.request(
        "GET" if body is None else "PUT", f"{platform.api}/api/v1/notifications/preferences", json=body,
        headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False,
    )  # fmt: skip


async def test_a_driver_is_exported_and_erased(data_dir: Path) -> None:
    where = ("--data-dir", str(data_dir))
    with up(data_dir, "--no-simulator") as platform:
        driver, admin = (
            voltstream("token", "issue", *kind, *where).stdout.strip()
            for kind in (("--kind", "driver", "--subject", "acme/7 b"), ("--kind", "admin"))
        )
        assert _preferences(platform, driver, {"addresses": {"email": "ada@example.org"}}).status_code == 200
        for token, says in (((), "VOLTSTREAM_ADMIN_TOKEN"), (("--token", "x"), "401")):
            refused = voltstream("privacy", "export", "acme/7 b", *token, *where)
            assert refused.returncode == 1
            assert says in refused.stderr
        as_admin = ("--token", admin, *where)
        exported = json.loads(voltstream("privacy", "export", "acme/7 b", "--json", *as_admin).stdout)
        records = {part["kind"]: part["records"] for part in exported["data"]}
        assert records["preferences"][0]["addresses"] == {"email": "ada@example.org"}
        assert "preferences" in voltstream("privacy", "export", "acme/7 b", *as_admin).stdout
        unasked = voltstream("privacy", "erase", "acme/7 b", *as_admin)
        assert (unasked.returncode, unasked.stdout) == (2, "")
        assert "--yes" in unasked.stderr
        done = voltstream("privacy", "erase", "acme/7 b", "--yes", *as_admin)
        assert done.returncode == 0, done.stderr
        assert "1 erased" in done.stdout
        assert "kept until" in done.stdout  # entries of the audit
        again = json.loads(voltstream("privacy", "erase", "acme/7 b", "--yes", "--json", *as_admin).stdout)
        assert {part["kind"]: part["records"] for part in again["erased"]} == {"tokens": 1, "preferences": 1}
        left = json.loads(voltstream("privacy", "export", "acme/7 b", "--json", *as_admin).stdout)
        assert [part["kind"] for part in left["data"]] == ["audit_entries"]
        await eventually(lambda: _preferences(platform, driver).status_code == 401, within_s=60)
        wrong = voltstream("privacy", "erase", " x", "--yes", *as_admin)
        assert (wrong.returncode, "printable" in wrong.stderr) == (2, True)
