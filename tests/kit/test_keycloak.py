"""A real Keycloak: its roles by other names, code with PKCE, client credentials, keys, logout, a role taken away.

The light provider of test_oidc_provider.py is asked the same in every run; this one takes minutes to start.
"""

import asyncio
import base64
import hashlib
import html
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt
import pytest
from starlette.requests import Request

from deploy.servers import KEYCLOAK, ServerUnavailable
from deploy.servers.keycloak import ADMIN
from kit.auth.authenticator import REVOCATION_S, Authenticator
from kit.auth.jwks import READ_AGAIN_S, READ_EVERY_S
from kit.auth.signed_tokens import LEEWAY_S, SignedTokens
from kit.auth.token_store import Principal, TokenStore
from kit.clock import ManualClock, SystemClock, from_ms
from kit.database.postgres import Database
from kit.web.problem import Problem
from tests.kit.key_rotation import key_ends
from tests.private_servers import PrivateServers
from tests.waiting import eventually
from voltstream.settings import load_settings

pytestmark = pytest.mark.slow

CALLBACK: Final = "http://127.0.0.1/callback"
PASSWORD: Final = "only for tests"  # noqa: S105  # of users that nobody has
LIFETIME_S: Final = 2 * int(READ_EVERY_S)
ROLES: Final = {"cpo-operator": "operator", "ev-driver": "driver", "helpdesk": "support"}
_FOR_US: Final = {
    "name": "for voltstream",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-audience-mapper",
    "config": {"included.custom.audience": "voltstream", "access.token.claim": "true"},
}


def _user(name: str, *roles: str) -> dict[str, Any]:
    password = {"type": "password", "value": PASSWORD, "temporary": False}
    profile = {"email": f"{name}@example.com", "emailVerified": True, "firstName": name, "lastName": "Volt"}
    return {"username": name, "enabled": True, **profile, "credentials": [password], "realmRoles": list(roles)}


