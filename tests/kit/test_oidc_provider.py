"""A real OpenID provider: discovery, client credentials, code with PKCE, a key rotated, a role taken away."""

import asyncio
import base64
import hashlib
import html
import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.requests import Request

from deploy.servers import OidcProvider
from kit.auth.authenticator import REVOCATION_S, Authenticator
from kit.auth.jwks import READ_AGAIN_S, READ_EVERY_S
from kit.auth.signed_tokens import SignedTokens
from kit.auth.token_store import Principal, TokenStore
from kit.clock import ManualClock, SystemClock, from_ms
from kit.database.postgres import Database
from kit.web.app import Problem
from tests.kit.key_rotation import key_ends
from tests.private_servers import PrivateServers
from voltstream.settings import load_settings

CALLBACK = "http://127.0.0.1/callback"
STEPS_MAX = 12  # login and consent are three redirects each
_FIRST, _SECOND = (rsa.generate_private_key(65_537, 2_048) for _ in range(2))


def _private_jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key))
    document.pop("key_ops", None)
    return {**document, "kid": kid, "use": "sig", "alg": "RS256"}


FIRST, SECOND = _private_jwk(_FIRST, "first"), _private_jwk(_SECOND, "second")
ROLES = {"machine": ["support"], "alice": ["operator", "driver"]}


