"""Who may, over all of the platform: every operation that it describes, times every kind of token."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from ingest.gateway import PATH
from kit.auth.scopes import KINDS, Kind, kinds_with
from kit.web.route_rules import access_of
from tests.ingest.conftest import CERTIFICATE
from tests.voltstream.platform import Up, up, voltstream
from voltstream.services import all_services

pytestmark = pytest.mark.usefixtures("processes")

Rule = frozenset[Kind] | str
PUBLIC: Final = "public"
# What no service may declare otherwise, whatever it adds: the rules themselves follow from the declarations.
PUBLIC_PATHS: Final = {"/", "/healthz", "/ready", "/metrics", "/api/v1/billing/payments/{provider}/webhook"}
MONEY_MOVES: Final = {
    "/api/v1/billing/charge",
    "/api/v1/billing/cancel",
    "/api/v1/billing/invoices/{id}/credit",
    "/api/v1/billing/payments/{id}/refund",
    "/api/v1/billing/statements",
}
DECISIONS: Final = {f"/api/v1/billing/charges/{{id}}/{decision}" for decision in ("approve", "correct", "void")}

SECRETS: Final = {("get", "/api/v1/notifications/preferences/webhook-secret")}
PREVIEWS: Final = {("post", "/api/v1/notifications/templates/{kind}/{channel}/{language}/preview")}  # changes nothing
REPORTS: Final = {"/api/v1/reports"}  # which changes nothing that is reported

CUSTOMERS: Final = {
    ("post", "/api/v1/billing/customers"),
    ("put", "/api/v1/billing/customers/{id}"),
    ("delete", "/api/v1/billing/customers/{id}"),
}


def _rules() -> dict[tuple[str, str], Rule]:
    """Who may, as every service's routes declare it."""
    rules: dict[tuple[str, str], Rule] = {
        ("post", PATH): frozenset(kinds_with("readings:write"))
    }  # its router is made as it opens
    for service in all_services():
        if isinstance(service.router, APIRouter):
            app = FastAPI()
            app.include_router(service.router)
            for route in iter_route_contexts(app.routes):
                access, path = access_of(route), str(route.path_format)
                if access is not None:
                    rules |= {(method.lower(), path): access for method in route.methods or ()}
    return rules


def test_what_the_declarations_may_not_say() -> None:
    rules = _rules()
    assert {path for (_, path), rule in rules.items() if rule == PUBLIC} <= PUBLIC_PATHS
    by_kind = {kind: {place for place, rule in rules.items() if kind in rule} for kind in KINDS}
    assert by_kind["device"] == {("post", PATH)}  # a charger's token opens nothing but the gateway
    changing = {(method, path) for method, path in rules if method not in ("get", "head")} - PREVIEWS
    assert {path for _, path in by_kind["driver"] & changing} <= {
        "/api/v1/sessions",
        "/api/v1/sessions/{id}/stop",
        "/api/v1/reservations",
        "/api/v1/reservations/{id}",
        "/api/v1/reservations/{id}/confirm",
        "/api/v1/reservations/waiting",
        "/api/v1/reservations/waiting/{id}",
        "/api/v1/reservations/waiting/{id}/accept",
        "/api/v1/reservations/waiting/{id}/skip",
        "/api/v1/billing/charge",
        "/api/v1/notifications/preferences",
        "/api/v1/privacy/{subject}",
    }
    assert not by_kind["operator"] & {("post", path) for path in MONEY_MOVES}
    posts = {("post", path) for path in MONEY_MOVES | DECISIONS | REPORTS}
    assert by_kind["finance"] & changing == CUSTOMERS | posts
    private = {place for place, rule in rules.items() if rule != PUBLIC}
    assert by_kind["admin"] == private
    assert by_kind["support"] <= by_kind["auditor"] == private - changing - SECRETS
    assert by_kind["auditor"] - by_kind["support"] == {
        ("get", "/api/v1/audit"),
        ("get", "/api/v1/privacy/{subject}"),
        ("get", "/api/v1/stations/{station_id}/credentials"),
    }


def _issue(data_dir: Path, kind: Kind) -> str:
    subject = {"driver": ("--subject", "D1"), "device": ("--any-station",)}.get(kind, ())
    issued = voltstream("token", "issue", "--kind", kind, *subject, "--data-dir", str(data_dir), "--json")
    document = json.loads(issued.stdout)
    assert (document["kind"], document["subject"]) == (kind, "D1" if kind == "driver" else None)
    return str(document["token"])