REALM: Final[dict[str, Any]] = {
    "realm": "volt",
    "enabled": True,
    "accessTokenLifespan": LIFETIME_S,
    "roles": {"realm": [{"name": name} for name in ROLES]},
    "clients": [
        {
            "clientId": "web", "publicClient": True, "standardFlowEnabled": True, "redirectUris": [CALLBACK],
            "attributes": {"pkce.code.challenge.method": "S256"}, "protocolMappers": [_FOR_US],
        },
        {
            "clientId": "machine", "secret": "machine-secret", "serviceAccountsEnabled": True,
            "standardFlowEnabled": False, "protocolMappers": [_FOR_US],
        },
    ],
    "users": [
        _user("alice", "cpo-operator", "ev-driver"),
        _user("mallory"),
        {"username": "service-account-machine", "enabled": True, "serviceAccountClientId": "machine",
         "realmRoles": ["helpdesk"]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def keycloak_url(session_servers: PrivateServers) -> Iterator[str]:
    try:
        KEYCLOAK.install()
    except ServerUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    yield session_servers.url_of(session_servers.keycloak)
    session_servers.keycloak.destroy()  # it takes 700 MB


@dataclass
class Realm:
    """A realm of its own, who administers it, and a platform that trusts it."""

    client: httpx.AsyncClient  # of a browser or a service
    admin: httpx.AsyncClient
    authenticator: Authenticator
    clock: ManualClock
    store: TokenStore

    async def machine_token(self) -> str:
        """By client credentials."""
        asked = {"grant_type": "client_credentials"}
        return (await self._tokens(asked, auth=("machine", "machine-secret")))["access_token"]

    async def signed_in(self, name: str) -> dict[str, str]:
        """Tokens by code and PKCE, in a browser of its own that fills in the form."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        web = {"client_id": "web", "redirect_uri": CALLBACK}
        asked = {**web, "response_type": "code", "scope": "openid"}
        refused = await self.client.get("auth", params=asked)
        assert "code_challenge" in refused.headers.get("location", ""), "PKCE is asked for"
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        async with httpx.AsyncClient(base_url=self.client.base_url, trust_env=False, timeout=60) as browser:
            page = await browser.get("auth", params=asked)
            form = re.search(r'action="([^"]+)"', page.text)
            assert form, page.text
            for cookie in browser.cookies.jar:
                cookie.secure = False  # browsers send those to this machine over HTTP, too
            fields = {"username": name, "password": PASSWORD, "credentialId": ""}
            answer = await browser.post(html.unescape(form[1]), data=fields)
        assert answer.is_redirect, answer.text
        code = httpx.URL(answer.headers["location"]).params["code"]
        return await self._tokens({**web, "grant_type": "authorization_code", "code": code, "code_verifier": verifier})

    async def refresh(self, tokens: dict[str, str]) -> httpx.Response:
        """The answer to who asks for new tokens."""
        asked = {"grant_type": "refresh_token", "client_id": "web", "refresh_token": tokens["refresh_token"]}
        return await self.client.post("token", data=asked)

    async def principal(self, token: str) -> Principal:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        return await self.authenticator.authenticate(Request({"type": "http", "headers": headers}))

    async def refusal(self, token: str) -> str:
        with pytest.raises(Problem) as refused:
            await self.principal(token)
        assert refused.value.status == 401
        return refused.value.detail

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to the administrator."""
        answer = await self.admin.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def _tokens(self, asked: dict[str, str], auth: tuple[str, str] | None = None) -> dict[str, str]:
        answer = await self.client.post("token", data=asked, auth=auth or httpx.USE_CLIENT_DEFAULT)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens


@asynccontextmanager
async def _administrator(url: str) -> AsyncIterator[httpx.AsyncClient]:
    asked = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN[0], "password": ADMIN[1]}
    async with httpx.AsyncClient(base_url=f"{url}/admin/realms/", trust_env=False, timeout=60) as admin:
        answer = await admin.post(f"{url}/realms/master/protocol/openid-connect/token", data=asked)
        admin.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield admin


@pytest.fixture
async def realm(keycloak_url: str, access: Database) -> AsyncIterator[Realm]:
    issuer = f"{keycloak_url}/realms/volt"
    async with (
        _administrator(keycloak_url) as admin,
        httpx.AsyncClient(base_url=f"{issuer}/protocol/openid-connect/", trust_env=False, timeout=60) as client,
    ):
        made = await admin.post("", json=REALM)
        assert made.is_success, made.text
        admin.base_url = httpx.URL(f"{keycloak_url}/admin/realms/volt/")
        clock, store = ManualClock(SystemClock().now()), TokenStore(access)
        settings = load_settings(
            jwt_discovery=True,
            jwt_issuer=issuer,
            jwt_audience="voltstream",
            jwt_roles_claim="realm_access.roles",
            jwt_roles=ROLES,
        )
        authenticator = Authenticator(store, clock, SignedTokens.of(settings, clock))
        try:
            yield Realm(client, admin, authenticator, clock, store)
        finally:
            await authenticator.stop()
            await asyncio.to_thread(authenticator.close)
            await admin.delete(f"{keycloak_url}/admin/realms/volt")


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_roles_by_the_realm_s_names_are_ours(realm: Realm) -> None:
    machine = await realm.principal(await realm.machine_token())
    assert machine.kind == "support"
    alice = await realm.signed_in("alice")
    principal = await realm.principal(alice["access_token"])
    assert (principal.kind, principal.subject) == ("operator", _claims(alice["access_token"])["sub"])
    assert "another audience" in await realm.refusal(alice["id_token"])
    nobody = await realm.signed_in("mallory")
    with pytest.raises(Problem, match="no role") as refused:
        await realm.principal(nobody["access_token"])
    assert refused.value.status == 403


async def test_a_new_key_is_picked_up_and_the_old_one_ends(realm: Realm) -> None:
    before = await realm.machine_token()
    await realm.principal(before)
    (old,) = await realm.ask("GET", "components?type=org.keycloak.keys.KeyProvider&name=rsa-generated")
    new = {
        "name": "second",
        "providerId": "rsa-generated",
        "providerType": "org.keycloak.keys.KeyProvider",
        "parentId": old["parentId"],
        "config": {"priority": ["200"], "algorithm": ["RS256"]},
    }
    await realm.ask("POST", "components", new)
    after = await realm.machine_token()
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
    realm.clock.advance(READ_AGAIN_S)
    for token in (before, after):
        await realm.principal(token)
    await realm.ask("DELETE", f"components/{old['id']}")
    realm.clock.advance(READ_EVERY_S)
    await realm.principal(after)  # the keys are read meanwhile
    await key_ends(before, realm.principal, realm.refusal)
    await realm.principal(await realm.machine_token())


async def test_a_session_that_is_ended_gives_no_new_token_and_its_last_one_ends_by_revocation(realm: Realm) -> None:
    """Whatever Keycloak tells of it (a back-channel logout, an event listener) calls `voltstream token revoke`."""
    first, second = [await realm.signed_in("alice") for _ in range(2)]
    for tokens in (first, second):
        assert (await realm.refresh(tokens)).status_code == 200
    renewed = (await realm.refresh(first)).json()
    out = {"client_id": "web", "refresh_token": renewed["refresh_token"]}
    assert (await realm.client.post("logout", data=out)).status_code == 204  # by the person
    user_id = _claims(second["access_token"])["sub"]
    await realm.ask("POST", f"users/{user_id}/logout")  # by the administrator: of all sessions
    for tokens in (renewed, second):
        answer = await realm.refresh(tokens)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    last = [renewed["access_token"], second["access_token"]]
    for token in last:
        assert (await realm.principal(token)).subject == user_id, "a signed token is what it is"
    until_s = 1 + max(_claims(token)["iat"] for token in last)
    await realm.store.revoke_signed(subject=user_id, issued_before=from_ms(until_s * 1_000))
    realm.clock.advance(REVOCATION_S)
    for token in last:
        assert "revoked" in await realm.refusal(token)

    async def signs_in_later() -> bool:
        again = (await realm.signed_in("alice"))["access_token"]
        return bool(_claims(again)["iat"] >= until_s) and (await realm.principal(again)).subject == user_id

    await eventually(signs_in_later, 60)


async def test_a_role_that_is_taken_away_is_gone_with_the_next_token_and_the_one_before_expires(realm: Realm) -> None:
    before = await realm.signed_in("alice")
    assert (await realm.principal(before["access_token"])).kind == "operator"
    user_id = _claims(before["access_token"])["sub"]
    role = await realm.ask("GET", "roles/cpo-operator")
    await realm.ask("DELETE", f"users/{user_id}/role-mappings/realm", [role])
    after = (await realm.refresh(before)).json()
    assert (await realm.principal(after["access_token"])).kind == "driver"
    assert (await realm.principal(before["access_token"])).kind == "operator", "a signed token is what it is"
    expires_s = _claims(before["access_token"])["exp"]
    realm.clock.advance(expires_s + LEEWAY_S - realm.clock.now_ms() / 1_000)
    assert "expired" in await realm.refusal(before["access_token"])