@dataclass
class Identity:
    """The provider, and a platform that trusts it."""

    provider: OidcProvider
    client: httpx.AsyncClient
    authenticator: Authenticator
    clock: ManualClock
    store: TokenStore

    async def configure(self, keys: list[dict[str, Any]], roles: dict[str, list[str]]) -> None:
        await asyncio.to_thread(self.provider.configure, keys, roles)

    async def machine_token(self) -> str:
        """By client credentials."""
        asked = {"grant_type": "client_credentials", "scope": "stations:read"}
        answer = await self.client.post("/token", data=asked, auth=("machine", "machine-secret"))
        return str(answer.json()["access_token"])

    async def user_token(self, name: str) -> str:
        """The access token of who signs in."""
        return (await self.signed_in(name))["access_token"]

    async def signed_in(self, name: str) -> dict[str, str]:
        """Tokens by code and PKCE: sign in, consent, and exchange the code."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        web = {"client_id": "web", "redirect_uri": CALLBACK}
        asked = {"response_type": "code", "scope": "openid stations:read", "code_challenge": challenge}
        answer = await self.client.get("/auth", params={**web, **asked, "code_challenge_method": "S256"})
        for _ in range(STEPS_MAX):
            location = answer.headers.get("location")
            if location is None:
                form = re.search(r'action="([^"]+)"', answer.text)
                prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
                assert form, answer.text
                assert prompt, answer.text
                fields = {"prompt": prompt[1], "login": name, "password": "any"}
                answer = await self.client.post(html.unescape(form[1]), data=fields)
            elif location.startswith(CALLBACK):
                code = httpx.URL(location).params["code"]
                exchanged = {**web, "grant_type": "authorization_code", "code": code}
                refused = await self.client.post("/token", data={**exchanged, "code_verifier": "x" * 43})
                assert refused.status_code == 400, "PKCE holds"
                return await self._exchanged({**exchanged, "code_verifier": verifier})
            else:
                answer = await self.client.get(location)
        raise AssertionError("no end of redirects")

    async def _exchanged(self, asked: dict[str, str]) -> dict[str, str]:
        answer = await self.client.post("/token", data=asked)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens

    async def refresh(self, tokens: dict[str, str]) -> httpx.Response:
        """The answer to who asks for new tokens."""
        asked = {"grant_type": "refresh_token", "client_id": "web", "refresh_token": tokens["refresh_token"]}
        return await self.client.post("/token", data=asked)

    async def sign_out(self, tokens: dict[str, str]) -> None:
        """End the session at the provider."""
        answer = await self.client.get("/session/end", params={"id_token_hint": tokens["id_token"]})
        form = re.search(r'action="([^"]+)"', answer.text)
        secret = re.search(r'name="xsrf" value="(\w+)"', answer.text)
        assert form, answer.text
        assert secret, answer.text
        ended = await self.client.post(html.unescape(form[1]), data={"xsrf": secret[1], "logout": "yes"})
        assert ended.is_redirect, ended.text

    async def principal(self, token: str) -> Principal:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        return await self.authenticator.authenticate(Request({"type": "http", "headers": headers}))

    async def refusal(self, token: str) -> str:
        with pytest.raises(Problem) as refused:
            await self.principal(token)
        assert refused.value.status == 401
        return refused.value.detail


@pytest.fixture
async def identity(session_servers: PrivateServers, access: Database) -> AsyncIterator[Identity]:
    """With its first key."""
    provider = session_servers.oidc
    assert isinstance(provider, OidcProvider)
    await asyncio.to_thread(provider.configure, [FIRST], ROLES)
    issuer = await asyncio.to_thread(session_servers.url_of, provider)
    clock, store = ManualClock(SystemClock().now()), TokenStore(access)
    settings = load_settings(jwt_discovery=True, jwt_issuer=issuer, jwt_audience="voltstream", jwt_scopes_claim="scope")
    authenticator = Authenticator(store, clock, SignedTokens.of(settings, clock))
    async with httpx.AsyncClient(base_url=issuer, trust_env=False, timeout=30) as client:
        yield Identity(provider, client, authenticator, clock, store)
    await authenticator.stop()
    await asyncio.to_thread(authenticator.close)


async def test_a_machine_has_the_role_and_the_scopes_that_the_provider_gives_it(identity: Identity) -> None:
    principal = await identity.principal(await identity.machine_token())
    assert (principal.kind, principal.subject, sorted(principal.scopes)) == ("support", "machine", ["stations:read"])


async def test_a_person_signs_in_by_code_and_pkce(identity: Identity) -> None:
    principal = await identity.principal(await identity.user_token("alice"))
    assert (principal.kind, principal.subject, sorted(principal.scopes)) == ("operator", "alice", ["stations:read"])


async def test_a_person_without_a_role_here_may_nothing(identity: Identity) -> None:
    token = await identity.user_token("mallory")
    with pytest.raises(Problem, match="no role") as refused:
        await identity.principal(token)
    assert refused.value.status == 403


async def test_keys_are_rotated_without_a_break_and_the_old_one_ends(identity: Identity) -> None:
    before = await identity.machine_token()
    await identity.principal(before)
    await identity.configure([SECOND, FIRST], ROLES)
    identity.clock.advance(READ_AGAIN_S)
    after = await identity.machine_token()
    assert jwt.get_unverified_header(after)["kid"] == "second"
    for token in (before, after):
        await identity.principal(token)
    await identity.configure([SECOND], ROLES)
    identity.clock.advance(READ_EVERY_S)
    await identity.principal(after)  # the keys are read meanwhile
    await key_ends(before, identity.principal, identity.refusal)
    await identity.principal(after)


async def test_a_role_that_is_taken_away_is_gone_with_the_next_token_and_the_one_before_is_revoked(
    identity: Identity,
) -> None:
    before = await identity.user_token("alice")
    assert (await identity.principal(before)).kind == "operator"
    await identity.configure([FIRST], {**ROLES, "alice": ["driver"]})
    after = await identity.user_token("alice")
    assert (await identity.principal(after)).kind == "driver"
    assert (await identity.principal(before)).kind == "operator", "a signed token is what it is"
    claims = jwt.decode(before, options={"verify_signature": False})
    await identity.store.revoke_signed(jti=claims["jti"])
    identity.clock.advance(REVOCATION_S)
    assert "revoked" in await identity.refusal(before)
    await identity.principal(after)


async def test_who_signs_out_gets_no_new_token_and_the_last_one_ends_by_revocation(identity: Identity) -> None:
    """As whatever the provider tells of it calls: `voltstream token revoke --subject`."""
    first = await identity.signed_in("alice")
    renewed = await identity.refresh(first)
    assert renewed.status_code == 200, renewed.text
    tokens = renewed.json()
    await identity.principal(tokens["access_token"])
    await identity.sign_out(first)
    refused = await identity.refresh(tokens)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert (await identity.principal(tokens["access_token"])).subject == "alice", "a signed token is what it is"
    issued_s = jwt.decode(tokens["access_token"], options={"verify_signature": False})["iat"]
    await identity.store.revoke_signed(subject="alice", issued_before=from_ms(issued_s * 1_000 + 1))
    identity.clock.advance(REVOCATION_S)
    for token in (first["access_token"], tokens["access_token"]):
        assert "revoked" in await identity.refusal(token)


async def test_all_tokens_of_a_person_end_at_once(identity: Identity) -> None:
    tokens = [await identity.user_token("alice") for _ in range(2)]
    for token in tokens:
        await identity.principal(token)
    moment = SystemClock().now() + timedelta(seconds=5)  # of the provider's clock, in whole seconds
    await identity.store.revoke_signed(subject="alice", issued_before=moment)
    identity.clock.advance(REVOCATION_S)
    for token in tokens:
        assert "revoked" in await identity.refusal(token)
    await identity.principal(await identity.machine_token())


async def test_a_provider_that_is_killed_stops_nobody_who_has_a_token(identity: Identity) -> None:
    token = await identity.machine_token()
    await identity.principal(token)
    await asyncio.to_thread(identity.provider.kill)
    try:
        identity.clock.advance(READ_EVERY_S / 2)
        await identity.principal(token)
    finally:
        await asyncio.to_thread(identity.provider.start)