def _status(client: httpx.Client, method: str, path: str, token: str | None) -> int:
    """Of the answer's head: live streams have no end."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with client.stream(method, re.sub(r"{.*?}", "X", path), headers=headers) as answer:
        return answer.status_code


def _operations(platform: Up) -> set[tuple[str, str]]:
    paths = json.loads(platform.text("/openapi.json"))["paths"]
    return {(method, path) for path, operations in paths.items() for method in operations}


def _post_by_certificate(platform: Up) -> None:
    """A charger that a proxy on this machine knows, once its credentials are set."""
    headers = {"Client-Cert": CERTIFICATE.decode()}
    reading = {"station_id": "cp1", "connector_id": 1, "ts": datetime.now(UTC).isoformat(), "power_w": 1}
    with httpx.Client(base_url=platform.api, timeout=30, trust_env=False) as client:
        operator = {"Authorization": f"Bearer {platform.first_line['operator_token']}"}
        for path, body in (("", {}), ("/credentials", {"certificate_subject": "cp1.example"})):
            assert client.put(f"/api/v1/stations/CP1{path}", json=body, headers=operator).is_success
        assert client.post(PATH, json=reading, headers=headers).status_code == 202
        assert client.post(PATH, json=reading | {"station_id": "CP2"}, headers=headers).status_code == 403
        assert client.get("/api/v1/stations/CP1", headers=headers).status_code == 403


def test_every_operation_is_for_those_that_its_rule_names_and_for_nobody_else(data_dir: Path) -> None:
    proxied = {"trusted_proxies": "127.0.0.1", "client_certificate_header": "client-cert"}
    with up(data_dir, "--no-simulator", **proxied) as platform:
        _post_by_certificate(platform)
        rules, operations = _rules(), _operations(platform)
        undeclared = {path for _, path in operations - rules.keys()}
        assert undeclared <= PUBLIC_PATHS, "these need a rule: who may?"
        assert {path for _, path in rules} <= {path for _, path in operations}
        tokens = {kind: _issue(data_dir, kind) for kind in KINDS}
        wrong = []
        with httpx.Client(base_url=platform.api, timeout=30, trust_env=False) as client:
            for method, path in sorted(operations & rules.keys()):
                rule = rules[method, path]
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
        (("--kind", "finance", "--station", ""), "a station id has"),
        (("--kind", "finance", "--scope", "billing:refunds"), "billing:refund"),
        (("--kind", "support", "--scope", "audit:read"), "has no such scope"),
        (("--kind", "finance", "--expires", "1y"), "--expires: '1y' is no duration"),
        (("--kind", "finance", "--expires", "2020-01-01T00:00:00Z"), "is past"),
        (("--kind", "finance", "--expires", "2020-01-01T00:00:00"), "is not an instant"),
        (("--kind", "device"), "--any-station makes a token for all stations"),
        (("--any-station", "--station", "A"), "leave it or --station out"),
        (("--kind", "operator", "--any-station"), "leave it or --station out"),
        (("--kind", "device", "--any-station", "--organisation", "Nord AG"), "--organisation is for tokens of people"),
        (("--kind", "operator", "--organisation", " "), "an organisation's name has"),
        (("--kind", "king"), "write one of admin, operator, finance"),
    ):
        refused = voltstream("token", "issue", *arguments, "--data-dir", str(data_dir))
        assert (refused.returncode, refused.stdout) == (2, "")
        assert says in refused.stderr
    assert not data_dir.exists()


def test_a_token_is_rotated_listed_and_revoked_by_command(data_dir: Path) -> None:
    def run(*arguments: str) -> list[dict[str, Any]]:
        done = voltstream("token", *arguments, "--data-dir", str(data_dir), "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    with up(data_dir, "--no-simulator") as platform:
        scope, station = ("--scope", "telemetry:read"), ("--station", "a")
        (issued,) = run("issue", "--kind", "support", *scope, *station, "--expires", "2h", "--label", "desk")
        assert (issued["scopes"], issued["stations"]) == (["telemetry:read"], ["A"])
        too_long = voltstream("token", "issue", "--kind", "support", "--expires", "400d", "--data-dir", str(data_dir))
        assert (too_long.returncode, "365 days at most" in too_long.stderr) == (2, True)
        (rotated,) = run("rotate", issued["id"], "--overlap", "30m")
        assert rotated["previous_expires_at"] < rotated["expires_at"] == issued["expires_at"]
        with httpx.Client(base_url=platform.api, timeout=30, trust_env=False) as client:
            for token in (issued["token"], rotated["token"]):
                assert _status(client, "get", "/api/v1/telemetry/live", token) == 200
                assert _status(client, "get", "/api/v1/telemetry/a/live", token) == 404, "it sent nothing"
                assert _status(client, "get", "/api/v1/telemetry/b/live", token) == 403
                assert _status(client, "get", "/api/v1/telemetry/ledger", token) == 403
        (limited,) = run("issue", "--kind", "operator", "--organisation", "Nord AG")
        assert limited["expires_at"] is not None
        assert (limited["organisation"], limited["stations"]) == ("Nord AG", None)
        with httpx.Client(base_url=platform.api, timeout=30, trust_env=False) as client:
            assert _status(client, "get", "/api/v1/stations", limited["token"]) == 200
            assert _status(client, "get", "/api/v1/telemetry/a/live", limited["token"]) == 404, "nobody registered it"
            assert _status(client, "get", "/api/v1/telemetry/ledger", limited["token"]) == 403
        (listed,) = [one for one in run("list") if one["id"] == issued["id"]]
        assert (listed["kind"], listed["label"], listed["revoked_at"]) == ("support", "desk", None)
        assert run("revoke", issued["id"]) == [{"revoked": issued["id"]}]
        assert run("revoke", "--jti", "J1") == [{"jti": "J1"}]
        moment = ("--subject", "D1", "--before", "2026-11-01T00:00:00Z")
        assert run("revoke", *moment) == [{"subject": "D1", "issued_before": "2026-11-01T00:00:00.000Z"}]
    for arguments, says in (
        (("rotate", issued["id"]), "there is no valid token"),
        (("rotate", issued["id"], "--overlap", "1y"), "--overlap: '1y' is no duration"),
        (("revoke",), "say which"),
        (("revoke", issued["id"], "--jti", "J1"), "say which"),
        (("revoke", "--jti", "J1", "--before", "2026-11-01T00:00:00Z"), "--before is of"),
        (("revoke", "--jti", ""), "--jti: 1 to"),
    ):
        refused = voltstream("token", *arguments, "--data-dir", str(data_dir))
        assert (refused.returncode, refused.stdout) == (2, "")
        assert says in refused.stderr
