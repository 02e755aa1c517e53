"""Who may, over all of the platform: every operation that it describes, times every kind of token."""

import json
import re
from pathlib import Path
from typing import Final

import httpx
import pytest

from kit.auth.token_store import KINDS, Kind
from tests.voltstream.platform import Up, up, voltstream

pytestmark = pytest.mark.usefixtures("processes")

ANYBODY: Final = "anybody"
OPERATOR: Final = frozenset[Kind]({"operator"})
OWN: Final = frozenset[Kind]({"operator", "driver"})  # a driver: their own
BOOKS: Final = frozenset[Kind]({"finance", "operator", "driver"})

# Every operation has a rule here. One that is described and has none fails the test: say who may before it is served.
RULES: Final[dict[tuple[str, str], frozenset[Kind] | str]] = {
    ("get", "/healthz"): ANYBODY,
    ("get", "/ready"): ANYBODY,
    ("get", "/metrics"): ANYBODY,
    ("post", "/api/v1/telemetry"): frozenset({"device"}),
    ("get", "/api/v1/telemetry/{station_id}"): OPERATOR,
    ("get", "/api/v1/telemetry/{station_id}/live"): OPERATOR,
    ("get", "/api/v1/telemetry/{station_id}/live/stream"): OPERATOR,
    ("get", "/api/v1/telemetry/live"): OPERATOR,
    ("get", "/api/v1/telemetry/live/stream"): OPERATOR,
    ("get", "/api/v1/telemetry/ledger"): OPERATOR,
    ("get", "/api/v1/telemetry/quarantine"): OPERATOR,
    ("get", "/api/v1/sessions"): OWN,
    ("post", "/api/v1/sessions"): OWN,
    ("get", "/api/v1/sessions/{id}"): OWN,
    ("post", "/api/v1/sessions/{id}/stop"): OWN,
    ("get", "/api/v1/sessions/{id}/readings"): OPERATOR,
    ("post", "/api/v1/pricing"): OPERATOR,
    ("get", "/api/v1/pricing/versions"): frozenset({"operator", "finance"}),
    ("get", "/api/v1/pricing/versions/{id}"): frozenset({"operator", "finance"}),
    ("get", "/api/v1/pricing/groups/{group}"): frozenset({"operator", "finance"}),
    ("put", "/api/v1/pricing/groups/{group}"): OPERATOR,
    ("get", "/api/v1/pricing/{station_id}"): frozenset({"operator", "finance", "driver"}),
    **{
        (method, f"/api/v1/pricing/demand/{target}"): OPERATOR
        for method in ("get", "put", "delete")
        for target in ("stations/{station_id}", "groups/{group}", "default")
    },
    ("get", "/api/v1/billing/invoices"): BOOKS,
    ("get", "/api/v1/billing/invoices/{id}"): BOOKS,
    ("get", "/api/v1/billing/invoices/{id}/explain"): BOOKS,
    ("get", "/api/v1/billing/invoices/{id}/pdf"): BOOKS,
    ("get", "/api/v1/billing/export"): frozenset({"finance", "operator"}),
    ("get", "/api/v1/billing/charges"): frozenset({"finance", "operator"}),
    ("get", "/api/v1/billing/payments/{id}"): BOOKS,
    ("post", "/api/v1/billing/charge"): frozenset({"finance", "driver"}),
    ("post", "/api/v1/billing/cancel"): frozenset({"finance"}),
    ("post", "/api/v1/billing/payments/{provider}/webhook"): ANYBODY,  # who has signed it
}


def _issue(data_dir: Path, kind: Kind) -> str:
    subject = ("--subject", "D1") if kind == "driver" else ()
    issued = voltstream("token", "issue", "--kind", kind, *subject, "--data-dir", str(data_dir), "--json")
    document = json.loads(issued.stdout)
    assert (document["kind"], document["subject"]) == (kind, "D1" if subject else None)
    return str(document["token"])


def _status(client: httpx.Client, method: str, path: str, token: str | None) -> int:
    """Of the answer's head: live streams have no end."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with client.stream(method, re.sub(r"{.*?}", "X", path), headers=headers) as answer:
        return answer.status_code


def _operations(platform: Up) -> set[tuple[str, str]]:
    paths = json.loads(platform.text("/openapi.json"))["paths"]
    return {(method, path) for path, operations in paths.items() for method in operations}


def test_every_operation_is_for_those_that_its_rule_names_and_for_nobody_else(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        operations = _operations(platform)
        assert operations - RULES.keys() == set(), "these need a rule: who may?"
        tokens = {kind: _issue(data_dir, kind) for kind in KINDS}
        wrong = []
        with httpx.Client(base_url=platform.api, timeout=30, trust_env=False) as client:
            for method, path in sorted(operations):
                rule = RULES[method, path]
                if isinstance(rule, str):
                    continue
                for token in (None, "vso_" + "x" * 43, "a.b.c"):
                    if _status(client, method, path, token) != 401:
                        wrong.append(f"{method} {path} does not ask who")
                for kind, token in tokens.items():
                    refused = _status(client, method, path, token) in (401, 403)
                    if refused == (kind in rule):
                        wrong.append(f"{method} {path}: {'refuses' if refused else 'lets in'} {kind}")
        assert not wrong, "\n".join(wrong)


def test_a_token_is_issued_for_whom_it_makes_sense_only(data_dir: Path) -> None:
    for arguments, says in (
        (("--kind", "driver"), "--subject names the driver"),
        (("--kind", "operator", "--subject", "D1"), "--subject names the driver"),
        (("--kind", "driver", "--subject", " D1"), "printable"),
        (("--kind", "finance", "--station", "A"), "--station binds a device's token"),
        (("--kind", "king"), "write one of device, operator, finance, driver"),
    ):
        refused = voltstream("token", "issue", *arguments, "--data-dir", str(data_dir))
        assert (refused.returncode, refused.stdout) == (2, "")
        assert says in refused.stderr
    assert not data_dir.exists()
